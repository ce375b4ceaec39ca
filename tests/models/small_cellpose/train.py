"""Train the small network with Cellpose's own ``train_seg`` on drawn images.

``python tests/models/small_cellpose/train.py`` takes ten minutes on two free CPU cores, and twice that on busy ones.
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
from scipy import ndimage  # noqa: E402

from small_cellpose import WEIGHTS  # noqa: E402
from small_cellpose.network import SmallNetwork  # noqa: E402

IMAGES, EPOCHS, PER_EPOCH, SIDE = 200, 150, 32, 256


def picture(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image of drawn nuclei on a scale from 0 to 1, and its truth.

    Images differ in what microscopes and tissues differ in: size, shape, crowding, brightness, texture, blur, haze and
    noise. Some nuclei are small, as in a section near a nucleus's end.
    """
    diameter, spread = np.exp(rng.uniform(np.log(24), np.log(38))), rng.uniform(0, 0.7)
    longest, fill = rng.uniform(1.1, 2.6), rng.uniform(0.03, 0.65)
    truth, light = np.zeros((SIDE, SIDE), np.int32), np.zeros((SIDE, SIDE), np.float32)
    fails = 0
    while fails < 300 and (truth > 0).mean() < fill:
        size = diameter * np.exp(rng.normal(0, 0.15)) * (rng.uniform(0.3, 1) if rng.random() < 0.2 else 1)
        where, nucleus = outline(rng, size, rng.uniform(1, longest))
        free = nucleus & (truth[where] == 0)
        if free.sum() < 0.9 * nucleus.sum():
            fails += 1
            continue
        truth[where][free] = truth.max() + 1
        # Where one lies over another, their light adds up.
        light[where] += nucleus * np.float32(np.exp(rng.normal(0, spread)))
    return exposure(rng, light, diameter), truth


def outline(rng: np.random.Generator, size: float, stretch: float) -> tuple[tuple[slice, slice], np.ndarray]:
    """An ellipse with dents, somewhere in the image, turned anyhow: the part of the image, and which pixels of it."""
    center = rng.uniform(0, SIDE, 2)
    where = tuple(slice(max(0, int(c - size)), int(c + size) + 1) for c in center)
    y, x = (np.arange(SIDE)[part] - c for part, c in zip(where, center, strict=True))
    y, x = np.meshgrid(y, x, indexing="ij")
    turn = rng.uniform(0, np.pi)
    along, across = np.cos(turn) * y + np.sin(turn) * x, np.cos(turn) * x - np.sin(turn) * y
    along, across = along / np.sqrt(stretch), across * np.sqrt(stretch)
    angle, radius = np.arctan2(across, along), np.full(y.shape, size / 2)
    for k in (2, 3, 4):
        radius *= 1 + rng.normal(0, 0.03) * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    return where, np.hypot(along, across) <= radius


def exposure(rng: np.random.Generator, light: np.ndarray, diameter: float) -> np.ndarray:
    """What a camera sees of such light."""
    for grain in (0.03, 0.12):
        texture = ndimage.gaussian_filter(rng.normal(size=light.shape), diameter * grain)
        light = light * np.maximum(1 + rng.uniform(0, 0.35) * texture / texture.std(), 0)
    # Some of the haze is that of nuclei above and below, which are not in the truth.
    around = light + rng.uniform(0, 1) * light[::-1, ::-1]
    haze = rng.uniform(0, 0.3) * ndimage.gaussian_filter(around, diameter * rng.uniform(0.2, 0.6))
    light = ndimage.gaussian_filter(light, rng.uniform(0.4, 0.09 * diameter)) + haze + rng.uniform(0.02, 0.3)
    photons = np.exp(rng.uniform(np.log(20), np.log(1000)))
    pixels = rng.poisson(light * photons) / photons + rng.normal(0, rng.uniform(0, 0.05), light.shape)
    low, high = np.percentile(pixels, (1, 99))
    pixels = (pixels - low) / (high - low)
    # Cameras and exposures differ.
    return (np.sign(pixels) * np.abs(pixels) ** rng.uniform(0.7, 1.4)).astype(np.float32)


def main() -> None:
    """Train and store the weights."""
    from cellpose import train

    logging.basicConfig(level=logging.INFO)
    logging.getLogger("cellpose").setLevel(logging.INFO)
    torch.manual_seed(0)
    # Cellpose turns and crops with numpy's own generator.
    np.random.seed(0)  # noqa: NPY002
    network = SmallNetwork()
    print(sum(p.numel() for p in network.parameters()), "parameters")
    rng = np.random.default_rng(20)
    images, labels = map(list, zip(*(picture(rng) for _ in range(IMAGES)), strict=True))
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
