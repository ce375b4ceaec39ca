"""What does ownership cost? Processor time of staging with and without the checks of the owner of the job.

    python tests/benchmarks/bench_ownership.py [--rounds N] [--tiles N]

Every other tile is staged for an owner, and in the next round the other ones, so that whatever else the machine does hits both
alike. Without an owner, the same files are written by the plain function. The model labels the components of a threshold, which
is as cheap as models get. The cost of the checks alone is measured as well, call by call.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from napari_blockbuster import Job
from napari_blockbuster.job.folder.lock import holding
from napari_blockbuster.machine.files import write_atomically
from napari_blockbuster.stage.work import StageWork


def components(pixels: np.ndarray) -> np.ndarray:
    labels: np.ndarray = ndimage.label(pixels > 140)[0]
    return labels


def spots(shape: tuple[int, ...]) -> np.ndarray:
    """Return an image of bright spots, about a hundred in a tile."""
    field = ndimage.gaussian_filter(np.random.default_rng(0).random(shape, np.float32), 2)
    return ((field - field.min()) / np.ptp(field) * 255).astype(np.uint8)


def staged(folder: Path, image: np.ndarray, tile: tuple[int, ...], odd: int) -> np.ndarray:
    """Stage all tiles of an image, those with `odd` as remainder for an owner. Return the processor seconds of each tile."""
    job = Job.create(image, components, folder / "out.ome.zarr", tile_shape=tile, halo=4)
    source, model = job.inputs.ready()
    seconds = np.zeros(job.n_tiles)
    with holding(job.files.lock, "stage") as lock:
        work = StageWork.of(job.tiles.store, model, source)
        for item in range(job.n_tiles):
            work.owner = lock.owner if item % 2 == odd else None
            began = time.process_time()
            work(item, work.prepare(item, work.ahead(item)))()
            seconds[item] = time.process_time() - began
    return seconds


def compared(tile: tuple[int, ...], n: int, rounds: int) -> dict[str, Any]:
    """Return the cost of a tile with and without an owner: for each tile the median of all rounds, and their mean."""
    image = spots((tile[0] * 2, tile[1] * 2, tile[2] * (n // 4)))
    kinds: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for number in range(2 * rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            seconds = staged(Path(folder), image, tile, number % 2)
        is_owned = np.arange(len(seconds)) % 2 == number % 2
        if number:
            # The first one warms up.
            kinds[0].append(np.where(is_owned, seconds, np.nan))
            kinds[1].append(np.where(is_owned, np.nan, seconds))
    owned, plain = (np.array(kind)[:, 1:] for kind in kinds)
    ratios = [_ratio(owned, plain, np.random.default_rng(k)) for k in range(400)]
    return {
        "tile": tile,
        "with_ms": round(1000 * np.nanmedian(owned, 0).mean(), 3),
        "without_ms": round(1000 * np.nanmedian(plain, 0).mean(), 3),
        "ratio": round(np.nanmedian(owned, 0).mean() / np.nanmedian(plain, 0).mean(), 4),
        "ratio_90_percent": [round(float(np.quantile(ratios, q)), 4) for q in (0.05, 0.95)],
    }


def _ratio(owned: np.ndarray, plain: np.ndarray, rng: np.random.Generator) -> float:
    """Return the ratio for tiles drawn at random, to see how sure it is."""
    chosen = rng.integers(0, owned.shape[1], owned.shape[1])
    return float(np.nanmedian(owned[:, chosen], 0).mean() / np.nanmedian(plain[:, chosen], 0).mean())


def one_write(calls: int = 4000) -> dict[str, Any]:
    """Return the processor time of writing a small file for an owner and without one, in turns."""
    data = bytes(500)
    used = {"owner": 0.0, "plain": 0.0}
    with tempfile.TemporaryDirectory() as folder, holding(Path(folder) / "lock.json", "stage") as lock:
        below = Path(folder) / "seams"
        path = below / "0-999" / "7.npy"
        path.parent.mkdir(parents=True)
        for _ in range(calls):
            began = time.process_time()
            lock.owner.write(path, data, durable=False, below=below)
            between = time.process_time()
            write_atomically(path, data, durable=False, below=below)
            used["owner"] += between - began
            used["plain"] += time.process_time() - between
    microseconds = {name: round(1e6 * seconds / calls, 1) for name, seconds in used.items()}
    return {"a small file, µs": microseconds, "more": round(microseconds["owner"] - microseconds["plain"], 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tiles", type=int, default=64)
    options = parser.parse_args()
    print(json.dumps(one_write(), ensure_ascii=False), flush=True)
    for tile in ((32, 32, 32), (48, 96, 96)):
        print(json.dumps(compared(tile, options.tiles, options.rounds)), flush=True)


if __name__ == "__main__":
    main()
