"""Cellpose 4: networks for cells and nuclei of all kinds, in 2D and 3D. An extra: ``napari-blockbuster[cellpose]``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import model_validator

from napari_blockbuster.models.base import PixelSource, Segmenter, Suggestion, setting
from napari_blockbuster.models.brightness import measure_range
from napari_blockbuster.models.child_process import run_outside_viewer
from napari_blockbuster.models.device import Device, device_setting
from napari_blockbuster.models.network import NetworkModel
from napari_blockbuster.models.spacing import per_axis
from napari_blockbuster.models.weights import checked_digest

from .imports import import_cellpose
from .tile import suggested_tile
from .weights import find_weights, is_path, ready_weights

__all__ = ["Cellpose"]

NETWORK_DIAMETER = 30.0
"""Pixels across an object, in the image that the network gets."""


class Cellpose(NetworkModel):
    """Cellpose 4 (Stringer & Pachitariu; Cellpose-SAM 2025, bioRxiv 2025.04.28.651001), called tile by tile.

    What differs from calling it on its own: brightness is normalised with percentiles of the whole image; nothing is
    deleted for its size, nor for its flows if a tile's border cuts it; nothing is downloaded once the run has begun.
    """

    family: ClassVar[str] = "cellpose"
    summary: ClassVar[str] = "Cellpose 4 (needs its weights; a GPU is advised)"
    packages: ClassVar[tuple[str, ...]] = ("cellpose", "torch", "scipy")
    most_channels: ClassVar[int] = 3
    PERCENTILES: ClassVar[tuple[float, float]] = (1.0, 99.0)

    weights: str = setting(
        "cpsam_v2",
        "Name (cpsam_v2, cpsam, cpdino, cpdino-vitb, or one added in Cellpose), or the path of a file of weights.",
        min_length=1,
    )
    diameter: float = setting(
        NETWORK_DIAMETER,
        "Diameter of a typical object, in voxels of the finest axis; the image is scaled so that it becomes 30.",
        unit="px",
        ge=2,
        le=2000,
    )
    mode: Literal["3d", "stitch", "planes"] = setting(
        "3d",
        "Stacks: in 3D at once, in 2D and stitched along z, or every plane on its own. Without effect on 2D images.",
    )
    cellprob_threshold: float = setting(
        0.0, "Lower finds more and larger objects, higher fewer and smaller ones.", ge=-20, le=20
    )
    flow_threshold: float = setting(
        0.4,
        "2D: objects whose flows differ more than this from those of their shape are left out, unless a tile's border "
        "cuts them. Lower is stricter; 0 keeps all.",
        ge=0,
        le=10,
    )
    stitch_threshold: float = setting(
        0.25,
        "Stitching: overlap (intersection over union) from which objects of neighbouring planes are one.",
        ge=0.01,
        le=1,
        advanced=True,
    )
    flow_smoothing: float = setting(
        0.0,
        "3D: standard deviation of a Gaussian over the flows; above 0 it mends objects that fall apart.",
        unit="px",
        ge=0,
        le=20,
        advanced=True,
    )
    niter: int | None = setting(
        None,
        "Steps that pixels follow the flows; long thin objects need more (2000). Empty: from the diameter.",
        ge=1,
        le=100_000,
        advanced=True,
    )
    invert: bool = setting(False, "Objects are darker than their surroundings.", advanced=True)
    more_lows: tuple[float, ...] | None = setting(
        None,
        "Where several channels are segmented together: what becomes 0 in the second and the third. Empty: measured.",
        unit="grey value",
        advanced=True,
        max_length=2,
    )
    more_highs: tuple[float, ...] | None = setting(
        None,
        "Where several channels are segmented together: what becomes 1 in the second and the third. Empty: measured.",
        unit="grey value",
        advanced=True,
        max_length=2,
    )
    batch_size: int = setting(
        8,
        "Network tiles (256 x 256) at once; halved by itself where memory runs out.",
        ge=1,
        le=512,
        advanced=True,
    )
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto",
        "Numbers in the network. auto: bfloat16 on NVIDIA GPUs from Ampere on, float32 elsewhere (slow otherwise).",
        advanced=True,
    )
    device: Device = device_setting()

    @model_validator(mode="after")
    def _check_more_ranges(self) -> Self:
        if self.more_lows is not None and self.more_highs is not None:
            if len(self.more_lows) != len(self.more_highs):
                raise ValueError(
                    f"more_lows is {self.more_lows} and more_highs is {self.more_highs}; give a number each for every "
                    "channel after the first"
                )
            if any(a >= b for a, b in zip(self.more_lows, self.more_highs, strict=True)):
                raise ValueError(f"more_highs is {self.more_highs}; each must be above its low of {self.more_lows}")
        return self

    def prepare(self, image: PixelSource) -> Self:
        """Get the weights, check them, and measure brightness and anisotropy of the whole image.

        Raises
        ------
        ImportError
            If the extra is not installed.
        OSError
            If the weights are not there and cannot be downloaded.
        ValueError
            If there are no such weights, they are not of Cellpose 4, or the image is not 2D or 3D.
        """
        spacing = self._spacing_of(image)
        if len(spacing) not in (2, 3):
            raise ValueError(f"the model 'cellpose' needs images of 2 or 3 spatial axes; this one has {len(spacing)}")
        path = run_outside_viewer(ready_weights, self.weights)
        sha256 = checked_digest(path, [path], self.sha256)
        ranges = self._ranges(image)
        # Workers may run in another folder.
        weights = str(path) if is_path(self.weights) else self.weights
        update = {"spacing": spacing, "weights": weights, "sha256": sha256, "low": ranges[0][0], "high": ranges[0][1]}
        if len(ranges) > 1:
            lows, highs = zip(*ranges[1:], strict=True)
            update |= {"more_lows": lows, "more_highs": highs}
        return self.model_copy(update=update)

    def suggest(self, image: PixelSource) -> Suggestion:
        """Tiles that fill the network's own tiles, and a halo of two diameters."""
        spacing = self._spacing_of(image)
        if len(spacing) not in (2, 3):
            return Suggestion(None, (0,) * len(spacing))
        halo = [math.ceil(n) for n in per_axis(2 * self.diameter, spacing)]
        if self.mode == "planes" and len(halo) == 3:
            # One plane that both tiles segment is enough to see that no object goes on in the next.
            halo[0] = 1
        return Suggestion(suggested_tile(self, image.spatial_shape, spacing, halo), tuple(halo))

    def load(self) -> Segmenter:
        """The segmenter: the network on this process's device.

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
                "download; let CELLPOSE_LOCAL_MODELS_PATH name a folder that all machines share"
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
        """The diameter in pixels of a plane, which is Cellpose's unit."""
        return self.diameter / (spacing[-1] if spacing else 1.0)

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """What becomes 0 and 1 in each channel, once prepared."""
        assert self.low is not None
        assert self.high is not None
        return [(self.low, self.high), *zip(self.more_lows or (), self.more_highs or (), strict=True)]

    def _ranges(self, image: PixelSource) -> list[tuple[float, float]]:
        """What the user gave, and what was measured for the rest, for each channel."""
        given = [(self.low, self.high)]
        for name, values in (("more_lows", self.more_lows), ("more_highs", self.more_highs)):
            if values is not None and len(values) != image.n_channels - 1:
                raise ValueError(f"{name} is {values}; the image has {image.n_channels - 1} channels after the first")
        rest = (None,) * (image.n_channels - 1)
        given += zip(self.more_lows or rest, self.more_highs or rest, strict=True)
        if all(low is not None and high is not None for low, high in given):
            blocks: list[np.ndarray] = []
        else:
            shape = (-1, image.n_channels)
            blocks = [block.reshape(shape) for block in image.sample_blocks()]
        return [
            measure_range([block[:, i] for block in blocks], self.PERCENTILES, *asked) for i, asked in enumerate(given)
        ]
