"""Models of bioimage.io: networks in packages that describe how to run them.

Needs the extra ``napari-blockbuster[bioimageio]``.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np

from napari_blockbuster.machine.units import count_text
from napari_blockbuster.models.base import PixelSource, Segmenter, Suggestion, setting
from napari_blockbuster.models.extras import require
from napari_blockbuster.models.networks.base import WeightedModel
from napari_blockbuster.models.networks.brightness import sample_values
from napari_blockbuster.models.networks.child_process import run_outside_viewer
from napari_blockbuster.models.networks.device import Device, device_setting
from napari_blockbuster.models.networks.weights import checked_digest
from napari_blockbuster.models.spacing import per_axis

from .package import files_of, find_package, is_address, obtain_package, read_geometry, suggested_tile

__all__ = ["BioImageIO"]

SIDES = {2: 1024, 3: 96}
"""Longest side of a suggested tile."""


class BioImageIO(WeightedModel):
    """A model of bioimage.io (Ouyang et al. 2022, bioRxiv 2022.06.07.495102), run by ``bioimageio.core`` tile by tile.

    Differences from running it on its own: the statistics of its preprocessing (percentiles, mean, standard deviation)
    are measured once on the whole image. The setting `output` defines how its output becomes labels.
    """

    family: ClassVar[str] = "bioimageio"
    summary: ClassVar[str] = "A model of bioimage.io, from a package or an address"
    most_channels: ClassVar[int] = 1000
    packages: ClassVar[tuple[str, ...]] = ("bioimageio.core", "bioimageio.spec", "torch")

    weights: str = setting(
        "",
        "Path of a package (zip), of a folder or a description (YAML), a web address, a DOI, or a name at bioimage.io.",
    )
    diameter: float = setting(
        24.0,
        "Diameter of a typical object, in voxels of the finest axis. Only the suggested halo depends on it.",
        unit="px",
        ge=2,
        le=2000,
    )
    output: Literal["auto", "labels", "foreground", "boundary"] = setting(
        "auto",
        "Output of the model. labels: an instance mask. foreground: a map whose components are objects. boundary: a "
        "foreground map and a boundary map, for a watershed. auto: labels if the output has integers.",
    )
    foreground_channel: int = setting(0, "Channel of the output with the foreground.", ge=0, le=1000, advanced=True)
    boundary_channel: int = setting(1, "Channel of the output with the boundaries.", ge=0, le=1000, advanced=True)
    threshold: float = setting(0.5, "Values of the foreground map above this are objects.")
    boundary_threshold: float = setting(0.5, "Values of the boundary map below this are inside objects.", advanced=True)
    weights_format: Literal["auto", "pytorch_state_dict", "torchscript", "onnx"] = setting(
        "auto",
        "Weights of the package to use. auto: the first with an installed library.",
        advanced=True,
    )
    device: Device = device_setting()
    statistics: tuple[float, ...] | None = setting(
        None,
        "Statistics for the preprocessing, in alphabetical order of their names, each for every channel if it is taken by "
        "channel. Empty: measured on the image.",
        advanced=True,
    )

    def prepare(self, image: PixelSource) -> Self:
        """Find or download the package, check it, and measure the statistics of its preprocessing on the whole image.

        Raises
        ------
        ImportError
            If the extra is not installed.
        OSError
            If the package is missing and cannot be downloaded.
        ValueError
            If the model is not for this rank and number of channels, or if it is not clear how its output becomes labels.
        """
        spacing = self._spacing_of(image)
        if not self.weights:
            raise ValueError("bioimageio needs the setting 'weights': the path or the address of a package")
        require("bioimageio")
        from .segmenter import check_package

        path = obtain_package(self.weights)
        geometry = read_geometry(path)
        if len(geometry.least) != len(spacing):
            raise ValueError(
                f"the bioimage.io model {self.weights!r} is for images of {len(geometry.least)} spatial axes, and this "
                f"one has {len(spacing)}"
            )
        if geometry.channels != image.n_channels:
            raise ValueError(
                f"the bioimage.io model {self.weights!r} is for images of {count_text(geometry.channels, 'channel')}, and "
                f"{image.n_channels} {'was' if image.n_channels == 1 else 'were'} chosen. Choose as many, channel= (--channel)"
            )
        sha256 = checked_digest(path, files_of(path), self.sha256)
        values = self._values(image) if self.statistics is None else None
        measured = run_outside_viewer(check_package, self, path, values)
        statistics = measured if self.statistics is None else self.statistics
        # Workers may run in another folder, and never download.
        update = {"spacing": spacing, "weights": str(path), "sha256": sha256, "statistics": statistics}
        return self.model_copy(update=update)

    @staticmethod
    def _values(image: PixelSource) -> list[np.ndarray]:
        """Return values of each channel."""
        blocks = image.sample_blocks()
        if image.n_channels == 1:
            return [sample_values(blocks)]
        return [sample_values([block[..., c] for block in blocks]) for c in range(image.n_channels)]

    def channel_range(self) -> tuple[int, int]:
        """Return the number of channels in the package, if it is on this machine."""
        try:
            if not self.weights or is_address(self.weights):
                return 1, self.most_channels
            number = read_geometry(find_package(self.weights)).channels
        except (OSError, ValueError):
            return 1, self.most_channels
        return number, number

    def suggest(self, image: PixelSource) -> Suggestion:
        """Return a tile whose read box has a size that the model accepts, and a halo of about two diameters."""
        spacing = self._spacing_of(image)
        wish = per_axis(2 * self.diameter, spacing)
        try:
            if not self.weights or is_address(self.weights):
                raise FileNotFoundError(self.weights)
            geometry = read_geometry(find_package(self.weights))
        except (OSError, ValueError):
            return self._halo(image, 2 * self.diameter)
        if len(geometry.least) != len(spacing):
            return self._halo(image, 2 * self.diameter)
        return Suggestion(*suggested_tile(geometry, tuple(image.spatial_shape), wish, SIDES[len(spacing)]))

    def load(self) -> Segmenter:
        """Load the network on this process's device.

        Raises
        ------
        ImportError
            If the extra is not installed.
        RuntimeError
            If the model is not prepared, or its device is not there.
        OSError
            If the package is not on this machine: workers never download.
        """
        self._require("spacing", "statistics", "sha256")
        require("bioimageio")
        from .segmenter import BioImageIOSegmenter

        path = find_package(self.weights)
        checked_digest(path, files_of(path), self.sha256)
        return BioImageIOSegmenter(self, path)
