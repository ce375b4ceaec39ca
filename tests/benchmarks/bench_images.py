"""Open images and read tiles with halos, with two versions of this package in turn.

Usage: python tests/benchmarks/bench_images.py BEFORE/src AFTER/src [--rounds 5]

The exit code is 1 if opening or reading takes more than 10 % longer after the change, by the fastest of all rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHAPE, TILE, HALO = (64, 512, 512), 128, 16
ALLOWED = 1.10


def write_images(folder: Path) -> None:
    """The same volume as OME-TIFF, TIFF and OME-Zarr."""
    import numpy as np
    import tifffile
    import zarr

    pixels = np.random.default_rng(0).integers(0, 4000, SHAPE, np.uint16)
    size = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(folder / "a.ome.tif", pixels, metadata=size, compression="zlib", tile=(256, 256))
    tifffile.imwrite(folder / "b.tif", pixels)
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [2, 0.5, 0.5]}]}]
    said = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    zarr.create_group(str(folder / "c.ome.zarr"), attributes={"ome": said})
    zarr.create_array(str(folder / "c.ome.zarr" / "0"), data=pixels, chunks=(64, 128, 128))


def measure(folder: Path) -> dict[str, float]:
    """CPU seconds of this process: to open each image (the third time), and to read all its tiles."""
    from napari_blockbuster.geometry.tiles import TileGrid
    from napari_blockbuster.images import open_image

    found = {}
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        for _ in range(3):
            began = time.process_time()
            source = open_image(path)
            found[f"open {path.name}"] = time.process_time() - began
        grid = TileGrid(source.shape, (SHAPE[0], TILE, TILE), (0, HALO, HALO))
        began = time.process_time()
        for index in grid.order():
            source.read(grid[index].read)
        found[f"read {path.name}"] = time.process_time() - began
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.before)))
        return 0
    best: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder))
        for _ in range(asked.rounds):
            for number, tree in enumerate((asked.before, asked.after)):
                words = [sys.executable, __file__, folder, folder, "--measure"]
                done = subprocess.run(
                    words,
                    env=os.environ | {"PYTHONPATH": str(tree.absolute())},
                    capture_output=True,
                    text=True,
                    check=True,
                )
                for name, seconds in json.loads(done.stdout).items():
                    times = best.setdefault(name, [float("inf")] * 2)
                    times[number] = min(times[number], seconds)
    slower = 0
    for name, (before, after) in best.items():
        # A millisecond is below what a clock of CPU time can tell.
        is_slower = after > ALLOWED * before + 0.001
        slower += is_slower
        print(f"{name:<18} before {before * 1e3:8.1f} ms  after {after * 1e3:8.1f} ms  {'SLOWER' if is_slower else ''}")
    return int(slower > 0)


if __name__ == "__main__":
    sys.exit(main())
