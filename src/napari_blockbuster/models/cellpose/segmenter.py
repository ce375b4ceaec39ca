"""Run Cellpose on one tile."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np

from napari_blockbuster.models.networks.base import NetworkSegmenter
from napari_blockbuster.models.networks.device import Device, choose_device, fast_in_bfloat16, limit_torch_threads
from napari_blockbuster.models.networks.memory import is_out_of_memory, retry_in_memory
from napari_blockbuster.models.spacing import check_channels

from .batch import BATCHES, fastest_batch
from .imports import import_cellpose
from .memory import Footprint, check_share, measure
from .tile import NETWORK_DIAMETER

__all__ = ["CellposeSegmenter"]

Result = TypeVar("Result")

LEAST = 4
"""Least length of an axis in pixels, also at the network's scale. Thinner tiles are padded with background."""


class CellposeSettings(Protocol):
    """Prepared settings that the segmenter reads."""

    spacing: tuple[float, ...] | None
    mode: Literal["3d", "stitch", "planes"]
    cellprob_threshold: float
    flow_threshold: float
    stitch_threshold: float
    flow_smoothing: float
    niter: int | None
    invert: bool
    batch_size: int | None
    precision: Literal["auto", "float32", "bfloat16"]
    device: Device

    @property
    def ranges(self) -> list[tuple[float, float]]: ...

    @property
    def scale(self) -> float: ...

    def plane_diameter(self, spacing: Sequence[float] | None) -> float: ...


class _Flows(NamedTuple):
    """What the network says of each voxel: the flow along each axis (float32), and whether it belongs to an object."""

    along: np.ndarray
    likely: np.ndarray


class CellposeSegmenter(NetworkSegmenter):
    """A network on a device, with the settings that it runs with."""

    def __init__(self, settings: CellposeSettings, weights: Path) -> None:
        models: Any = import_cellpose()
        _limit_threads()
        self._settings = settings
        device = choose_device(settings.device)
        low_precision = settings.precision == "bfloat16" or (settings.precision == "auto" and fast_in_bfloat16(device))
        self._cellpose: Any = models.CellposeModel(
            gpu=device.type != "cpu", device=device, pretrained_model=str(weights), use_bfloat16=low_precision
        )
        self.footprint = self._measured()
        check_share(self.footprint, device)
        self._batch_size = self._fitting_batch(settings.batch_size)
        self.network_tiles = 0
        self._cellpose.net.register_forward_pre_hook(self._count)

    def _count(self, _: Any, inputs: tuple[Any, ...]) -> None:
        self.network_tiles += len(inputs[0])

    @property
    def device(self) -> Any:
        """The torch device that the network is on."""
        return self._cellpose.device

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        """Return the labels of a tile, with channels as the last axis if there are several. Does not change the tile."""
        return self.begin(tile)()

    def begin(self, tile: np.ndarray) -> Callable[[], np.ndarray]:
        """Run the network on a tile. The returned callable makes labels of its flows, which takes about as long."""
        check_channels(tile, self._settings.spacing, len(self._settings.ranges))
        pixels = tile if len(self._settings.ranges) > 1 else tile[..., None]
        shape = pixels.shape[:-1]
        volume = len(shape) == 3 and self._settings.mode == "3d"
        # Cellpose normalizes in place, so every attempt needs its own copy.
        flows = self._in_memory(lambda: self._flows(self._float_copy(pixels, volume), volume), self._halve_batch, shape)
        follow = self._volume if volume else self._planes
        return lambda: self._in_memory(lambda: follow(flows, shape), _nothing_to_shrink, shape).reshape(shape)

    def _in_memory(self, run: Callable[[], Result], shrink: Callable[[], bool], shape: tuple[int, ...]) -> Result:
        return retry_in_memory(
            run,
            shrink,
            lambda reason: (
                f"Cellpose ran out of memory on {self.device} with a tile of {shape} voxels, also with "
                f"batch_size={self._batch_size} ({reason}). Use smaller tiles (tile_shape), a smaller halo or fewer workers"
            ),
        )

    def _halve_batch(self) -> bool:
        """Halve the batch for this tile and all that follow. Returns False at a batch of one."""
        if self._batch_size == 1:
            return False
        self._batch_size //= 2
        return True

    def _float_copy(self, tile: np.ndarray, volume: bool) -> np.ndarray:
        """Return a writable copy: float32, finite, channels last, and at least as long as Cellpose needs along each axis."""
        extent = tile.shape[:-1]
        least = [_at_least(self._settings.scale)] * len(extent)
        if len(extent) == 3:
            least[0] = _at_least(self._settings.scale * self._anisotropy) if volume else 1
        pixels = np.empty((*(max(n, m) for n, m in zip(extent, least, strict=True)), tile.shape[-1]), np.float32)
        for channel, (low, high) in enumerate(self._settings.ranges):
            dark = high if self._settings.invert else low
            pixels[..., channel] = dark
            part = pixels[..., channel][tuple(map(slice, extent))]
            part[...] = tile[..., channel]
            if tile.dtype.kind == "f":
                np.nan_to_num(part, copy=False, nan=dark, posinf=high, neginf=low)
        return pixels

    @property
    def _anisotropy(self) -> float:
        spacing = self._settings.spacing
        assert spacing is not None
        return spacing[0] / spacing[-1]

    def _flows(self, pixels: np.ndarray, volume: bool) -> _Flows:
        """Run the network on a volume, or on each plane, and return what it says of each voxel."""
        s = self._settings
        how: dict[str, Any] = {"channel_axis": 3}
        if volume:
            how |= {"z_axis": 0, "do_3D": True, "anisotropy": self._anisotropy, "flow3D_smooth": s.flow_smoothing}
        else:
            pixels = pixels.reshape((-1, *pixels.shape[-3:]))
        _, found, _ = self._cellpose.eval(
            pixels,
            batch_size=self._batch_size,
            normalize=self._normalization(volume),
            diameter=s.plane_diameter(s.spacing),
            compute_masks=False,
            **how,
        )
        # Cellpose drops axes of extent 1.
        shape = pixels.shape[:3]
        return _Flows(found[1].reshape((3 if volume else 2, *shape)), found[2].reshape(shape))

    def _masks(self, flows: np.ndarray, likely: np.ndarray) -> np.ndarray:
        """Let pixels follow the flows of a plane or volume; those that end together are an object."""
        from cellpose import dynamics

        s = self._settings
        volume = len(flows) == 3
        labels: np.ndarray = dynamics.resize_and_compute_masks(
            flows,
            likely,
            niter=s.niter or int(200 / (NETWORK_DIAMETER / s.plane_diameter(s.spacing))),
            cellprob_threshold=s.cellprob_threshold,
            # No object may be removed because a tile's border cuts it. Sizes are filtered after the merge, flows below.
            flow_threshold=0.0,
            min_size=-1,
            max_size_fraction=1.0,
            do_3D=volume,
            device=self._cpu if volume and self.device.type == "mps" else self.device,
        )
        return labels

    @property
    def _cpu(self) -> Any:
        import torch

        return torch.device("cpu")

    def _normalization(self, volume: bool) -> dict[str, Any]:
        # All entries every time: Cellpose takes missing ones from a dictionary that all its models share.
        return {
            "lowhigh": [list(pair) for pair in self._settings.ranges],
            "percentile": None,
            "normalize": True,
            "norm3D": volume,
            "sharpen_radius": 0,
            "smooth_radius": 0,
            "tile_norm_blocksize": 0,
            "tile_norm_smooth3D": 1,
            "invert": self._settings.invert,
        }

    def _volume(self, flows: _Flows, shape: tuple[int, ...]) -> np.ndarray:
        return self._masks(*flows)[tuple(map(slice, shape))]

    def _planes(self, flows: _Flows, shape: tuple[int, ...]) -> np.ndarray:
        """Return labels of planes that are stitched along z or unique to each plane."""
        cut = tuple(map(slice, shape[-2:]))
        labels = np.empty((len(flows.likely), *shape[-2:]), np.uint32)
        for z in range(len(labels)):
            along = flows.along[:, z]
            labels[z] = self._without_unlikely(self._masks(along, flows.likely[z])[cut], along[(slice(None), *cut)])
        if len(labels) > 1 and self._settings.mode == "stitch":
            return self._stitched(labels)
        n = 0
        for plane in labels:
            plane[plane > 0] += n
            n = max(n, int(plane.max(initial=0)))
        return labels

    def _without_unlikely(self, labels: np.ndarray, flows: np.ndarray) -> np.ndarray:
        """Remove objects with wrong flows, except at the border, where flows lead out of the tile."""
        import fastremap
        from cellpose import dynamics

        labels, _ = fastremap.renumber(np.ascontiguousarray(labels), preserve_zero=True)
        labels = labels.astype(np.uint32)
        if self._settings.flow_threshold == 0 or not labels.any():
            return labels
        errors, _ = dynamics.flow_error(labels, flows, self.device)
        kept = np.arange(len(errors) + 1, dtype=np.uint32)
        kept[1:][errors > self._settings.flow_threshold] = 0
        for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            kept[edge] = edge
        labels, _ = fastremap.renumber(kept[labels], preserve_zero=True)
        return labels.astype(np.uint32)

    def _stitched(self, labels: np.ndarray) -> np.ndarray:
        """Join objects of neighboring planes that overlap."""
        from cellpose import utils

        n = 0
        # Stitch between empty planes only: Cellpose's stitching restarts its ids after an empty plane.
        for start, stop in _stretches(np.asarray(labels.any(axis=(1, 2)))):
            part = utils.stitch3D(labels[start:stop], stitch_threshold=self._settings.stitch_threshold)
            labels[start:stop] = np.where(part > 0, part + np.uint32(n), 0)
            n = int(labels[start:stop].max())
        return labels

    # -------------------------------------------------------------- memory
    def _fitting_batch(self, asked: int | None) -> int:
        """Return the batch that was asked for, or the fastest one, as far as it fits into memory."""
        if asked is not None:
            return self.footprint.batch(asked)
        if self.device.type == "cpu":
            # A CPU is no faster with more at once.
            return self.footprint.batch(BATCHES[0])
        return fastest_batch(self._cellpose.net, self._side, len(self._settings.ranges), self.footprint)

    @property
    def _side(self) -> int:
        """Extent of a network tile in pixels: the same choice as in `CellposeModel.eval`."""
        return 256 if self._cellpose.backbone == "sam_vitl" else 384

    def _measured(self) -> Footprint:
        """Measure the memory of the network.

        Raises
        ------
        MemoryError
            If it does not fit with a single network tile.
        """
        side = self._side
        try:
            return measure(self._cellpose.net, self.device, side, len(self._settings.ranges))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryError(
                f"Cellpose's network ran out of memory on {self.device} with a single network tile of {side} x {side} "
                "pixels. Run fewer workers on that device, end other programs that use it, or choose device='cpu'"
            ) from error


def _nothing_to_shrink() -> bool:
    return False


def _limit_threads() -> None:
    """Limit torch and OpenCV to this process's share of the CPUs."""
    import cv2

    cv2.setNumThreads(limit_torch_threads())


def _at_least(scale: float) -> int:
    return max(LEAST, math.ceil(LEAST / scale))


def _stretches(filled: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield start and stop of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], filled, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
