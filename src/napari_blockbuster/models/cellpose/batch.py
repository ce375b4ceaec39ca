"""Number of network tiles that are computed at once: measured when a network is loaded on a GPU."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from napari_blockbuster.machine.gpus import gpu_share
from napari_blockbuster.machine.system import lock_file, user_number
from napari_blockbuster.models.networks.memory import free_memory, is_out_of_memory

from .memory import Footprint

__all__ = ["BATCHES", "agreed", "fastest_batch"]

BATCHES = (8, 16, 32, 64)
"""Numbers of network tiles at once that are measured."""
NEARLY = 0.95
"""Part of the best rate that is good enough: a smaller batch leaves memory for other tiles and other processes."""
PATIENCE = 60.0
"""Most seconds to wait for the worker that measures."""
FRESH = 600.0
"""Seconds for which a measurement counts for workers that start later, for example after a worker has died."""


def fastest_batch(net: Any, side: int, channels: int, footprint: Footprint) -> int:
    """Return the smallest of `BATCHES` that reaches nearly the best rate, of those that fit into memory.

    Workers that share a GPU measure once: passes of several processes at a time would slow each other down.

    Parameters
    ----------
    net : torch.nn.Module
    side : int
        Extent of a network tile, in pixels.
    channels : int
        Channels of the image.
    footprint : Footprint
    """
    size = sum(p.numel() for p in net.parameters())
    key = f"{type(net).__name__}-{size}-{side}-{channels}"
    return footprint.batch(agreed(key, lambda: _measured(net, side, channels, footprint)))


def _measured(net: Any, side: int, channels: int, footprint: Footprint) -> int:
    rates: dict[int, float] = {}
    for batch in BATCHES:
        if footprint.batch(batch) < batch:
            break
        try:
            rate = _rate(net, side, channels, batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            free_memory()
            break
        rates[batch] = rate
    best = max(rates.values(), default=0.0)
    return next((batch for batch, rate in rates.items() if rate >= NEARLY * best), footprint.batch(BATCHES[0]))


def _rate(net: Any, side: int, channels: int, batch: int) -> float:
    """Return the network tiles per second of a batch: the best of three passes, after one that prepares the device."""
    from cellpose import core

    tiles = np.random.default_rng(0).random((batch, channels, side, side), np.float32)
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        core._forward(net, tiles)
        seconds.append(time.perf_counter() - began)
    return batch / min(seconds[1:])


def agreed(key: str, measure: Callable[[], int]) -> int:
    """Return what the first of the workers that share a GPU measures. The others wait for it.

    Parameters
    ----------
    key : str
        Names the network.
    measure : callable
        Returns a batch. Called by one worker, or by all if files cannot be locked.
    """
    if gpu_share().workers == 1:
        return measure()
    text = f"{user_number()}-{os.environ.get('CUDA_VISIBLE_DEVICES', '')}-{gpu_share().workers}-{key}"
    path = Path(tempfile.gettempdir()) / f"napari-blockbuster-{hashlib.sha256(text.encode()).hexdigest()[:16]}.batch"
    try:
        # Made by this user, and no link of another one.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except OSError:
        return measure()
    with open(descriptor, "r+b", buffering=0) as file:
        if not _locked(file):
            return measure()
        if time.time() - os.fstat(descriptor).st_mtime < FRESH:
            with contextlib.suppress(ValueError):
                return max(1, int(file.read()))
        found = measure()
        with contextlib.suppress(OSError):
            file.seek(0)
            file.truncate()
            file.write(str(found).encode())
        return found


def _locked(file: IO[bytes]) -> bool:
    until = time.monotonic() + PATIENCE
    while (locked := lock_file(file)) is False and time.monotonic() < until:
        time.sleep(0.05)
    return bool(locked)
