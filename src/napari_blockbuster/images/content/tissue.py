"""Find the tissue in an image at a coarse resolution, to segment only there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images.base import ImageSource
from napari_blockbuster.images.opening import open_all_channels, open_image

__all__ = ["METHODS", "coarse_pixels", "tissue_mask"]

METHODS = ("otsu", "triangle")
MOST_VOXELS = 2**22
"""Voxels of the resolution at which tissue is found: 2,048 x 2,048, or 160 x 160 x 160."""
SLAB = 2**24
"""Voxels that are read at a time."""
WHITE = 99.0
"""Percentile of a stained slide that is the white of its background."""
APART, RARE = 5.0, 0.01
"""Faint tissue is a class of its own if it is this many standard deviations from the background, and this share of the image.
The two halves of a background alone are at most 3.5 apart, whether it is noise or a slope."""
SPECK = 4.0
"""Specks are smaller than a ball with this many times `smoothing` as its radius."""


def tissue_mask(
    image: Any,
    level: int | None = None,
    method: str = "otsu",
    *,
    smoothing: float = 2.0,
    channel: int | str | Sequence[int | str] | None = None,
    axes: str | None = None,
    scene: int | str | None = None,
) -> np.ndarray:
    """Return a coarse mask of the tissue in an image, to be used as ``where=`` of `napari_blockbuster.segment`.

    Stained slides (red, green and blue on a bright background) are thresholded by their darkest color, which is dark where
    something is colored or dark. Other images are bright on a dark background, and thresholded by the logarithm of their
    intensity. Holes are filled, and specks are dropped.

    Parameters
    ----------
    image : path, URL, array or ImageSource
        See `napari_blockbuster.segment`.
    level : int, optional
        Level of a pyramid. Default: the finest one of at most four million voxels. Levels that are larger are averaged.
    method : {"otsu", "triangle"}
        Threshold: Otsu for clear tissue, triangle for faint tissue on a large background.
    smoothing : float, default 2.0
        Standard deviation of a Gaussian filter, in voxels of the mask. Larger values close gaps and drop larger specks.
    channel : int, str or sequence of these, optional
        Channels to look at. Default: all.
    axes, scene : optional
        See `napari_blockbuster.segment`.

    Returns
    -------
    numpy.ndarray
        bool, with the axes of the image and at most four million voxels. All False if nothing stands out.

    Raises
    ------
    ValueError
        If an argument cannot be used.

    Examples
    --------
    >>> from napari_blockbuster import segment, tissue_mask
    >>> segment("slide.ome.zarr", where=tissue_mask("slide.ome.zarr"))  # doctest: +SKIP
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}. Choose one of {', '.join(METHODS)}")
    if not 0 <= smoothing < math.inf:
        raise ValueError(f"smoothing is {smoothing}. Give 0 or more voxels of the mask")
    if axes is None and _is_color(image):
        axes = "yxc"
    sources = _sources(image, level, {"channel": channel, "axes": axes, "scene": scene})
    # The fourth channel of a color image is its opacity.
    channels = [
        coarse_pixels(source)
        for source in (sources[:3] if len(sources) == 4 and sources[0].dtype == np.uint8 else sources)
    ]
    score = _stain(channels) if _is_stained(channels, sources[0]) else _brightness(channels)
    return _cleaned(score, method, smoothing, sources[0].separate_axes)


def _is_color(image: Any) -> bool:
    """Whether an array has the colors of its pixels as its last axis."""
    shape: tuple[int, ...] = getattr(image, "shape", ())
    return len(shape) == 3 and shape[-1] in (3, 4) and getattr(image, "dtype", None) == np.uint8


# ------------------------------------------------------------------------------------------------------------- reading
def _sources(image: Any, level: int | None, options: dict[str, Any]) -> list[ImageSource]:
    """Open the image once for each channel, at the level in which tissue is searched."""
    if isinstance(image, ImageSource):
        return [image]
    if level is not None:
        return _opened(image, level, options)
    found = _opened(image, 0, options)
    for number in range(1, 32):
        if math.prod(found[0].shape) <= MOST_VOXELS:
            break
        try:
            found = _opened(image, number, options)
        except ValueError:
            # The image has no such level.
            break
    return found


def _opened(image: Any, level: int, options: dict[str, Any]) -> list[ImageSource]:
    channel = options["channel"]
    rest = {name: value for name, value in options.items() if name != "channel"}
    if channel is None:
        return open_all_channels(image, level=level, **rest)[0]
    several = [channel] if isinstance(channel, int | str) else list(channel)
    return [open_image(image, channel=each, level=level, **rest) for each in several]


def coarse_pixels(source: ImageSource, most: int = MOST_VOXELS) -> np.ndarray:
    """Return the pixels of an image as float32, averaged to at most `most` voxels. It is read slab by slab."""
    factors = _factors(source, most)
    shape = tuple(-(-n // f) for n, f in zip(source.shape, factors, strict=True))
    result = np.empty(shape, np.float32)
    planes = max(SLAB // max(math.prod(source.shape[1:]) * factors[0], 1), 1)
    for first in range(0, shape[0], planes):
        last = min(first + planes, shape[0])
        start, stop = first * factors[0], min(last * factors[0], source.shape[0])
        pixels = source.read(Box((start, *(0,) * (source.ndim - 1)), (stop, *source.shape[1:])))
        if source.n_channels > 1:
            pixels = pixels.mean(axis=-1)
        result[first:last] = _averaged(pixels.astype(np.float32, copy=False), factors)
    return result


def _factors(source: ImageSource, most: int) -> tuple[int, ...]:
    """How many voxels become one along each axis: alike in real size, and 1 along time."""
    frames = source.separate_axes
    factors = [1] * source.ndim
    size = list(source.spacing)
    while math.prod(-(-n // f) for n, f in zip(source.shape, factors, strict=True)) > most:
        wide = [axis for axis in range(frames, source.ndim) if source.shape[axis] > factors[axis]]
        if not wide:
            break
        axis = min(wide, key=lambda a: size[a - frames] * factors[a])
        factors[axis] *= 2
    return tuple(factors)


def _averaged(pixels: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    for axis, factor in enumerate(factors):
        if factor > 1:
            starts = np.arange(0, pixels.shape[axis], factor)
            widths = np.minimum(starts + factor, pixels.shape[axis]) - starts
            sums = np.add.reduceat(pixels, starts, axis)
            pixels = sums / widths.reshape([-1 if a == axis else 1 for a in range(pixels.ndim)]).astype(np.float32)
    return pixels


# ------------------------------------------------------------------------------------------------------------- finding
def _is_stained(channels: Sequence[np.ndarray], source: ImageSource) -> bool:
    """Whether this is a slide in color on a bright background."""
    if len(channels) != 3 or source.dtype != np.uint8:
        return False
    return bool(np.median(np.mean(channels, axis=0)) > 127 or np.percentile(np.min(channels, axis=0), 90) > 160)


def _stain(channels: Sequence[np.ndarray]) -> np.ndarray:
    darkest = np.min(channels, axis=0)
    white = max(float(np.percentile(darkest, WHITE)), 1.0)
    return np.asarray(np.clip(1 - darkest / white, 0, 1))


def _brightness(channels: Sequence[np.ndarray]) -> np.ndarray:
    scores = []
    for found in channels:
        # A ratio of two images has infinite pixels where there is no signal.
        pixels = np.where(np.isfinite(found), found, np.nan)
        low, high = np.nanpercentile(pixels, (1, 99.5))
        if high <= low:
            low, high = float(np.nanmin(pixels)), float(np.nanmax(pixels))
        steps = np.log1p(np.clip(np.nan_to_num(pixels, nan=low) - low, 0, None) / max((high - low) / 50, 1e-12))
        scores.append(steps)
    return np.asarray(np.max(scores, axis=0))


def _cleaned(score: np.ndarray, method: str, smoothing: float, frames: int) -> np.ndarray:
    from scipy import ndimage
    from skimage import filters

    spatial = score.ndim - frames
    sigma = [0.0] * frames + [smoothing if n > 1 else 0.0 for n in score.shape[frames:]]
    smooth = ndimage.gaussian_filter(score, sigma)
    if not smooth.max() > smooth.min():
        return np.zeros(score.shape, bool)
    threshold = _otsu(smooth) if method == "otsu" else filters.threshold_triangle(smooth)  # type: ignore[no-untyped-call]
    mask = smooth > threshold
    thick = sum(n > 1 for n in score.shape[frames:])
    least = math.pi * (SPECK * smoothing) ** 2 if thick == 2 else 4 / 3 * math.pi * (SPECK * smoothing) ** max(thick, 1)
    for frame in mask.reshape(-1, *mask.shape[frames:]) if frames else [mask]:
        frame[...] = _without_specks(ndimage.binary_fill_holes(frame) if spatial > 1 else frame, least)
    return np.asarray(mask)


def _otsu(score: np.ndarray) -> float:
    """Threshold of Otsu, or the one below it: bright nuclei in faint tissue on a background are three classes, not two."""
    from skimage import filters

    threshold = float(filters.threshold_otsu(score))  # type: ignore[no-untyped-call]
    dark = score[score <= threshold]
    if not dark.max() > dark.min():
        return threshold
    lower = float(filters.threshold_otsu(dark))  # type: ignore[no-untyped-call]
    background, faint = dark[dark <= lower], dark[dark > lower]
    apart = len(faint) and faint.mean() - background.mean() > APART * background.std()
    return lower if apart and len(faint) > RARE * score.size else threshold


def _without_specks(mask: np.ndarray, least: float) -> np.ndarray:
    from scipy import ndimage

    labels, n = ndimage.label(mask)
    if not n:
        return mask
    sizes = np.bincount(labels.ravel())
    # The largest piece is never a speck.
    kept = sizes >= min(least, sizes[1:].max())
    kept[0] = False
    return np.asarray(kept[labels])
