"""Working memory of Cellpose for each voxel of a tile: what `napari_blockbuster.models.cellpose.model` reckons tiles with.

``python tests/benchmarks/cellpose_memory.py`` prints, for each case in a process of its own, by how much memory rose
beyond one network tile's activations, beside what is reckoned. Small network, float32, CPU: with weights of any size the
rest is Cellpose's own code.
"""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "models"))

import numpy as np  # noqa: E402
from model_data import ArraySource, drawn  # noqa: E402

from napari_blockbuster.machine.memory.peak_memory import PeakMemory  # noqa: E402
from napari_blockbuster.models.cellpose.tile import SCALED_BYTES, VOXEL_BYTES  # noqa: E402

CASES = {
    "2D, objects of 60": ((2048, 2048), 60),
    "2D, objects of 30": ((2048, 2048), 30),
    "2D, objects of 15": ((1024, 1024), 15),
    "3D, objects of 60": ((64, 160, 160), 60),
    "3D, objects of 30": ((64, 160, 160), 30),
}


def pixels(shape: tuple[int, ...]) -> np.ndarray:
    """A drawn block, repeated: 30 % of the voxels are cells."""
    block = drawn((64,) * len(shape), 20, 0.3, 3).pixels
    whole = np.tile(block, [-(-n // 64) for n in shape])[tuple(map(slice, shape))]
    return np.ascontiguousarray(whole)


def measure(name: str) -> None:
    """Print one case."""
    from small_cellpose.family import SmallCellpose

    shape, diameter = CASES[name]
    image = pixels(shape)
    model = SmallCellpose(diameter=diameter, batch_size=1).prepare(ArraySource(image))
    run = model.load()
    run(image[(slice(48),) * len(shape)])
    with PeakMemory() as peak:
        run(image)
    entry = run.footprint.entry  # type: ignore[attr-defined]
    reckoned = VOXEL_BYTES + SCALED_BYTES * model.scale ** len(shape)
    found = (peak.rise - entry) / math.prod(shape)
    print(f"{name}: {found:.0f} bytes a voxel, reckoned {reckoned:.0f} (scale {model.scale:g})", flush=True)


def main() -> None:
    """Each case in a fresh process: what one has freed would hide what the next one takes."""
    if len(sys.argv) > 1:
        measure(sys.argv[1])
        return
    for name in CASES:
        subprocess.run([sys.executable, "-W", "ignore", __file__, name], check=True)


if __name__ == "__main__":
    main()
