"""What the benchmark runs share: the image, the cheap function, and timing inside it.

Plain numpy, so that any environment can import it.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

TILE = (128, 256, 256)
HALO = 8


class Timed:
    """A segmenter that keeps its own wall and processor time."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0
        self.calls = 0
        self._lock = threading.Lock()

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        cpu, wall = time.thread_time(), time.perf_counter()
        labels = ndimage.label(pixels > 300, output=np.int32)[0]
        with self._lock:
            self.cpu += time.thread_time() - cpu
            self.wall += time.perf_counter() - wall
            self.calls += 1
        return labels


def make_image(path: Path, shape: tuple[int, int, int], spacing: int = 24) -> None:
    """Bright ellipsoids, one in each cell of a jittered grid, on a noisy ground: uint16, zarr v3, zstd."""
    import zarr

    rng = np.random.default_rng(0)
    image = np.empty(shape, np.uint16)
    for plane in image:
        plane[:] = rng.normal(100, 10, shape[1:]).clip(0)
    axes = np.meshgrid(*[np.arange(spacing / 2, n, spacing) for n in shape], indexing="ij")
    centres = np.stack(axes, -1).reshape(-1, 3)
    centres = centres + rng.uniform(-0.35 * spacing, 0.35 * spacing, centres.shape)
    for centre in centres:
        radii = rng.uniform(5, 9, 3)
        low = np.maximum(0, np.floor(centre - radii)).astype(int)
        high = np.minimum(shape, np.ceil(centre + radii) + 1).astype(int)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        grid = np.ogrid[box]
        inside = sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) <= 1
        image[box][inside] += np.uint16(rng.uniform(600, 1500))
    array = zarr.create_array(
        str(path), shape=shape, chunks=(64, 128, 128), dtype="uint16", compressors=zarr.codecs.ZstdCodec(level=1)
    )
    array[:] = image


def report(run, fn: Timed) -> dict[str, float]:
    """Run once; what the framework added to the function, in wall and processor seconds of this process."""
    cpu, wall = time.process_time(), time.perf_counter()
    n_objects = run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "wall": wall,
        "cpu": cpu,
        "fn_wall": fn.wall,
        "fn_cpu": fn.cpu,
        "added_wall": wall - fn.wall,
        "added_cpu": cpu - fn.cpu,
        "calls": fn.calls,
        "objects": n_objects,
    }


def replace_section(page: Path, heading: str, lines: list[str]) -> None:
    """Put lines under a heading of a page, in place of those of an earlier run; at the end if there is no such heading."""
    before, _, after = page.read_text().partition(f"{heading}\n")
    _, mark, rest = after.partition("\n## ")
    page.write_text("\n".join([before.rstrip(), "", heading, "", *lines, ""]) + mark + rest)


class Section:
    """A section of a page in ``docs/`` that a benchmark writes, one line a figure.

    Parameters
    ----------
    page : str
        Name of the page.
    heading : str
    about : str
        First line of the section.
    """

    def __init__(self, page: str, heading: str, about: str) -> None:
        self.page, self.heading, self.about = Path(__file__).parents[2] / "docs" / page, heading, about
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        """Print a line, and keep it for the page."""
        print(line, flush=True)
        self.lines.append(f"* {line}")

    def write(self) -> None:
        """Put the lines under the heading, in place of those of an earlier run."""
        replace_section(self.page, self.heading, [self.about, "", *self.lines])
