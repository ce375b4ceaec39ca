"""Sum the labels of any label image over any image, tile by tile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from napari_blockbuster.execution.work import Work
from napari_blockbuster.geometry.tiles import Box, TileGrid
from napari_blockbuster.images import ImageSource
from napari_blockbuster.machine.files import write_atomically
from napari_blockbuster.stage.records.tile_file import TileFile, packed
from napari_blockbuster.stage.sums.label_sums import INTENSITY, PLACE, TileSums, place_rows, tile_sums

__all__ = ["LevelImage", "MeasureWork", "Measurement"]

_IDS = np.dtype("<u8")


class Measurement(NamedTuple):
    """The sums of one tile.

    Attributes
    ----------
    tile : int
    ids : numpy.ndarray
        uint64, the labels in the tile, ascending.
    sums : TileSums
        In the order of `ids`. Faces between two voxels of one label do not count, also across the border of the tile.
    """

    tile: int
    ids: np.ndarray
    sums: TileSums


@dataclass(frozen=True)
class LevelImage:
    """An image that is read in the voxels of a label image: of its shape, or of another level of one pyramid.

    Attributes
    ----------
    source : ImageSource
    shape : tuple of int
        Of the labels.
    """

    source: ImageSource
    shape: tuple[int, ...]

    def box(self, box: Box) -> Box:
        """Return the box of the image with the pixels of a box of the labels."""
        starts, stops = [], []
        for axis, (start, stop) in enumerate(zip(box.start, box.stop, strict=True)):
            places = self._places(axis, start, stop)
            starts.append(int(places[0]))
            stops.append(int(places[-1]) + 1)
        return Box(tuple(starts), tuple(stops))

    def spread(self, pixels: np.ndarray, box: Box) -> np.ndarray:
        """Return the pixel of the image at each voxel of a box of the labels."""
        if self.source.shape == self.shape:
            return pixels
        inner = self.box(box)
        for axis, (start, stop) in enumerate(zip(box.start, box.stop, strict=True)):
            pixels = np.take(pixels, self._places(axis, start, stop) - inner.start[axis], axis=axis)
        return pixels

    def _places(self, axis: int, start: int, stop: int) -> np.ndarray:
        """The pixel under the center of each voxel along an axis."""
        here, there = self.shape[axis], self.source.shape[axis]
        places: np.ndarray = ((2 * np.arange(start, stop) + 1) * there) // (2 * here)
        return places

    def check(self, name: str, axes: Sequence[str]) -> None:
        """Refuse an image that is no level of the same pyramid.

        Parameters
        ----------
        name, axes
            Of the labels.

        Raises
        ------
        ValueError
        """
        if tuple(axes) != tuple(self.source.axes):
            raise ValueError(
                f"The labels {name} have the axes {', '.join(axes)}, and the image {self.source.name} has the axes "
                f"{', '.join(self.source.axes)}. Give an image with the same axes, or name them with axes= and labels_axes= "
                "(--axes, --labels-axes)."
            )
        for axis, here, there in zip(self.source.axes, self.shape, self.source.shape, strict=True):
            factor = max(here, there) / min(here, there)
            whole = max(1, round(factor))
            fits = abs(max(here, there) / whole - min(here, there)) < 1
            if not fits or (axis == "t" and here != there):
                raise ValueError(
                    f"The labels {name} have the shape {self.shape}, and the image {self.source.name} has the shape "
                    f"{self.source.shape}. Give an image of the same shape, or another level of its pyramid."
                )


@dataclass
class MeasureWork(Work[Measurement]):
    """Sum the labels in each tile.

    Attributes
    ----------
    grid : TileGrid
    labels : ImageSource
    image : LevelImage or None
        None: only size, place and shape.
    kept : Path or None
        Folder in which the sums of tiles are kept, to resume.
    """

    grid: TileGrid
    labels: ImageSource
    image: LevelImage | None
    kept: Path | None = None

    @property
    def folder(self) -> Path | None:
        return self.kept

    @property
    def _shippable(self) -> bool:
        return self.labels.shippable and (self.image is None or self.image.source.shippable)

    def __getstate__(self) -> dict[str, Any]:
        if self._shippable:
            return dict(self.__dict__)
        empty = None if self.image is None else LevelImage(_Shape(self.image.source.shape), self.image.shape)  # type: ignore[arg-type]
        return self.__dict__ | {"labels": None, "image": empty}

    def _labels_box(self, item: int) -> Box:
        """The core, and one plane more at its far faces, which may belong to the same labels."""
        core = self.grid[item].core
        leading = self.grid.separate_axes
        stops = (
            stop if axis < leading else min(stop + 1, n)
            for axis, (stop, n) in enumerate(zip(core.stop, self.grid.shape, strict=True))
        )
        return Box(core.start, tuple(stops))

    def ahead(self, item: int) -> Sequence[Callable[[], np.ndarray]]:
        readings = [self.labels.prefetch(self._labels_box(item)).result]
        if self.image is not None:
            readings.append(self.image.source.prefetch(self.image.box(self.grid[item].core)).result)
        return readings

    def ship(self, item: int) -> Sequence[Callable[[], np.ndarray]] | None:
        if self._shippable:
            return None
        parts = [self.labels.part(self._labels_box(item)).read]
        if self.image is not None:
            parts.append(self.image.source.part(self.image.box(self.grid[item].core)).read)
        return parts

    def prepare(self, item: int, payload: Sequence[Callable[[], np.ndarray]] | None) -> list[np.ndarray]:
        return [read() for read in (self.ahead(item) if payload is None else payload)]

    def __call__(self, item: int, prepared: list[np.ndarray]) -> Callable[[], Measurement]:
        core = self.grid[item].core
        pixels = None
        if self.image is not None:
            spread = self.image.spread(prepared[1], core)
            pixels = spread.reshape(spread.shape[self.grid.separate_axes :])
        labels = prepared[0].reshape(prepared[0].shape[self.grid.separate_axes :])
        found = measure_tile(item, labels, core.shape[self.grid.separate_axes :], pixels)
        if self.kept is not None:
            _keep(self.kept, found)
        return lambda: found

    def lost(self, item: int, error: BaseException) -> Measurement:
        raise error


@dataclass(frozen=True)
class _Shape:
    """Stands for an image in a process that gets its pixels."""

    shape: tuple[int, ...]


def measure_tile(index: int, labels: np.ndarray, shape: tuple[int, ...], pixels: np.ndarray | None) -> Measurement:
    """Sum the labels of one tile.

    Parameters
    ----------
    index : int
    labels : numpy.ndarray
        Integers over the spatial axes: the core, and one plane more at far faces that have a neighbor.
    shape : tuple of int
        Of the core.
    pixels : numpy.ndarray or None
        Of the core; several channels are the last axis.
    """
    if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
        raise ValueError(f"The label {labels.min()} is negative. Labels must be 0 (background) or more.")
    inner = tuple(slice(0, n) for n in shape)
    core = np.ascontiguousarray(labels[inner])
    ids, local = _compacted(core)
    sums = tile_sums(local, len(ids), pixels)
    rows = place_rows(len(shape))
    for axis, n in enumerate(shape):
        if labels.shape[axis] > n:
            last = tuple(slice(n - 1, n) if a == axis else s for a, s in enumerate(inner))
            beyond = tuple(slice(n, n + 1) if a == axis else s for a, s in enumerate(inner))
            same = local[last][labels[last] == labels[beyond]]
            # The neighbor counts its side of these faces, so both are subtracted here.
            sums.place[rows.faces][axis] -= 2 * np.bincount(same.ravel(), minlength=len(ids) + 1)[1:]
    return Measurement(index, ids, TileSums(sums.place, sums.intensity, sums.contacts[:0]))


def _compacted(core: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels in ascending order, without background, and the place of each voxel's label, from 1."""
    import fastremap

    unsigned = core.astype(np.uint64) if core.dtype == bool else core
    ids = fastremap.unique(unsigned)
    ids = ids[ids != 0]
    place = np.searchsorted(ids, unsigned) if len(ids) else np.zeros(core.shape, np.int64)
    local = np.where(unsigned != 0, place + 1, 0).astype(np.uint32)
    return ids.astype(_IDS), local


# ------------------------------------------------------------------------------------------------------------- resuming
def _keep(folder: Path, found: Measurement) -> None:
    parts = {"ids": found.ids, **found.sums.parts()}
    record = {"shape": list(found.sums.place.shape), "channels": list(found.sums.intensity.shape)}
    write_atomically(folder / f"{found.tile}.tile", packed(record, parts), durable=False)


def kept_tiles(folder: Path) -> dict[int, Measurement]:
    """Return the sums of tiles that an earlier run kept. Damaged ones are measured again."""
    found = {}
    for path in folder.glob("*.tile"):
        with contextlib.suppress(ValueError, OSError, KeyError):
            file, index = TileFile(str(path)), int(path.stem)
            shape, channels = tuple(file.record["shape"]), tuple(file.record["channels"])
            ids, place = file.part("ids", _IDS), file.part("sums", PLACE)
            intensity = file.part("intensity", INTENSITY)
            sums = TileSums(
                np.zeros(shape, PLACE) if place is None else place,
                np.zeros(channels, INTENSITY) if intensity is None else intensity,
                TileSums.empty(1).contacts,
            )
            found[index] = Measurement(index, np.zeros(0, _IDS) if ids is None else ids, sums)
    return found
