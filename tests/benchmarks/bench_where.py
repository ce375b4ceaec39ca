"""Cost of skipped tiles: a hundred thousand tiles of which one percent run, against an image of those tiles alone.

python tests/benchmarks/bench_where.py [--rows N] [--columns N]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import zarr

from napari_blockbuster import Job
from napari_blockbuster.geometry.roi import Roi, tiles_meeting
from napari_blockbuster.geometry.roi.polygon_part import PolygonPart

TILE, HALO, SHARE = 32, 4, 10
"""Side of a tile and its halo; one tile in `SHARE` runs along each axis."""


def labels_of(pixels: np.ndarray) -> np.ndarray:
    """One object in each tile: its bright voxels."""
    return (pixels > 0).astype(np.int32)


@contextmanager
def timed(found: dict[str, float], name: str) -> Iterator[None]:
    """Note seconds on the clock, and of the processor, which are the ones to believe on a busy machine."""
    began, cpu = time.perf_counter(), time.process_time()
    yield
    found[name] = round(time.perf_counter() - began, 3)
    found[f"{name}, processor"] = round(time.process_time() - cpu, 3)


def image_of(path: Path, rows: int, columns: int) -> Path:
    """An image with one bright square in each tile of its first rows and columns, and nothing stored elsewhere."""
    array = zarr.create_array(str(path), shape=(rows * TILE, columns * TILE), chunks=(TILE * 10,) * 2, dtype=np.uint8)
    square = np.zeros((TILE, TILE), np.uint8)
    square[8:24, 8:24] = 200
    array[: rows // SHARE * TILE, : columns // SHARE * TILE] = np.tile(square, (rows // SHARE, columns // SHARE))
    return path


def run(folder: Path, image: Path, where: str | None) -> dict[str, float]:
    found: dict[str, float] = {}
    with timed(found, "total"):
        with timed(found, "create"):
            job = Job.create(image, labels_of, folder / "labels.zarr", tile_shape=TILE, halo=HALO, where=where)
        with timed(found, "tiles"):
            found["staged"] = len(list(job.stage()))
        with timed(found, "merge"):
            merged = job.merge()
        found["files"] = len([path for path in job.folder.rglob("*") if path.is_file()])
        with timed(found, "write"):
            found["objects"] = job.write(merged, keep_stage=True).n_objects
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=250)
    parser.add_argument("--columns", type=int, default=400)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    rows, columns = asked.rows, asked.columns
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        large = image_of(folder / "large.zarr", rows, columns)
        small = image_of(folder / "small.zarr", rows, columns)
        cropped = zarr.open_array(str(small))[: rows // SHARE * TILE, : columns // SHARE * TILE]
        zarr.create_array(str(folder / "crop.zarr"), data=cropped, chunks=(TILE * 10,) * 2)
        box = f"0:{rows // SHARE * TILE},0:{columns // SHARE * TILE}"
        (folder / "warm").mkdir()
        run(folder / "warm", folder / "crop.zarr", "0:64,0:64")
        results = {}
        for case, image, where in (("alone", folder / "crop.zarr", None), ("of all", large, box)):
            (folder / case).mkdir()
            results[case] = run(folder / case, image, where)
        grid = Job.open(folder / "of all" / "labels.zarr.job").grid
        plan: dict[str, float] = {}
        angles = np.linspace(0, 2 * np.pi, 5000, endpoint=False)
        center = np.array(grid.shape) / 2
        ring = center + 0.1 * center * np.stack([np.sin(angles), np.cos(angles)], axis=1)
        with timed(plan, "polygon"):
            plan["tiles"] = len(tiles_meeting(Roi(grid.shape, (PolygonPart.of([[ring]], grid.shape),)), grid))
    skipped = rows * columns - results["of all"]["staged"]
    more = {name: results["of all"][name] - results["alone"][name] for name in ("total", "total, processor")}
    each = {f"ms, {name}": round(1000 * seconds / skipped, 4) for name, seconds in more.items()}
    results |= {"plan": plan, "each skipped tile": each}
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
