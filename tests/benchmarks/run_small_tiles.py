"""One run over many small tiles: ``python run_small_tiles.py FOLDER SIDE HALO OBJECTS TILES...`` prints a line of JSON.

SIDE and HALO are voxels of a cubic tile, TILES the number of tiles along each axis, OBJECTS 0 for a function that finds nothing.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path

import numpy as np

from napari_blockbuster import Job

folder, side, halo, objects, *tiles = Path(sys.argv[1]), *map(int, sys.argv[2:])
shape = tuple(n * side for n in tiles)


class Checkers:
    """Cuboids of a fixed pattern: costs next to nothing, and has its own processor time."""

    def __init__(self) -> None:
        self.cpu = 0.0
        self._known: dict[tuple[int, ...], np.ndarray] = {}

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        began = time.thread_time()
        if pixels.shape not in self._known:
            self._known[pixels.shape] = self._pattern(pixels.shape)
        labels = self._known[pixels.shape]
        self.cpu += time.thread_time() - began
        return labels

    def _pattern(self, shape: tuple[int, ...]) -> np.ndarray:
        cells = np.indices(shape) // 10
        numbers = np.ravel_multi_index(tuple(cells), tuple(n // 10 + 1 for n in shape))
        return np.where(cells.sum(0) % 2, numbers + 1, 0).astype(np.int32) * np.int32(objects > 0)


function = Checkers()
# An image in memory: reading it costs nothing, so that the cost is that of staging.
job = Job.create(np.zeros(shape, np.uint8), function, folder / "out.zarr", tile_shape=side, halo=halo)
first = next(iter(events := job.stage()))
gc.collect()
cpu, wall = time.process_time(), time.perf_counter()
n = sum(1 for _ in events)
cpu, wall = time.process_time() - cpu - function.cpu, time.perf_counter() - wall
began = time.perf_counter()
merged = job.merge()
merge = time.perf_counter() - began
began = time.perf_counter()
staged = len(job.staged())
listing = time.perf_counter() - began
(stage,) = (folder / "out.zarr.job").glob("stage*")
files = [path for path in stage.rglob("*") if path.is_file() and path.name != "zarr.json"]
print(
    json.dumps(
        {
            "tiles": staged,
            "cpu_ms": 1000 * cpu / n,
            "wall_ms": 1000 * wall / n,
            "files": len(files) / staged,
            "kilobytes": sum(path.stat().st_size for path in files) / staged / 1000,
            "largest_folder": max(len(list(path.iterdir())) for path in stage.rglob("*") if path.is_dir()),
            "merge_s": merge,
            "list_ms": 1000 * listing,
            "labels": int(merged.n_labels),
        }
    )
)
