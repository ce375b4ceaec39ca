"""Train the small networks with StarDist's own ``train`` on drawn images.

``python tests/models/small_stardist/train.py flat volume`` takes some minutes for each on two CPU cores.
The folders that it writes, one for each network, are committed.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402
from model_data import drawn  # noqa: E402
from scipy import ndimage  # noqa: E402

from small_stardist import FLAT, VOLUME  # noqa: E402

FILES = ("config.json", "thresholds.json", "weights_best.h5")


def exposed(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pixels on StarDist's scale; cameras and exposures differ, so brightness is bent and noise is added."""
    low, high = np.percentile(pixels, (1, 99.8))
    scaled = (pixels.astype(np.float32) - low) / (high - low)
    bent = np.sign(scaled) * np.abs(scaled) ** rng.uniform(0.6, 1.5)
    return (bent + rng.normal(0, rng.uniform(0, 0.06), pixels.shape)).astype(np.float32)


def unequal(pixels: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Real nuclei differ in brightness by more than the drawn ones: some are five times as bright as most."""
    gains = np.exp(rng.normal(0, 0.5, truth.max() + 1)).astype(np.float32)
    gains[0] = 1
    return 100 + (pixels - 100) * ndimage.gaussian_filter(gains[truth], 1)


def flat_pictures(count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Drawn nuclei in 2D, sparse to crowded, small to large."""
    rng = np.random.default_rng(20)
    images, labels = [], []
    for seed in range(count):
        # Nuclei are longer than the drawn ones: most are stretched, and turned with their image.
        stretch = max(1.0, rng.uniform(0.6, 2.2))
        shape = (368, round(368 / stretch))
        drawing = drawn(shape, float(rng.uniform(16, 32) / stretch**0.5), float(rng.uniform(0.1, 0.6)), 5000 + seed)
        lit = unequal(drawing.pixels.astype(np.float32), drawing.truth, rng)
        zoom, angle = (1, 368 / shape[1]), float(rng.uniform(0, 180))
        pixels = ndimage.rotate(ndimage.zoom(lit, zoom, order=1), angle, reshape=False, order=1, mode="mirror")
        truth = ndimage.rotate(ndimage.zoom(drawing.truth, zoom, order=0), angle, reshape=False, order=0)
        # What is left of a turned square.
        middle = (slice(56, 312), slice(56, 312))
        images.append(exposed(pixels[middle], rng))
        labels.append(np.ascontiguousarray(truth[middle]))
    return images, labels


def volume_pictures(count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Drawn nuclei in 3D, z steps twice as long as y and x."""
    rng = np.random.default_rng(21)
    images, labels = [], []
    for seed in range(count):
        drawing = drawn(
            (24, 80, 80), float(rng.uniform(11, 17)), float(rng.uniform(0.1, 0.6)), 7000 + seed, (2.0, 1.0, 1.0)
        )
        images.append(exposed(drawing.pixels, rng))
        labels.append(drawing.truth)
    return images, labels


def flat_network(folder: str) -> object:
    """A U-Net that halves three times (once before it), on a quarter of the pixels."""
    from stardist.models import Config2D, StarDist2D

    config = Config2D(
        n_rays=32,
        grid=(2, 2),
        unet_n_depth=2,
        unet_n_filter_base=16,
        net_conv_after_unet=48,
        train_patch_size=(128, 128),
        train_batch_size=8,
        train_learning_rate=1e-3,
        train_epochs=40,
        train_steps_per_epoch=40,
        train_reduce_lr={"factor": 0.5, "patience": 6, "min_delta": 0},
        train_tensorboard=False,
    )
    return StarDist2D(config, name=FLAT.name, basedir=folder)


def volume_network(folder: str) -> object:
    """A U-Net in 3D that halves three times along y and x (once before it), and twice along z."""
    from stardist.models import Config3D, StarDist3D
    from stardist.rays3d import Rays_GoldenSpiral

    anisotropy = (2.0, 1.0, 1.0)
    config = Config3D(
        rays=Rays_GoldenSpiral(32, anisotropy=anisotropy),
        anisotropy=anisotropy,
        grid=(1, 2, 2),
        unet_n_depth=2,
        unet_n_filter_base=8,
        net_conv_after_unet=32,
        train_patch_size=(16, 48, 48),
        train_batch_size=4,
        train_learning_rate=5e-4,
        train_epochs=25,
        train_steps_per_epoch=40,
        train_reduce_lr={"factor": 0.5, "patience": 5, "min_delta": 0},
        train_tensorboard=False,
    )
    return StarDist3D(config, name=VOLUME.name, basedir=folder)


def augmented(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mirrored and turned within the plane."""
    for axis in range(image.ndim):
        if np.random.rand() < 0.5:  # noqa: NPY002 (StarDist seeds this generator)
            image, labels = np.flip(image, axis), np.flip(labels, axis)
    if np.random.rand() < 0.5:  # noqa: NPY002
        image, labels = np.swapaxes(image, -1, -2), np.swapaxes(labels, -1, -2)
    return image, labels


def main(names: list[str]) -> None:
    """Train and store networks."""
    for name in names:
        if name == FLAT.name:
            network, count, (images, labels) = flat_network, 128, flat_pictures(128)
        else:
            network, count, (images, labels) = volume_network, 40, volume_pictures(40)
        held = count // 8
        with tempfile.TemporaryDirectory() as folder:
            model: object = network(folder)
            validation = (images[:held], labels[:held])
            model.train(images[held:], labels[held:], validation_data=validation, augmenter=augmented, seed=1)  # type: ignore[attr-defined]
            model.optimize_thresholds(images[:4], labels[:4])  # type: ignore[attr-defined]
            target = HERE / name
            target.mkdir(exist_ok=True)
            for file in FILES:
                shutil.copy(Path(folder) / name / file, target / file)
        print(name, {file: (target / file).stat().st_size for file in FILES})


if __name__ == "__main__":
    main(sys.argv[1:] or [FLAT.name, VOLUME.name])
