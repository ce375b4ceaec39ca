"""The regions of staged tiles on disk, and which of them touch.

A region is all that is connected, through faces of voxels, of one label or of the background. The first region of a label goes by
the label's id, all others (pieces) are numbered after the labels, so that one look-up relabels everything. All of it follows
from the labels, is made only when holes are to be filled, and is made again for tiles that were staged again. Layout, inside
the stage folder::

    regions/arrays/regions/   uint32, the image's shape: regions 1..n (labels), n+1..n+p (pieces) of each tile's core
    regions/tiles/<tile>.npy  pieces, sizes, faces of the core that each region reaches, contacts; written last
    regions/faces/<tile>.npy  contacts across the faces between a tile and those that come after it
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_blockbuster.geometry.tiles import Tile, browse_chunk
from napari_blockbuster.machine.disk import writing_to
from napari_blockbuster.machine.files import npy_bytes, read_table, write_atomically

from . import label_pairs
from .labels import lookup
from .store import StageStore, create_array, open_array

if TYPE_CHECKING:
    import tensorstore as ts

__all__ = ["RegionStore", "TileRegions", "regions_of", "touching_across"]

NUMBERS = np.dtype("<u4")


@dataclass(frozen=True)
class TileRegions:
    """The regions of one tile.

    Attributes
    ----------
    stamp : int
        Names the marker of the tile that they were made from.
    n_labels : int
    parents : numpy.ndarray
        uint32, the label of each piece; 0 for background.
    sizes : numpy.ndarray
        uint32, voxels of each region, labels first.
    faces : numpy.ndarray
        uint32, for each region a bit for each face of the core that it reaches: bit ``2 * axis`` at the lower
        end of an axis, the next one at the upper end.
    touching : numpy.ndarray
        uint32 of shape (n, 2): regions of the tile that share a face of two voxels.
    """

    stamp: int
    n_labels: int
    parents: np.ndarray
    sizes: np.ndarray
    faces: np.ndarray
    touching: np.ndarray

    def packed(self) -> np.ndarray:
        """As one table of uint32."""
        head = [self.stamp, self.n_labels, len(self.parents)]
        parts = [np.array(head, NUMBERS), self.parents, self.sizes, self.faces, self.touching.reshape(-1)]
        return np.concatenate(parts)

    @classmethod
    def unpacked(cls, table: np.ndarray) -> TileRegions:
        """From what `packed` gave."""
        stamp, n_labels, n_pieces = map(int, table[:3])
        n = n_labels + n_pieces
        parents, sizes, faces, pairs = np.split(table[3:], [n_pieces, n_pieces + n, n_pieces + 2 * n])
        return cls(stamp, n_labels, parents, sizes, faces, pairs.reshape(-1, 2))


@dataclass(frozen=True)
class RegionStore:
    """The regions beside the labels of a stage. A small picklable handle."""

    stage: StageStore

    @property
    def folder(self) -> Path:
        return self.stage.folder / "regions"

    def create(self) -> None:
        """Lay out what is missing."""
        grid = self.stage.grid
        for name in ("tiles", "faces"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        create_array(self._path, grid.shape, grid.tile_shape, browse_chunk(grid.tile_shape))

    @property
    def _path(self) -> Path:
        return self.folder / "arrays" / "regions"

    @property
    def array(self) -> ts.TensorStore:
        """The regions of all tiles that have them, with numbers local to each tile: uint32."""
        grid = self.stage.grid
        return open_array(self._path, grid.shape, grid.tile_shape)

    def read(self, tile: Tile) -> ts.Future[np.ndarray]:
        """Start reading a tile's regions: uint32, shape of the core."""
        return self.array[tile.core.slices].read()

    # ----------------------------------------------------------------- tables
    def stamp(self, index: int) -> int:
        """A number that names the marker of a staged tile: another one once the tile is staged again."""
        return zlib.crc32(self.stage.path("tiles", index).read_bytes())

    def save(self, index: int, found: TileRegions) -> None:
        """Keep a tile's table; its voxels are on disk."""
        self._write("tiles", index, found.packed())

    def load(self, index: int, stamp: int) -> TileRegions | None:
        """A tile's table; None if there is none that can be used."""
        table = self._read("tiles", index)
        if table is None or len(table) < 3 or int(table[0]) != stamp or not self.chunk_file(index).exists():
            return None
        return TileRegions.unpacked(table)

    def holds_for(self, index: int) -> bool:
        """Whether a tile's regions, if it has any that are used, are readable and say the same as its labels."""
        tile = self.stage.grid[index]
        try:
            table = self.load(index, self.stamp(index))
            if table is None:
                return True
            labels = np.concatenate([np.arange(table.n_labels + 1, dtype=np.uint32), table.parents])
            regions = self.read(tile).result()
            return bool(
                regions.max(initial=0) < len(labels)
                and np.array_equal(labels[regions], self.stage.read_labels(tile).result())
            )
        except (ValueError, OSError):
            return False

    def drop(self, index: int) -> None:
        """Forget a tile's table before its voxels are written anew."""
        (self.folder / "tiles" / f"{index}.npy").unlink(missing_ok=True)

    def save_faces(self, index: int, contacts: dict[int, tuple[int, int, np.ndarray]]) -> None:
        """Keep the contacts across a tile's faces: for each axis the stamps of both tiles, and pairs (own, other)."""
        parts = [np.zeros(0, NUMBERS)]
        for axis, (own, other, pairs) in contacts.items():
            parts += [np.array([axis, own, other, len(pairs)], NUMBERS), pairs.reshape(-1)]
        self._write("faces", index, np.concatenate(parts))

    def load_faces(self, index: int) -> dict[int, tuple[int, int, np.ndarray]]:
        """What `save_faces` kept; nothing if it cannot be read."""
        table = self._read("faces", index)
        found: dict[int, tuple[int, int, np.ndarray]] = {}
        at = 0
        while table is not None and at < len(table):
            axis, own, other, n = map(int, table[at : at + 4])
            found[axis] = own, other, table[at + 4 : at + 4 + 2 * n].reshape(-1, 2)
            at += 4 + 2 * n
        return found

    def chunk_file(self, index: int) -> Path:
        """The file that holds a tile's voxels."""
        return self._path.joinpath("c", *map(str, self.stage.grid.position(index)))

    def _write(self, kind: str, index: int, table: np.ndarray) -> None:
        table = table.astype(NUMBERS, copy=False)
        checksum = np.array([zlib.crc32(table.tobytes())], NUMBERS)
        with writing_to(self.folder):
            path = self.folder / kind / f"{index}.npy"
            write_atomically(path, npy_bytes(np.concatenate([checksum, table])), durable=False)

    def _read(self, kind: str, index: int) -> np.ndarray | None:
        """A table without its checksum; None if it is missing or damaged, since it can be made again."""
        try:
            table = read_table(self.folder / kind / f"{index}.npy", NUMBERS)
        except (FileNotFoundError, ValueError):
            return None
        return table[1:] if len(table) and int(table[0]) == zlib.crc32(table[1:].tobytes()) else None


# ---------------------------------------------------------------------------------------------------------- of a tile
def regions_of(labels: np.ndarray, n_labels: int, stamp: int, separate_axes: int = 0) -> tuple[np.ndarray, TileRegions]:
    """Number a tile's regions, and find which of them touch.

    Parameters
    ----------
    labels : numpy.ndarray
        uint32, ids 1..n of the tile's core.
    n_labels : int
    stamp : int
        See `TileRegions`.
    separate_axes : int, default 0
        Leading axes (time) of extent 1.

    Returns
    -------
    regions : numpy.ndarray
        uint32, like `labels`, with the pieces as n+1 and so on.
    TileRegions

    Notes
    -----
    Runs of equal voxels along the last axis are joined, slab by slab, by `scipy.sparse.csgraph.connected_components`; then the
    slabs are. Unlike `scipy.ndimage.label`, this takes labels and background in one go, and knows afterwards what touches.
    """
    spatial = labels.reshape(labels.shape[separate_axes:])
    found = _Slabs(spatial)
    component, n = _joined(found.n, found.same)
    label_of = np.zeros(n, NUMBERS)
    label_of[component] = found.labels
    number, parents = _numbered(label_of, n_labels)
    table = np.concatenate([[0], number[component]]).astype(NUMBERS)
    regions = lookup(table, found.image)
    sizes = np.bincount(table[1:], weights=found.sizes, minlength=len(number) + 1)[1:].astype(NUMBERS)
    contacts = table[found.touching + 1]
    touching = _pairs_of(contacts.min(axis=1), contacts.max(axis=1))
    faces = _faces_reached(regions, len(number), separate_axes)
    return regions.reshape(labels.shape), TileRegions(stamp, n_labels, parents, sizes, faces, touching)


def touching_across(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Regions on both sides of a face, from the two planes: uint32 of shape (n, 2), each pair once."""
    return _pairs_of(*_without_repeats(own, other))


class _Slabs:
    """Connected stretches of each slab of an image, and how they lie beside each other.

    Attributes
    ----------
    image : numpy.ndarray
        uint32, the stretch of each voxel, from 1.
    labels, sizes : numpy.ndarray
        Label and voxels of each stretch.
    same, touching : numpy.ndarray
        Pairs of stretches, from 0, that share a face: of one label (they are one region), and of two.
    """

    def __init__(self, labels: np.ndarray) -> None:
        self.image = np.empty(labels.shape, np.uint32)
        self.n = 0
        self._labels: list[np.ndarray] = []
        self._sizes: list[np.ndarray] = []
        self._same, self._touching = [np.zeros((0, 2), NUMBERS)], [np.zeros((0, 2), NUMBERS)]
        for slab in _slabs(labels.shape):
            self._add(labels[slab], self.image[slab])
            if slab.start:
                beside = slice(slab.start - 1, slab.start), slice(slab.start, slab.start + 1)
                low, high = _without_repeats(*(self.image[plane] for plane in beside))
                self._relate(low - 1, high - 1)
        self.labels, self.sizes = np.concatenate(self._labels), np.concatenate(self._sizes)
        self.same, self.touching = np.concatenate(self._same), np.concatenate(self._touching)

    def _add(self, labels: np.ndarray, image: np.ndarray) -> None:
        change = np.ones(labels.shape, bool)
        np.not_equal(labels[..., 1:], labels[..., :-1], out=change[..., 1:])
        starts = np.flatnonzero(change)
        run_labels = labels.reshape(-1)[starts]
        runs = (np.cumsum(change, dtype=np.int32) - 1).reshape(labels.shape)
        follows = np.flatnonzero(starts[1:] % labels.shape[-1]) + 1
        pairs = [np.stack([follows - 1, follows], axis=-1)]
        for axis in range(labels.ndim - 1):
            low, high = (runs[(slice(None),) * axis + (cut,)] for cut in (slice(None, -1), slice(1, None)))
            pairs.append(np.stack(_without_repeats(low, high), axis=-1))
        beside = np.concatenate(pairs)
        is_same = run_labels[beside[:, 0]] == run_labels[beside[:, 1]]
        component, n = _joined(len(starts), beside[is_same])
        own_labels = np.zeros(n, NUMBERS)
        own_labels[component] = run_labels
        self._labels.append(own_labels)
        self._sizes.append(np.bincount(component, np.diff(starts, append=labels.size), n))
        image[...] = (component + self.n + 1).astype(np.uint32)[runs]
        apart = component[beside[~is_same]] + self.n
        self.n += n
        self._touching.append(_pairs_of(apart.min(axis=1), apart.max(axis=1)))

    def _relate(self, low: np.ndarray, high: np.ndarray) -> None:
        pairs = _pairs_of(low, high)
        is_same = np.equal(*self._labels_of(pairs).T)
        self._same.append(pairs[is_same])
        self._touching.append(pairs[~is_same])

    def _labels_of(self, pairs: np.ndarray) -> np.ndarray:
        """Labels of stretches of the last two slabs."""
        last = np.concatenate(self._labels[-2:])
        return last[pairs - np.uint32(self.n - len(last))]


def _slabs(shape: tuple[int, ...], voxels: int = 1 << 18) -> Iterator[slice]:
    """Stretches of the first axis of about this many voxels each: what is worked on at a time stays in the cache."""
    step = max(1, voxels * shape[0] // math.prod(shape))
    return (slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step))


def _joined(n: int, pairs: np.ndarray) -> tuple[np.ndarray, int]:
    """Component of each of n things, and how many components there are."""
    from scipy import sparse

    graph = sparse.coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    n_components, component = sparse.csgraph.connected_components(graph, directed=False)
    return component, int(n_components)


def _numbered(label_of: np.ndarray, n_labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Region number of each component from its label: the label itself for the first one of a label, else a piece."""
    order = np.argsort(label_of, kind="stable")
    ordered = label_of[order]
    is_first = np.diff(ordered, prepend=ordered[:1]) > 0
    is_first[:1] = True
    is_first &= ordered > 0
    number = np.empty(len(label_of), np.int64)
    number[order[is_first]] = ordered[is_first]
    pieces = np.sort(order[~is_first])
    number[pieces] = n_labels + 1 + np.arange(len(pieces))
    return number, label_of[pieces]


def _faces_reached(regions: np.ndarray, n_regions: int, separate_axes: int) -> np.ndarray:
    faces = np.zeros(n_regions + 1, NUMBERS)
    for axis in range(regions.ndim):
        for side, place in enumerate((0, -1)):
            bit = np.uint32(1 << (2 * (axis + separate_axes) + side))
            faces[np.unique(regions[(slice(None),) * axis + (place,)])] |= bit
    return faces[1:]


def _without_repeats(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of two arrays, without those that repeat along the last axis: a tenth of the voxels, or fewer."""
    fresh = np.ones(low.shape, bool)
    np.not_equal(low[..., 1:], low[..., :-1], out=fresh[..., 1:])
    fresh[..., 1:] |= high[..., 1:] != high[..., :-1]
    return low[fresh], high[fresh]


def _pairs_of(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Each pair once, in ascending order."""
    unique = np.unique(label_pairs.pack(low, high))
    return np.stack(label_pairs.unpack(unique), axis=-1).astype(NUMBERS, copy=False)
