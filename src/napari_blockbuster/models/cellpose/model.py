"""Cellpose 4: networks for all kinds of cells and nuclei, in 2D and 3D. Needs the extra ``napari-blockbuster[cellpose]``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from napari_blockbuster.models.base import PixelSource, Segmenter, Suggestion, setting
from napari_blockbuster.models.networks.base import NetworkModel
from napari_blockbuster.models.networks.child_process import run_outside_viewer
from napari_blockbuster.models.networks.device import Device, device_setting
from napari_blockbuster.models.networks.weights import checked_digest
from napari_blockbuster.models.spacing import per_axis

from .imports import import_cellpose
from .tile import NETWORK_DIAMETER, suggested_tile
from .weights import find_weights, is_path, ready_weights

__all__ = ["Cellpose"]


class Cellpose(NetworkModel):
    """Cellpose 4 (Stringer & Pachitariu; Cellpose-SAM 2025, bioRxiv 2025.04.28.651001), called tile by tile.

    Differences from Cellpose on its own: percentiles of the whole image normalize brightness. No object is removed
    because of its size, nor because of its flows if the border of a tile cuts it. Nothing is downloaded during a run.
    """

    family: ClassVar[str] = "cellpose"
    summary: ClassVar[str] = "Cellpose 4 (needs its weights; a GPU is advised)"
    packages: ClassVar[tuple[str, ...]] = ("cellpose", "torch", "scipy")
    without_effect: ClassVar[tuple[str, ...]] = ("batch_size",)
    most_channels: ClassVar[int] = 3
    PERCENTILES: ClassVar[tuple[float, float]] = (1.0, 99.0)
    BRIGHTNESS: ClassVar[tuple[str, ...]] = ("low", "high", "more_lows", "more_highs")

    weights: str = setting(
        "cpsam_v2",
        "Name (cpsam_v2, cpsam, cpdino, cpdino-vitb, or one added in Cellpose), or the path of a file of weights.",
        min_length=1,
    )
    diameter: float = setting(
        NETWORK_DIAMETER,
        "Diameter of a typical object, in voxels of the finest axis. The image is scaled to make it 30.",
        unit="px",
        ge=2,
        le=2000,
    )
    mode: Literal["3d", "stitch", "planes"] = setting(
        "3d",
        "Stacks: segment in 3D, segment planes and stitch them along z, or segment each plane on its own. "
        "No effect on 2D images.",
    )
    cellprob_threshold: float = setting(
        0.0, "Lower values find more and larger objects, higher values fewer and smaller ones.", ge=-20, le=20
    )
    flow_threshold: float = setting(
        0.4,
        "2D: remove objects whose flows differ by more than this from the flows expected for their shape, unless the "
        "border of a tile cuts them. Lower is stricter. 0 keeps all.",
        ge=0,
        le=10,
    )
    stitch_threshold: float = setting(
        0.25,
        "Stitching: least overlap (intersection over union) that joins objects of neighboring planes.",
        ge=0.01,
        le=1,
        advanced=True,
    )
    flow_smoothing: float = setting(
        0.0,
        "3D: standard deviation of a Gaussian filter over the flows. Increase it if objects fall apart.",
        unit="px",
        ge=0,
        le=20,
        advanced=True,
    )
    niter: int | None = setting(
        None,
        "Number of steps that pixels follow the flows. Long thin objects need more (2000). Empty: from the diameter.",
        ge=1,
        le=100_000,
        advanced=True,
    )
    invert: bool = setting(False, "Objects are darker than their surroundings.", advanced=True)
    more_lows: tuple[float, ...] | None = setting(
        None,
        "Several channels: gray values that become 0 in the second and third channel. Empty: measured.",
        unit="gray value",
        advanced=True,
        max_length=2,
    )
    more_highs: tuple[float, ...] | None = setting(
        None,
        "Several channels: gray values that become 1 in the second and third channel. Empty: measured.",
        unit="gray value",
        advanced=True,
        max_length=2,
    )
    batch_size: int | None = setting(
        None,
        "Network tiles (256 x 256) at once. Empty: measured when the network is loaded. Halved if memory runs out.",
        ge=1,
        le=512,
        advanced=True,
    )
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto",
        "Number format of the network. auto: bfloat16 on NVIDIA GPUs from Ampere on, float32 elsewhere.",
        advanced=True,
    )
    device: Device = device_setting()

    def prepare(self, image: PixelSource) -> Self:
        """Find or download the weights, check them, and measure brightness and anisotropy of the whole image.

        Raises
        ------
        ImportError
            If the extra is not installed.
        OSError
            If the weights are missing and cannot be downloaded.
        ValueError
            If there are no such weights, they are not for Cellpose 4, or the image is not 2D or 3D.
        """
        spacing = self._spacing_of(image)
        if len(spacing) not in (2, 3):
            raise ValueError(f"the model 'cellpose' needs images of 2 or 3 spatial axes. This one has {len(spacing)}")
        path = run_outside_viewer(ready_weights, self.weights)
        sha256 = checked_digest(path, [path], self.sha256)
        # Workers may run in another folder.
        weights = str(path) if is_path(self.weights) else self.weights
        update = {"spacing": spacing, "weights": weights, "sha256": sha256, **self._measured(image)}
        return self.model_copy(update=update)

    def suggest(self, image: PixelSource) -> Suggestion:
        """Return a tile that fills network tiles, and a halo of two diameters."""
        spacing = self._spacing_of(image)
        if len(spacing) not in (2, 3):
            return Suggestion(None, (0,) * len(spacing))
        halo = [math.ceil(n) for n in per_axis(2 * self.diameter, spacing)]
        if self.mode == "planes" and len(halo) == 3:
            # One shared plane is enough: no object continues in the next plane.
            halo[0] = 1
        return Suggestion(suggested_tile(self, image.spatial_shape, spacing, halo), tuple(halo))

    def load(self) -> Segmenter:
        """Load the network on this process's device.

        Raises
        ------
        RuntimeError
            If the model is not prepared, or its device is not there.
        OSError
            If the weights are not on this machine: workers never download.
        """
        self._require("spacing", "low", "high", "sha256")
        from .segmenter import CellposeSegmenter

        import_cellpose()
        path = find_weights(self.weights)
        if not path.is_file():
            raise FileNotFoundError(
                f"the weights {self.weights!r} are not on this worker's machine (no file {path}), and workers do not "
                "download. Let CELLPOSE_LOCAL_MODELS_PATH name a folder that all machines share"
            )
        checked_digest(path, [path], self.sha256)
        return CellposeSegmenter(self, path)

    @property
    def scale(self) -> float:
        """Factor by which Cellpose scales y and x."""
        return NETWORK_DIAMETER / self.plane_diameter(self.spacing)

    def scales(self, spacing: Sequence[float]) -> list[float]:
        """Return the factor by which each axis is scaled on its way to the network."""
        plane = NETWORK_DIAMETER / self.plane_diameter(spacing)
        if len(spacing) == 2:
            return [plane, plane]
        return [plane * spacing[0] / spacing[-1] if self.mode == "3d" else 1.0, plane, plane]

    def plane_diameter(self, spacing: Sequence[float] | None) -> float:
        """Return the diameter in pixels of a plane, the unit of Cellpose."""
        return self.diameter / (spacing[-1] if spacing else 1.0)
