"""One run of this package on the benchmark image, one thread: ``python run_ours.py IMAGE OUT RULE`` prints a line of JSON."""

import importlib
import json
import sys
from pathlib import Path

from bench_common import HALO, TILE, Timed, report

from napari_blockbuster import segment

# What is imported on first use is imported here, as the other side does at its import: neither counts it.
for name in ("dask.array", "distributed", "tensorstore", "zarr"):
    importlib.import_module(name)

image, out, rule = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
fn = Timed()


def run() -> int:
    return segment(image, fn, out, tile_shape=TILE, halo=HALO, merge=rule, progress=False).n_objects


print(json.dumps(report(run, fn)))
