"""A small image, a quick model and what a run of it must give: shared by the tests of faults, damage and refusals."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import zarr

from napari_blockbuster import Job

SHAPE, TILE, HALO = (22, 30, 26), (8, 12, 10), 3
N_TILES = 27
OPTIONS: dict = {"tile_shape": TILE, "halo": HALO}


def write_image(path: Path) -> Path:
    """Bright blobs of a few voxels that cross tiles, ragged at every far edge."""
    from scipy import ndimage

    field = ndimage.gaussian_filter(np.random.default_rng(11).standard_normal(SHAPE), 1.5)
    zarr.create_array(str(path), data=((field > 0.02) * 200).astype(np.uint8), chunks=(8, 8, 8))
    return path


class Counting:
    """Connected components; every call leaves a file, so that counts hold across processes and kills."""

    def __init__(self, log: Path) -> None:
        self.log = Path(log)
        self.log.mkdir(exist_ok=True)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        from scipy import ndimage

        (self.log / uuid.uuid4().hex).touch()
        return ndimage.label(pixels > 100)[0]

    @property
    def calls(self) -> int:
        return len(list(self.log.iterdir()))


def components(pixels: np.ndarray) -> np.ndarray:
    """The same without the count."""
    from scipy import ndimage

    return ndimage.label(pixels > 100)[0]


def chunks_of(output: Path) -> dict[str, bytes]:
    """The voxels of a result, file by file."""
    levels = (level for level in output.iterdir() if level.name != "tables")
    files = (file for level in levels for file in level.rglob("c/**/*") if file.is_file())
    return {str(file.relative_to(output)): file.read_bytes() for file in sorted(files)}


def staged_bytes(job: Job, tiles: Iterable[int] | None = None) -> dict[str, bytes]:
    """Labels, bands and objects of staged tiles, part by part."""
    found = {}
    for index in sorted(job.staged() if tiles is None else tiles):
        staged, tile = job.store.staged(index), job.grid[index]
        labels = job.store.labels_file(tile)
        found[f"{index}/labels"] = labels.read_bytes() if labels.exists() else b""
        found[f"{index}/objects"] = staged.objects().tobytes()
        for axis, side in job.grid.band_keys:
            if job.grid.band(tile, axis, side) is not None:
                found[f"{index}/{axis}/{side}"] = staged.band(axis, side).tobytes()
    return found


def finish(job: Job, client: object = None, **options: object) -> Path:
    """Stage what is missing, merge, write; returns the output."""
    list(job.stage(client))
    return job.write(job.merge("touch", client=client), client, **options).path
