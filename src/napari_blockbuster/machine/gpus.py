"""CUDA devices, as ``nvidia-smi`` lists them. Imports no network library."""

from __future__ import annotations

import csv
import functools
import os
import subprocess
import sys
from typing import Any, NamedTuple

__all__ = ["GPU_SHARE", "Share", "gpu_busy", "gpu_share", "gpu_table", "visible_devices", "visible_gpus"]

GPU_SHARE = "NAPARI_BLOCKBUSTER_WORKERS_PER_GPU"
"""Variable that tells a worker how many workers share its GPU: a number, with "at most " before it if fewer will do."""


class Share(NamedTuple):
    """How many workers share a GPU.

    Attributes
    ----------
    workers : int
    fewer_will_do : bool
        Whether the number was chosen without knowing the network. Workers that do not fit are then left out.
    """

    workers: int
    fewer_will_do: bool

    def __str__(self) -> str:
        return f"at most {self.workers}" if self.fewer_will_do else str(self.workers)


def gpu_share() -> Share:
    """Return how many workers share the GPU of this process: 1 outside of a local cluster."""
    text = os.environ.get(GPU_SHARE, "1")
    workers = text.removeprefix("at most ")
    return Share(int(workers) if workers.isdigit() and int(workers) > 0 else 1, text != workers)


def gpu_table(*columns: str) -> list[list[str]]:
    """Return columns of ``nvidia-smi --query-gpu``, one row for each GPU; no rows where there is no driver."""
    try:
        listing = subprocess.run(
            ["nvidia-smi", f"--query-gpu={','.join(columns)}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = csv.reader(listing.stdout.splitlines(), skipinitialspace=True)
    return [[entry.strip() for entry in row] for row in rows if len(row) == len(columns)]


def visible_devices() -> list[str] | None:
    """Return the entries of ``CUDA_VISIBLE_DEVICES``, or None if it is not set."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if given is None else [entry.strip() for entry in given.split(",") if entry.strip()]


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as entries for ``CUDA_VISIBLE_DEVICES``."""
    given = visible_devices()
    if given is not None:
        return [entry for entry in given if entry != "-1"]
    return [uuid for (uuid,) in gpu_table("uuid") if uuid]


def gpu_busy() -> float:
    """Return the part of the last second in which the GPU of this process computed, from 0 to 1; negative if unknown.

    Needs the package nvidia-ml-py. Processes that have not opened a GPU are not asked.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized() or (found := _management()) is None:
        return -1.0
    library, device = found
    try:
        return float(library.nvmlDeviceGetUtilizationRates(device).gpu) / 100
    except library.NVMLError:
        return -1.0


@functools.cache
def _management() -> tuple[Any, Any] | None:
    """Return NVIDIA's management library and its handle of the first visible GPU; None without the library."""
    try:
        import pynvml
    except ImportError:
        return None
    devices = visible_devices()
    try:
        pynvml.nvmlInit()
        first = devices[0] if devices else "0"
        if first.isdigit():
            return pynvml, pynvml.nvmlDeviceGetHandleByIndex(int(first))
        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(first)
    except pynvml.NVMLError:
        return None
