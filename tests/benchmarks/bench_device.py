"""How busy is a device that all workers share? Needs no GPU.

    python tests/benchmarks/bench_device.py [--workers N] [--tiles N] [--seconds S]

The device is a lock of the operating system that a model holds for a known time per tile, without using the processor. The
image holds labels already, so that all other time is reading, compaction and writing, about as much as on the device. Prints
the share of the time between the first and the last tile in which the device was busy.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

TILE, HALO = (48, 192, 192), (4, 16, 16)
SIDE = 12
"""Length of the cubes that are the objects, in voxels."""


class SharedDevice:
    """A model that occupies a device which serves one process at a time, and returns its pixels as labels."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        with open(self.folder / "device", "ab") as device:
            fcntl.flock(device, fcntl.LOCK_EX)
            began = time.monotonic()
            time.sleep(self.seconds)
            device.write(f"{began} {time.monotonic()}\n".encode())
        return pixels

    def busy(self) -> float:
        """Return the busy share of the time between the start of the first and the end of the last call."""
        calls = np.loadtxt(self.folder / "device", ndmin=2)
        return float((calls[:, 1] - calls[:, 0]).sum() / (calls[:, 1].max() - calls[:, 0].min()))


def make_image(path: Path, n_tiles: int) -> None:
    """Write an image of labels, one tile high and a row of tiles long."""
    import zarr

    shape = (TILE[0], TILE[1] * 2, TILE[2] * (n_tiles // 2))
    z, y, x = (np.arange(n) // SIDE for n in shape)
    labels = ((z[:, None, None] * (y[-1] + 1) + y[:, None]) * (x[-1] + 1) + x + 1).astype(np.uint32)
    # Gaps between the objects, and edges that are not straight, as in a real image of labels.
    rng = np.random.default_rng(0)
    labels[rng.random(shape) < 0.01] = 0
    array = zarr.create_array(str(path), shape=shape, chunks=TILE, dtype="u4")
    array[:] = labels


def measure(folder: Path, n_workers: int, n_tiles: int, seconds: float) -> dict[str, float]:
    """Stage an image with a shared device, and return the busy share of the device and the cost of a tile."""
    from napari_blockbuster import Job, make_local_cluster

    make_image(folder / "image.zarr", n_tiles)
    device = SharedDevice(folder, seconds)
    client, cluster = make_local_cluster(n_workers=n_workers)
    with cluster, client:
        job = Job.create(folder / "image.zarr", device, folder / "o.ome.zarr", tile_shape=TILE, halo=HALO)
        began, before = time.perf_counter(), sum(client.run(_processor_seconds).values())
        records = [event.record for event in job.stage(client)]
        wall = time.perf_counter() - began
        cpu = sum(client.run(_processor_seconds).values()) - before
    beside = sum(record.seconds - record.model_seconds for record in records) / len(records)
    waits = ("read_wait", "write_wait", "other_wait")
    idle = {name: sum(getattr(record, name) for record in records) / len(records) for name in waits}
    return {
        "workers": n_workers,
        "tiles": len(records),
        "wall_s": round(wall, 2),
        "busy": round(device.busy(), 3),
        "beside_model_ms": round(1000 * beside, 1),
        "worker_cpu_ms_per_tile": round(1000 * cpu / len(records), 1),
        **{f"{name}_ms": round(1000 * seconds, 1) for name, seconds in idle.items()},
    }


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tiles", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=0.12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), options.workers, options.tiles, options.seconds)), flush=True)


if __name__ == "__main__":
    main()
