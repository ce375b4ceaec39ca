"""Alarm cases shared by several tests."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tissue

from napari_blockbuster import Job
from napari_blockbuster.output.result import StagedMerge

Model = Callable[[np.ndarray], np.ndarray]


def perfect(pixels: np.ndarray) -> np.ndarray:
    """Every object as it is, with ids that say nothing."""
    return tissue.perfect_model(pixels, (zlib.crc32(pixels.tobytes()),), pixels.shape)


def noisy(pixels: np.ndarray) -> np.ndarray:
    """Wobbling outlines, splits, fusions, and objects missed at every border of the read box."""
    origin = (zlib.crc32(pixels.tobytes()),) * pixels.ndim
    return tissue.noisy_model(pixels.astype(np.int32), origin, (2**40,) * pixels.ndim)


def run(
    folder: Path, image: np.ndarray, model: Model, tile: object, halo: int, **rule: object
) -> tuple[Job, StagedMerge]:
    job = Job.create(image, model, folder / "labels.ome.zarr", tile_shape=tile, halo=halo)
    for event in job.stage():
        assert type(event).__name__ == "TileStaged", event
    return job, job.merge(**rule)


def checkers(height: int, width: int, side: int = 24) -> np.ndarray:
    """Square cells with a gap of background between them."""
    y, x = np.indices((height, width))
    ids = 1 + (y // side) * (width // side) + x // side
    return np.where((y % side < side - 4) & (x % side < side - 4), ids, 0)


def with_debris(clean: np.ndarray) -> np.ndarray:
    """Specks of nine pixels in the gaps between cells, more of them than cells."""
    image = clean.copy()
    y, x = np.indices(image.shape)
    specks = 10_000 + (y // 4) * 1000 + x // 4
    speck = (image == 0) & (y % 4 < 3) & (x % 4 < 3) & (y % 24 >= 20)
    return np.where(speck, specks, image).astype(np.int32)
