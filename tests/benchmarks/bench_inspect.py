"""Benchmark of inspecting a merge: decisions, alarms and report at 2,200 tiles, a million objects, 100,000 pairs.

    python tests/benchmarks/bench_inspect.py [--repeats N]

Tables are made up to look like a run: blobs of one size with a spread, of which the pairs join one in ten. The stage is
real but small: what reads bands is timed on it per face, and costs the same however many tiles there are.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))

GRID_SHAPE, TILE = (22, 10, 10), 256
N_LABELS, N_PAIRS = 1_000_000, 100_000


def make_tables(rng: np.random.Generator) -> tuple:
    """A grid, its labels and its evidence."""
    from napari_blockbuster.geometry.tiles import TileGrid
    from napari_blockbuster.stage.labels import OBJECT
    from napari_blockbuster.stage.seams.evidence import evidence_dtype
    from napari_blockbuster.stage.tables.label_table import LabelTable

    grid = TileGrid([n * TILE for n in GRID_SHAPE], TILE, 32)
    per_tile = N_LABELS // len(grid) + 1
    counts = np.full(len(grid), per_tile)
    objects = np.zeros(int(counts.sum()), OBJECT)
    objects["read"] = objects["core"] = np.exp(rng.normal(9, 0.3, len(objects)))
    labels = LabelTable(counts, objects, np.full(len(grid), np.exp(9)))
    index = np.arange(len(grid)).reshape(grid.grid_shape)
    low = np.concatenate([index.take(range(n - 1), a).ravel() for a, n in enumerate(GRID_SHAPE)])
    high = np.concatenate([index.take(range(1, n), a).ravel() for a, n in enumerate(GRID_SHAPE)])
    axis = np.concatenate([np.full(index.take(range(n - 1), a).size, a) for a, n in enumerate(GRID_SHAPE)])
    each = N_PAIRS // len(low) + 1
    evidence = np.zeros(each * len(low), evidence_dtype(3))
    for name, values in (("low", low), ("high", high), ("axis", axis)):
        evidence[name] = np.repeat(values, each)
    # Two pieces of one object: each label is used once on each side of each axis.
    rank = np.tile(np.arange(each), len(low))
    evidence["low_id"] = 1 + 6 * rank + 2 * evidence["axis"]
    evidence["high_id"] = 2 + 6 * rank + 2 * evidence["axis"]
    n = len(evidence)
    evidence["contact"][:, 0] = rng.integers(50, 400, n)
    for name in ("low_face", "high_face"):
        evidence[name] = 400
    band = rng.integers(2000, 6000, n)
    evidence["low_band"] = evidence["high_band"] = band
    evidence["shared"] = band * rng.beta(4, 1.5, n)
    evidence["position"] = rng.uniform(0, TILE * 10, (n, 3))
    pieces = [labels.numbers(evidence[side], evidence[f"{side}_id"]) for side in ("low", "high")]
    for numbers in pieces:
        objects["core"][numbers] = objects["read"][numbers] * 0.5
    return grid, labels, evidence


def median_ms(call: Callable[[], object], repeats: int) -> float:
    """Median wall time of a call, in milliseconds."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


def stage_small(folder: Path) -> tuple:
    """A real job of 27 tiles of 128 voxels a side."""
    from scipy import ndimage

    from napari_blockbuster import Job

    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.standard_normal((384, 384, 384), dtype=np.float32), 5)
    image = (image > image.std()).astype(np.uint8)
    job = Job.create(image, lambda x: ndimage.label(x)[0], folder / "l.ome.zarr", tile_shape=128, halo=24)
    list(job.stage())
    return job, job.merge()


def main(repeats: int) -> None:
    from napari_blockbuster.inspect.alarms import find_alarms
    from napari_blockbuster.inspect.merged_table import MergedTable
    from napari_blockbuster.inspect.over_merging import over_alarms
    from napari_blockbuster.inspect.seam_report import _beyond_halo, _per_tile, seam_report
    from napari_blockbuster.inspect.under_merging import under_alarms
    from napari_blockbuster.merge.decisions import Decisions
    from napari_blockbuster.merge.numbering import merge_labels
    from napari_blockbuster.merge.pair_export import export_csv

    grid, labels, evidence = make_tables(np.random.default_rng(1))
    merged = merge_labels(evidence, labels)
    there = np.ones(len(grid), bool)
    print(f"{len(grid)} tiles, {merged.n_labels} labels, {merged.n_objects} objects, {len(evidence)} pairs")

    def tell(what: str, call: Callable[[], object], times: int = repeats) -> None:
        print(f"{median_ms(call, times):8.0f} ms  {what}", flush=True)

    tell("merge", lambda: merge_labels(evidence, labels))
    alarms = find_alarms(merged, grid)
    tell(f"alarms, tables alone ({len(alarms)} found)", lambda: find_alarms(merged, grid))
    tell("  of which over-merging", lambda: over_alarms(MergedTable(merged, grid), 1000))
    tell("  of which under-merging", lambda: under_alarms(MergedTable(merged, grid), there, None, 1000))

    def report_tables() -> None:
        table = MergedTable(merged, grid)
        _per_tile(table, ())
        _beyond_halo(table)

    tell("report, tables alone", report_tables)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job, small = stage_small(folder)
        what = f"report of a real stage, at most 32 faces for each of 3 axes ({job.n_tiles} tiles of 128^3)"
        tell(what, lambda: seam_report(small, job.store))
        tell("alarms of a real stage, with bands", lambda: find_alarms(small, job.grid, job.store))
        decisions = Decisions.load(job.folder)
        rows = small.seams[small.joined]
        pairs = [((int(r["low"]), int(r["low_id"])), (int(r["high"]), int(r["high_id"]))) for r in rows]
        for pair in (pairs * (2000 // len(pairs) + 1))[:2000]:
            decisions.set(pair, "cut")
        tell("one more decision after 2,000 steps", lambda: decisions.set(pairs[0], "cut"))
        tell("undo and redo after 2,000 steps", lambda: (decisions.undo(), decisions.redo()))
        tell("load 2,000 steps", lambda: Decisions.load(job.folder))
        tell("export 100,000 pairs as CSV", lambda: export_csv(folder / "pairs.csv", merged, scale=(2, 0.5, 0.5)), 3)
        tell("merge with these cuts", lambda: job.merge(cut=decisions.cut))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    main(parser.parse_args().repeats)
