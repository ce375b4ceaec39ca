"""Train the small network with Cellpose's own ``train_seg`` on drawn images.

``python tests/models/small_cellpose/train.py`` takes some minutes on two CPU cores.
The result, ``weights.pt``, is committed.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from model_data import drawn  # noqa: E402
from scipy import ndimage  # noqa: E402

from small_cellpose import WEIGHTS  # noqa: E402
from small_cellpose.network import SmallNetwork  # noqa: E402

IMAGES, EPOCHS, PER_EPOCH, SIDE = 128, 100, 32, 256


def pictures() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Drawn nuclei from sparse to crowded, small to large, on a scale from 0 to 1."""
    rng = np.random.default_rng(20)
    images, labels = [], []
    for seed in range(IMAGES):
        # Half of them are stretched: nuclei are longer than the drawn ones.
        stretch = max(1.0, rng.uniform(0.4, 1.7))
        shape = (SIDE, round(SIDE / stretch))
        drawing = drawn(shape, float(rng.uniform(18, 36)), float(rng.uniform(0.15, 0.7)), 5000 + seed)
        pixels = ndimage.zoom(drawing.pixels.astype(np.float32), (1, SIDE / shape[1]), order=1)
        truth = ndimage.zoom(drawing.truth, (1, SIDE / shape[1]), order=0)
        low, high = np.percentile(pixels, (1, 99))
        pixels = (pixels - low) / (high - low)
        # Cameras and exposures differ: brightness is bent, noise is added.
        pixels = np.sign(pixels) * np.abs(pixels) ** rng.uniform(0.6, 1.5)
        pixels += rng.normal(0, rng.uniform(0, 0.08), pixels.shape)
        images.append(pixels.astype(np.float32))
        labels.append(truth)
    return images, labels


def main() -> None:
    """Train and store the weights."""
    from cellpose import train

    logging.basicConfig(level=logging.INFO)
    logging.getLogger("cellpose").setLevel(logging.INFO)
    torch.manual_seed(0)
    torch.set_num_threads(2)
    network = SmallNetwork()
    print(sum(p.numel() for p in network.parameters()), "parameters")
    images, labels = pictures()
    with tempfile.TemporaryDirectory() as folder:
        path, losses, _ = train.train_seg(
            network,
            train_data=images,
            train_labels=labels,
            normalize=False,
            learning_rate=3e-3,
            weight_decay=1e-4,
            n_epochs=EPOCHS,
            nimg_per_epoch=PER_EPOCH,
            batch_size=8,
            min_train_masks=0,
            save_path=folder,
            model_name="small",
        )
        weights = torch.load(path, weights_only=True)
    # Half precision, half the size: it is turned back on loading.
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in weights.items()}, WEIGHTS)
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}; {WEIGHTS.stat().st_size} bytes in {WEIGHTS.name}")


if __name__ == "__main__":
    main()
