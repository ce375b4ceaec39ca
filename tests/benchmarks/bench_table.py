"""The table of objects: what the sums add to staging, and how long a table of a million objects takes.

    python tests/benchmarks/bench_table.py [--only stage | million]

The sums of a million labels are those of one real tile, repeated, with random joins of labels of neighboring tiles.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_common import HALO, TILE, Timed, make_image

from napari_blockbuster import Job
from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.measure.space import Space
from napari_blockbuster.measure.table import object_table
from napari_blockbuster.merge.numbering import merge_labels
from napari_blockbuster.output.tables.anndata_table import write_anndata
from napari_blockbuster.output.tables.parquet import write_table
from napari_blockbuster.stage import staging
from napari_blockbuster.stage.labels import OBJECT
from napari_blockbuster.stage.seams.comparison import evidence_dtype
from napari_blockbuster.stage.sums import label_sums as sums
from napari_blockbuster.stage.sums.label_sums import TileSums, tile_sums
from napari_blockbuster.stage.tables.label_table import LabelTable
from napari_blockbuster.stage.tables.sum_table import SumTable


class Stopwatch:
    """Processor time of the calls of a function."""

    def __init__(self, function: object) -> None:
        self.function, self.cpu, self.calls = function, 0.0, 0

    def __call__(self, *args: object) -> object:
        began = time.thread_time()
        try:
            return self.function(*args)
        finally:
            self.cpu += time.thread_time() - began
            self.calls += 1


def bench_stage(folder: Path) -> None:
    """Stage an image with a cheap function; the sums against all the rest, in the same run."""
    image = folder / "image.zarr"
    make_image(image, (128, 512, 768))
    tile_sums(np.ones((2, 2, 2), np.uint32), 1, np.ones((2, 2, 2), np.uint16))
    for name in ("warm", "timed"):
        fn, watch = Timed(), Stopwatch(sums.tile_sums)
        staging.tile_sums = watch
        job = Job.create(image, fn, folder / f"{name}.ome.zarr", tile_shape=TILE, halo=HALO)
        cpu = time.process_time()
        list(job.stage())
        cpu = time.process_time() - cpu
    per_tile = 1000 / watch.calls
    rest = cpu - watch.cpu
    print(f"stage: {watch.calls} tiles of {TILE}, {int(job.labels_table().counts.sum())} labels")
    print(f"  processor time per tile: function {fn.cpu * per_tile:.0f} ms, all but the sums {rest * per_tile:.0f} ms")
    of_rest, of_function = watch.cpu / rest, watch.cpu / fn.cpu
    print(
        f"  sums {watch.cpu * per_tile:.0f} ms per tile: {of_rest:.1%} of the rest, {of_function:.1%} of the function"
    )
    began = time.perf_counter()
    table = job.table(job.merge())
    print(f"  table of {len(table)} objects, first call: {time.perf_counter() - began:.2f} s")


def million() -> tuple[SumTable, LabelTable, np.ndarray]:
    """Sums of 1.1 million labels."""
    rng = np.random.default_rng(1)
    shape, spacing = (64, 192, 192), 16
    places = [np.arange(spacing // 2, n, spacing) for n in shape]
    centres = np.stack(np.meshgrid(*places, indexing="ij"), -1).reshape(-1, 3) + rng.uniform(-3, 3, (4 * 12 * 12, 3))
    from scipy.spatial import cKDTree

    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    labels = (cKDTree(centres).query(voxels)[1] + 1).astype(np.uint32).reshape(shape)
    tile = tile_sums(labels, len(centres), rng.integers(0, 65535, shape).astype(np.uint16))
    n = len(centres)
    grid = TileGrid((64 * 12, 192 * 13, 192 * 13), shape)
    counts = np.full(len(grid), n)
    table = SumTable(
        grid,
        counts,
        TileSums(
            np.tile(tile.place, len(grid)),
            np.tile(tile.intensity, (1, 1, len(grid))),
            np.tile(tile.contacts, len(grid)),
        ),
        np.full(len(grid), len(tile.contacts)),
    )
    objects = np.zeros(n * len(grid), OBJECT)
    objects["core"] = objects["read"] = np.tile(tile.place[0], len(grid))
    evidence = []
    for axis in range(3):
        offset = tuple(int(a == axis) for a in range(3))
        pairs = [(t, other) for t in range(len(grid)) if (other := grid.neighbor(t, offset)) is not None]
        per_face = n // 12
        part = np.zeros(len(pairs) * per_face, evidence_dtype(3))
        part["low"], part["high"] = np.repeat(np.array(pairs), per_face, axis=0).T
        part["low_id"], part["high_id"] = rng.integers(1, n + 1, (2, len(part)))
        part["axis"], part["low_band"], part["high_band"] = axis, 100, 100
        part["shared"] = rng.integers(0, 100, len(part))
        part["contact"][:, 0] = part["low_face"] = part["high_face"] = 50
        evidence.append(part)
    typical = np.full(len(grid), float(np.median(tile.place[0])))
    return table, LabelTable(counts, objects, typical), np.concatenate(evidence)


def timed(name: str, function: object, repeats: int = 3) -> object:
    """Print the least time of some calls: on the clock, and of the processor (the one to believe on a busy machine)."""
    best = best_cpu = np.inf
    for _ in range(repeats):
        began, cpu = time.perf_counter(), time.process_time()
        result = function()
        best, best_cpu = min(best, time.perf_counter() - began), min(best_cpu, time.process_time() - cpu)
    print(f"  {name}: {best:.2f} s, {best_cpu:.2f} s of processor time", flush=True)
    return result


def bench_million(folder: Path) -> None:
    """Table, merge, and the files of 1.1 million labels."""
    table, labels, evidence = million()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = sum(a.nbytes for a in (table.sums.place, table.sums.intensity, table.sums.contacts))
    print(f"{int(labels.counts.sum()):,} labels, {len(evidence):,} pairs at seams, sums of {size / 2**20:.0f} MiB")
    space = Space((1.0, 0.5, 0.5), (0.0, 0.0, 0.0), "um")
    merged = timed("merge", lambda: merge_labels(evidence, labels, min_iou=0.25))
    found = timed("table, anisotropic voxels", lambda: object_table(merged, table, space, channels=["DAPI"]))
    cube = Space((0.5,) * 3, (0.0,) * 3, "um")
    timed("table, isotropic voxels", lambda: object_table(merged, table, cube, channels=["DAPI"]))
    again = merge_labels(evidence, labels, min_iou=0.5)
    timed("table after another merge", lambda: object_table(again, table, cube, channels=["DAPI"]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"  {len(found):,} objects, {len(found.columns)} columns; memory added at most: {peak / 2**10:.0f} MiB")
    timed("Parquet", lambda: write_table(found, folder, "0"), 1)
    timed("AnnData", lambda: write_anndata(found, folder / "tables", folder / "o.ome.zarr", "0.5", "0"), 1)
    timed("CSV", lambda: write_table(found, folder, "0", csv=True), 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["stage", "million"])
    only = parser.parse_args().only
    with tempfile.TemporaryDirectory() as name:
        if only != "million":
            bench_stage(Path(name))
        if only != "stage":
            bench_million(Path(name))
