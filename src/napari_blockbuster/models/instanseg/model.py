"""InstanSeg: fast networks for nuclei and cells in 2D. Needs the extra ``napari-blockbuster[instanseg]``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from napari_blockbuster.models.base import PixelSource, Segmenter, Suggestion, setting
from napari_blockbuster.models.extras import require
from napari_blockbuster.models.networks.base import NetworkModel
from napari_blockbuster.models.networks.child_process import run_outside_viewer
from napari_blockbuster.models.networks.device import Device, device_setting
from napari_blockbuster.models.networks.weights import checked_digest
from napari_blockbuster.models.spacing import per_axis, round_up

from .weights import check_network, find_network, is_path, obtain_network

__all__ = ["InstanSeg"]

NETWORK_PIXEL = 0.5
"""Pixel size of all published networks in micrometers. For suggestions only."""
REACH = 96
"""Receptive field of a published network on each side of a pixel, in its own pixels."""
STEP = 16
"""InstanSeg pads images to a multiple of this, so a shift by it does not change what the network sees."""
SIDE = 1024
CHANNELS = {"single_channel_nuclei": (1, 1), "brightfield_nuclei": (3, 3)}
"""Least and largest number of channels of published networks."""
MICROMETERS = {"micrometer", "micrometre", "micron", "um", "µm", "μm"}


class InstanSeg(NetworkModel):
    """InstanSeg (Goldsborough et al. 2024, arXiv 2408.15954), called tile by tile.

    Differences from InstanSeg on its own: percentiles of the whole image normalize brightness. InstanSeg does not cut
    tiles into smaller ones. Nothing is downloaded during a run.
    """

    family: ClassVar[str] = "instanseg"
    summary: ClassVar[str] = "InstanSeg: nuclei and cells, 2D (needs its weights)"
    packages: ClassVar[tuple[str, ...]] = ("instanseg-torch", "torch")
    most_channels: ClassVar[int] = 1000
    PERCENTILES: ClassVar[tuple[float, float]] = (0.1, 99.9)

    weights: str = setting(
        "single_channel_nuclei",
        "Name (single_channel_nuclei, brightfield_nuclei for H&E colors, fluorescence_nuclei_and_cells for any channels), or the "
        "path of a TorchScript file (instanseg.pt).",
        min_length=1,
    )
    diameter: float = setting(
        24.0,
        "Diameter of a typical object, in pixels. Only the suggested halo depends on it.",
        unit="px",
        ge=2,
        le=2000,
    )
    pixel_size: float | None = setting(
        None,
        "Width of a pixel. The image is scaled to the pixel size of the network. Empty: from the image if its unit is "
        "micrometers, else the same as the network's.",
        unit="µm",
        gt=0,
        le=100,
    )
    target: Literal["nuclei", "cells"] = setting(
        "nuclei", "Objects to outline, for networks that find both. No effect on other networks."
    )
    seed_threshold: float | None = setting(
        None,
        "Lower values find more objects, higher values fewer. Empty: the value stored with the network.",
        ge=0,
        le=1,
    )
    mask_threshold: float | None = setting(
        None,
        "Lower values make larger objects, higher values smaller ones. Empty: the value stored with the network.",
        ge=0,
        le=1,
    )
    overlap_threshold: float | None = setting(
        None,
        "Least overlap (intersection over union) at which two candidates are one object. Empty: the value stored with "
        "the network.",
        ge=0,
        le=1,
        advanced=True,
    )
    peak_distance: int | None = setting(
        None,
        "Least distance between seeds, in the network's pixels. Empty: the value stored with the network.",
        unit="px",
        ge=1,
        le=100,
        advanced=True,
    )
    device: Device = device_setting()

    def prepare(self, image: PixelSource) -> Self:
        """Find or download the network, check it, and measure brightness of the whole image.

        Raises
        ------
        ImportError
            If the extra is not installed.
        OSError
            If the network is missing and cannot be downloaded.
        ValueError
            If there is no such network, it is not for as many channels, or the image is not 2D.
        """
        spacing = self._spacing_of(image)
        if len(spacing) != 2:
            raise ValueError(f"the model 'instanseg' needs images of 2 spatial axes. This one has {len(spacing)}")
        require("instanseg")
        path = obtain_network(self.weights)
        facts = run_outside_viewer(check_network, path, image.n_channels)
        sha256 = checked_digest(path, [path], self.sha256)
        update = {
            "spacing": spacing,
            # Workers may run in another folder.
            "weights": str(path) if is_path(self.weights) else self.weights,
            "sha256": sha256,
            **self._measured(image),
            "pixel_size": self._pixel_size(image) or facts.pixel_size,
        }
        return self.model_copy(update=update)

    def suggest(self, image: PixelSource) -> Suggestion:
        """Return a tile of about a million network pixels, and a halo of two diameters or the network's receptive field."""
        spacing = self._spacing_of(image)
        if len(spacing) != 2:
            return Suggestion(None, (0,) * len(spacing))
        scale = (self._pixel_size(image) or NETWORK_PIXEL) / NETWORK_PIXEL
        wish = [max(n, REACH / scale) for n in per_axis(2 * self.diameter, spacing)]
        halo = tuple(round_up(math.ceil(n), STEP) for n in wish)
        return Suggestion(_tile(image.spatial_shape, halo, scale), halo)

    def channel_range(self) -> tuple[int, int]:
        """Return the number of channels of a named network; other networks are checked by `prepare`."""
        return CHANNELS.get(self.weights, (1, self.most_channels))

    def load(self) -> Segmenter:
        """Load the network on this process's device.

        Raises
        ------
        ImportError
            If the extra is not installed.
        RuntimeError
            If the model is not prepared, or its device is not there.
        OSError
            If the network is not on this machine: workers never download.
        """
        self._require("spacing", "low", "high", "sha256", "pixel_size")
        require("instanseg")
        from .segmenter import InstanSegSegmenter

        path = find_network(self.weights)
        if not path.is_file():
            raise FileNotFoundError(
                f"the InstanSeg network {self.weights!r} is not on this worker's machine (no file {path}), and workers "
                "do not download. Let INSTANSEG_BIOIMAGEIO_PATH name a folder that all machines share"
            )
        checked_digest(path, [path], self.sha256)
        return InstanSegSegmenter(self, path)

    def _pixel_size(self, image: PixelSource) -> float | None:
        """Return the pixel size in micrometers if the user or the image gives it."""
        if self.pixel_size is not None:
            return self.pixel_size
        units: Sequence[str | None] = getattr(image, "units", ())
        known = bool(units) and str(units[-1]).lower() in MICROMETERS
        return float(image.spacing[-1]) if known else None


def _tile(shape: Sequence[int], halo: Sequence[int], scale: float) -> tuple[int, ...]:
    side = round_up(math.ceil(SIDE / scale), STEP)
    return tuple(min(n, max(side, h)) for n, h in zip(shape, halo, strict=True))
