"""Models of bioimage.io: networks in a package that says how they are run. An extra: ``napari-blockbuster[bioimageio]``."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from napari_blockbuster.models.base import PixelSource, Segmenter, Suggestion, setting
from napari_blockbuster.models.brightness import sample_values
from napari_blockbuster.models.child_process import run_outside_viewer
from napari_blockbuster.models.device import Device, device_setting
from napari_blockbuster.models.extras import require
from napari_blockbuster.models.network import WeightedModel
from napari_blockbuster.models.spacing import per_axis
from napari_blockbuster.models.weights import checked_digest

from .package import files_of, find_package, is_address, obtain_package, read_geometry, suggested_tile

__all__ = ["BioImageIO"]

SIDES = {2: 1024, 3: 96}
"""Longest side of a suggested tile."""


class BioImageIO(WeightedModel):
    """A model of bioimage.io (Ouyang et al. 2022, bioRxiv 2022.06.07.495102), run by ``bioimageio.core`` tile by tile.

    What differs from running it on its own: what its preprocessing measures (percentiles, mean, standard deviation) is
    measured once on the whole image. Its output is taken for labels only where that is defined, see `output`.
    """

    family: ClassVar[str] = "bioimageio"
    summary: ClassVar[str] = "A model of bioimage.io, from a package or an address"
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
        "What the model returns. labels: an instance mask; foreground: a map whose components are objects; boundary: a "
        "map of foreground and one of boundaries, for a watershed. auto: labels where it returns whole numbers.",
    )
    foreground_channel: int = setting(
        0, "Channel of the output that holds the foreground.", ge=0, le=1000, advanced=True
    )
    boundary_channel: int = setting(1, "Channel of the output that holds boundaries.", ge=0, le=1000, advanced=True)
    threshold: float = setting(0.5, "What lies above it in the map of the foreground is an object.")
    boundary_threshold: float = setting(
        0.5, "What lies below it in the map of boundaries is inside an object.", advanced=True
    )
    weights_format: Literal["auto", "pytorch_state_dict", "torchscript", "onnx"] = setting(
        "auto",
        "Which of the package's weights are used. auto: the first for which a library is installed.",
        advanced=True,
    )
    device: Device = device_setting()
    statistics: tuple[float, ...] | None = setting(
        None,
        "What the preprocessing measures on an image, in alphabetical order of the measures. Empty: measured.",
        advanced=True,
    )

    def prepare(self, image: PixelSource) -> Self:
        """Get the package, check it, and measure what its preprocessing needs on the whole image.

        Raises
        ------
        ImportError
            If the extra is not installed.
        OSError
            If the package is not there and cannot be downloaded.
        ValueError
            If it is not a model of this rank and of one channel, or does not say how its output becomes labels.
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
        sha256 = checked_digest(path, files_of(path), self.sha256)
        values = sample_values(image.sample_blocks()) if self.statistics is None else None
        measured = run_outside_viewer(check_package, self, path, values)
        statistics = measured if self.statistics is None else self.statistics
        # Workers may run in another folder, and never download.
        update = {"spacing": spacing, "weights": str(path), "sha256": sha256, "statistics": statistics}
        return self.model_copy(update=update)

    def suggest(self, image: PixelSource) -> Suggestion:
        """Tiles whose read box is of a size that the model takes, and a halo of about two diameters."""
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
        """The segmenter: the network on this process's device.

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
