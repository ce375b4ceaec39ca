"""What the models with weights share: one linear brightness scale for a whole image, and weights told by their digest."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from pydantic import model_validator

from .base import PixelSource
from .spacing import SpacedModel, setting

__all__ = ["NetworkModel", "check_digest", "digest", "round_up", "thread_share"]

SAMPLES = 2**21
"""Voxels that percentiles are taken from."""
BLOCK = 2**20


class NetworkModel(SpacedModel):
    """A network that sees brightness on a scale from 0 to 1, set by two percentiles of the whole image."""

    PERCENTILES: ClassVar[tuple[float, float]]
    """What the network's own code maps to 0 and 1."""

    low: float | None = setting(
        None,
        "Grey value that becomes 0. Empty: a low percentile of the image, that of the network's own code.",
        unit="grey value",
        advanced=True,
    )
    high: float | None = setting(
        None,
        "Grey value that becomes 1. Empty: a high percentile of the image, that of the network's own code.",
        unit="grey value",
        advanced=True,
    )
    sha256: str | None = setting(
        None,
        "Digest of the weights: a run goes on with these only. Empty: of the files as they are now.",
        advanced=True,
    )

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"high is {self.high}; it must be above low, which is {self.low}")
        return self

    def _range(self, image: PixelSource) -> tuple[float, float]:
        if self.low is not None and self.high is not None:
            return self.low, self.high
        measured = _percentiles(image.sample_blocks(), self.PERCENTILES)
        low = measured[0] if self.low is None else self.low
        high = measured[1] if self.high is None else self.high
        if low >= high:
            # A blank image, or one that lies beyond what the user gave.
            low, high = (high - 1, high) if self.high is not None else (low, low + 1)
        return low, high

    def _scaled_copy(self, tile: np.ndarray, least: int = 1) -> np.ndarray:
        """A tile between 0 and 1: a new float32 array, finite, filled up with 0 to `least` voxels along each axis."""
        assert self.low is not None
        assert self.high is not None
        pixels = np.zeros([max(n, least) for n in tile.shape], np.float32)
        part = pixels[tuple(map(slice, tile.shape))]
        part[...] = tile
        if tile.dtype.kind == "f":
            np.nan_to_num(part, copy=False, nan=self.low, posinf=self.high, neginf=self.low)
        part -= np.float32(self.low)
        part /= np.float32(self.high - self.low)
        return pixels


def _percentiles(blocks: Sequence[np.ndarray], percentiles: tuple[float, float]) -> tuple[float, float]:
    step = max(1, sum(block.size for block in blocks) // SAMPLES)
    values = np.concatenate([block.ravel()[::step].astype(np.float64) for block in blocks] or [np.zeros(1)])
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, percentiles) if len(values) else (0.0, 0.0)
    return float(low), float(high)


def digest(paths: Sequence[Path]) -> str:
    """Hex sha256 of files, one after the other with their names and sizes; of one file, that of its content alone."""
    if len(paths) == 1:
        return _file_digest(paths[0])
    total = hashlib.sha256()
    for path in paths:
        total.update(f"{path.name} {_file_digest(path)}\n".encode())
    return total.hexdigest()


def _file_digest(path: Path) -> str:
    status = path.stat()
    return _cached_digest(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _cached_digest(path: Path, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digest(place: Path, found: str, expected: str | None) -> None:
    """Refuse weights that are not those of a run.

    Raises
    ------
    ValueError
        If `found` is not `expected`, unless that is None.
    """
    if expected is not None and found != expected:
        raise ValueError(
            f"the weights at {place} are not those of this run: their sha256 begins with {found[:12]}, that of the run "
            f"with {expected[:12]}"
        )


def round_up(length: float, step: int) -> int:
    """The first multiple of `step` that is not below `length`."""
    return -int(-length // step) * step


def thread_share() -> int:
    """Threads that a network may take in this process; clusters say it in ``OMP_NUM_THREADS``."""
    from napari_blockbuster.machine.limits import cpu_count

    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(said) if said.isdigit() and int(said) > 0 else cpu_count()
