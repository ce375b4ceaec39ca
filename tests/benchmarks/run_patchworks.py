"""One run of patchworks 3.3 on the same work, one thread: ``python run_patchworks.py IMAGE OUT RULE`` prints a line of JSON.

patchworks is GPL-3 and lives in an environment of its own; it is called here, nothing of it is used.
"""

import json
import sys
import tempfile

import dask.array as da
import patchworks
from bench_common import HALO, TILE, Timed, report

image, out, rule = sys.argv[1:4]
fn = Timed()


def run() -> int:
    labels = patchworks.tile_process(
        da.from_zarr(image),
        fn,
        tile_shape=TILE,
        overlap=HALO,
        max_workers=1,
        progress=False,
        stitch={"touch": "touch", "overlap": "iou"}[rule],
        sequential_labels=True,
        write_to=out,
        stage_dir=tempfile.gettempdir(),
    )
    # The lazy result is on disk by now; its largest id is its number of objects. That look is not timed work of either side.
    run.labels = labels
    return -1


result = report(run, fn)
result["objects"] = int(run.labels.max().compute())
print(json.dumps(result))
