"""Benchmark of the engine; writes docs/benchmarks.md and its plot.

    python tests/benchmarks/bench_engine.py [--patchworks PYTHON] [--quick]

PYTHON is the interpreter of an environment with ``patchworks==3.3.0`` in it; without one, that comparison is left out. Both sides
run in turn, in processes of their own, so that a machine that is busy for a while slows both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"


# ------------------------------------------------------------------------------------------------- beside patchworks
def versus(patchworks: str | None, work: Path, shape: tuple[int, int, int], repeats: int) -> list[dict]:
    """Added time of both for two merge rules, runs in turn."""
    sys.path.insert(0, str(HERE))
    from bench_common import make_image

    image = work / "image.zarr"
    make_image(image, shape)
    sides = {"blockbuster": (sys.executable, "run_ours.py")}
    if patchworks:
        sides["patchworks"] = (patchworks, "run_patchworks.py")
    rows = []
    for rule in ("touch", "overlap"):
        runs: dict[str, list[dict]] = {side: [] for side in sides}
        for repeat in range(repeats + 1):
            for side, (python, script) in sides.items():
                out = work / f"{side}.zarr"
                for old in (out, work / f"{side}.zarr.job"):
                    shutil.rmtree(old, ignore_errors=True)
                done = subprocess.run(
                    [python, str(HERE / script), str(image), str(out), rule],
                    capture_output=True,
                    text=True,
                    check=True,
                    cwd=HERE,
                )
                if repeat:  # the first is a warm-up
                    runs[side].append(json.loads(done.stdout.splitlines()[-1]))
        for side, results in runs.items():
            middle = {k: statistics.median(r[k] for r in results) for k in results[0]}
            rows.append({"rule": rule, "side": side, "voxels": int(np.prod(shape)), **middle})
            print(rows[-1], flush=True)
    return rows


# ------------------------------------------------------------------------------------------------------ cost per tile
def flatness(work: Path, n_tiles: list[int]) -> list[dict]:
    """Seconds per tile and the driver's memory, for a trivial function, by number of tiles."""
    rows = []
    for n in n_tiles:
        code = f"""
import resource, sys, time, json
import numpy as np, zarr
from napari_blockbuster import Job
side = 64
rows, columns = {n} // 50, 50
path = {str(work / f"flat{n}.zarr")!r}
zarr.create_array(path, shape=(rows * side, columns * side), chunks=(side, side), dtype="u1", fill_value=1)
job = Job.create(path, lambda x: (np.indices(x.shape) // 8).sum(0) % 2 * (np.indices(x.shape) // 8)[1], path + ".out",
                 tile_shape=side, halo=8)
began = time.perf_counter()
for event in job.stage(): pass
stage = time.perf_counter() - began
began = time.perf_counter()
merged = job.merge()
first = time.perf_counter() - began
began = time.perf_counter()
job.merge(min_iou=0.5)
again = time.perf_counter() - began
began = time.perf_counter()
job.write(merged)
write = time.perf_counter() - began
print(json.dumps(dict(
                      stage=stage, first_merge=first, merge_again=again, write=write, labels=merged.n_labels,
                      pairs=len(merged.seams),
                      rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        rows.append({"tiles": n, **json.loads(done.stdout.splitlines()[-1])})
        print(rows[-1], flush=True)
    return rows


def cluster_rate(work: Path, n: int) -> dict:
    """Tiles per second through two worker processes, and the driver's memory, for a trivial function."""
    import zarr

    from napari_blockbuster import Job, make_local_cluster

    path = work / "cluster.zarr"
    zarr.create_array(str(path), shape=(n // 50 * 64, 50 * 64), chunks=(64, 64), dtype="u1", fill_value=1)
    client, cluster = make_local_cluster(n_workers=2)
    with cluster, client:
        job = Job.create(path, lambda x: x, work / "cluster.out", tile_shape=64, halo=8)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        began = time.perf_counter()
        for _ in job.stage(client):
            pass
        seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    row = {"tiles": n, "seconds": seconds, "ms_per_tile": 1000 * seconds / n, "driver_growth_mb": after - before}
    print(row, flush=True)
    return row


# -------------------------------------------------------------------------------------------------- merge at full size
def merge_at_scale(n_tiles: int = 2200, labels_per_tile: int = 455, pairs: int = 100_000) -> dict:
    """A first merge, and one at another threshold, of a million labels and 100,000 pairs (tables made up, in memory)."""
    from napari_blockbuster.merge.numbering import merge_labels
    from napari_blockbuster.stage.seams.evidence import evidence_dtype
    from napari_blockbuster.stage.tables.label_table import LabelTable

    rng = np.random.default_rng(0)
    table = np.zeros(pairs, evidence_dtype(3))
    table["low"] = np.sort(rng.integers(0, n_tiles - 1, pairs))
    table["high"] = table["low"] + 1
    table["low_id"], table["high_id"] = rng.integers(1, labels_per_tile + 1, (2, pairs))
    table["low_band"] = table["high_band"] = 1000
    table["shared"] = rng.integers(100, 1000, pairs)
    labels = LabelTable.of_counts(np.full(n_tiles, labels_per_tile))
    labels.objects["read"] = 2000
    labels.typical_size[:] = 2000
    seconds = []
    for threshold in (0.25, 0.3, 0.35, 0.4, 0.45):
        began = time.perf_counter()
        merged = merge_labels(table, labels, min_iou=threshold)
        seconds.append(time.perf_counter() - began)
    row = {"labels": merged.n_labels, "pairs": pairs, "median_s": statistics.median(seconds), "worst_s": max(seconds)}
    print(row, flush=True)
    return row


# ------------------------------------------------------------------------------------------------------------- report
def write_report(results: dict) -> None:
    """docs/benchmarks.md and docs/images/cost-per-tile.png from the results."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `tests/benchmarks/bench_engine.py`. All figures are medians. Ratios are more reliable than seconds, "
        "because both sides of a comparison ran alternately.",
        "",
        f"{results['machine']}",
        "",
        "## Overhead on top of the function's own time",
        "",
        "3D uint16, tiles of 128×256×256, halo 8, a threshold and `scipy.ndimage.label`, one thread, all steps to a merged "
        "zarr on disk. "
        "*Added* is the total minus the time inside the function; for processor time, of the whole process. "
        "This package also writes an OME-Zarr pyramid and keeps evidence for every pair.",
        "",
        "| Mvoxel | rule | | total s | function s | added s | added CPU s | objects |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in results["versus"]:
        lines.append(
            f"| {row['voxels'] / 1e6:.0f} | {row['rule']} | {row['side']} | {row['wall']:.2f} | {row['fn_wall']:.2f} "
            f"| {row['added_wall']:.2f} | {row['added_cpu']:.2f} | {row['objects']:.0f} |"
        )
    lines += ["", *_ratios(results["versus"]), "", "## Cost per tile", ""]
    lines += [
        "2D tiles of 64², a function that only draws a checkerboard, one thread.",
        "",
        "| tiles | stage ms/tile | write ms/tile | first merge s | merge again s | labels | pairs | driver peak MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in results["flatness"]:
        lines.append(
            f"| {row['tiles']} | {1000 * row['stage'] / row['tiles']:.2f} | {1000 * row['write'] / row['tiles']:.2f} "
            f"| {row['first_merge']:.2f} | {row['merge_again']:.3f} | {row['labels']} | {row['pairs']} | {row['rss_mb']:.0f} |"
        )
    rate, big = results["cluster"], results["merge"]
    lines += [
        "",
        "![Cost per tile](images/cost-per-tile.png)",
        "",
        f"Two worker processes, {rate['tiles']} trivial tiles: {rate['ms_per_tile']:.1f} ms per tile; the driver grew by "
        f"{rate['driver_growth_mb']:.0f} MB.",
        "",
        f"Merge of {big['labels']:,} labels with {big['pairs']:,} pairs (2,200 tiles): {1000 * big['median_s']:.0f} ms, "
        f"worst {1000 * big['worst_s']:.0f} ms.",
        "",
    ]
    (DOCS / "benchmarks.md").write_text("\n".join(lines))
    _plot(results["flatness"])


def _ratios(rows: list[dict]) -> list[str]:
    lines = []
    for rule in ("touch", "overlap"):
        of = {row["side"]: row for row in rows if row["rule"] == rule}
        if len(of) == 2:
            a, b = of["blockbuster"], of["patchworks"]
            rest = (a["wall"] - b["fn_wall"]) / b["added_wall"]
            lines.append(
                f"`{rule}`: added {a['added_wall'] / b['added_wall']:.2f} of patchworks' added wall time, "
                f"{a['added_cpu'] / b['added_cpu']:.2f} of its added processor time; "
                f"{rest:.2f} if the function's time on overlaps is also counted as overhead of this package."
            )
            lines.append("")
    return lines


def _plot(rows: list[dict]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    tiles = [row["tiles"] for row in rows]
    axes.plot(tiles, [1000 * row["stage"] / row["tiles"] for row in rows], "o-", color="#0072B2", label="stage")
    axes.plot(tiles, [1000 * row["write"] / row["tiles"] for row in rows], "s-", color="#D55E00", label="write")
    axes.set(xlabel="tiles", ylabel="ms per tile", ylim=(0, None), title="Cost per tile, trivial function")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    (DOCS / "images").mkdir(exist_ok=True)
    figure.savefig(DOCS / "images" / "cost-per-tile.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patchworks", help="python with patchworks==3.3.0")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    options = parser.parse_args()
    import importlib.metadata as metadata

    versions = ", ".join(f"{p} {metadata.version(p)}" for p in ("numpy", "scipy", "zarr", "tensorstore", "dask"))
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {versions}."
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        results = {
            "machine": machine,
            "versus": versus(
                options.patchworks,
                work,
                (128, 256, 512) if options.quick else (512, 512, 1024),
                1 if options.quick else 3,
            ),
            "flatness": flatness(work, [200, 500] if options.quick else [200, 1000, 2200, 4000]),
            "cluster": cluster_rate(work, 200 if options.quick else 2200),
            "merge": merge_at_scale(),
        }
    if not options.quick:
        write_report(results)


if __name__ == "__main__":
    main()
