"""Labels of a running job as data for napari: read from the stage, with coarse levels painted in memory.

No Qt. Reading runs in napari's slicing, painting in a worker thread.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from typing import Any

import numpy as np

from napari_blockbuster.geometry.roi import Roi
from napari_blockbuster.geometry.tiles import Box, Tile
from napari_blockbuster.job.job import Job
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.stage.labels import lookup
from napari_blockbuster.widgets.layers.of_image.lazy import LazyView

__all__ = ["LiveLabels"]

IN_MEMORY = 2**24
"""Largest level in voxels that is painted in memory (twice 64 MB as int32)."""
SMALL_PLANE, SMALL_VOLUME = 2**18, 2**22
"""Largest coarsest level in voxels. napari keeps it in memory and makes a thumbnail of it at each refresh."""
CACHED_VOXELS = 2**25
"""Decoded tiles that are cached, in voxels."""


class LiveLabels:
    """Labels of the staged tiles, with numbers that are unique across tiles. After a merge, the merged ids.

    Attributes
    ----------
    levels : list of array_like
        Data of a labels layer. A small image is one array in memory. A large one is a pyramid: coarse levels are in
        memory, fine levels are read from the stage.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.grid = job, job.grid
        self._lock = threading.RLock()
        self._offsets: dict[int, int] = {}
        self._counts: dict[int, int] = {}
        self._parents: dict[int, np.ndarray] = {}
        """For tiles with filled holes, which are read as regions: the label of each piece, 0 for background."""
        self._total = 0
        self._table: np.ndarray | None = None
        self._clip: Roi | None = None
        """Region at whose edge objects are cut; None if they are whole."""
        self._tiles: OrderedDict[tuple[int, int, int], np.ndarray] = OrderedDict()
        self._painted: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.levels: list[Any] = [self._level(factor) for factor in self._factors()]

    # ---------------------------------------------------------------- levels
    def _factors(self) -> list[int]:
        factors = [1]
        while self._voxels(factors[-1]) > SMALL_VOLUME or math.prod(self.shape(factors[-1])[-2:]) > SMALL_PLANE:
            factors.append(factors[-1] * 2)
        return factors

    def _voxels(self, factor: int) -> int:
        return int(np.prod([float(n) for n in self.shape(factor)]))

    def shape(self, factor: int) -> tuple[int, ...]:
        """Return the shape of the level with every `factor`-th voxel along the spatial axes."""
        return tuple(-(-n // f) for n, f in zip(self.grid.shape, self.steps(factor), strict=True))

    def steps(self, factor: int) -> tuple[int, ...]:
        frames = self.grid.separate_axes
        return (1,) * frames + tuple(min(factor, n) for n in self.grid.shape[frames:])

    def _level(self, factor: int) -> Any:
        if self._voxels(factor) <= IN_MEMORY:
            shown = np.zeros(self.shape(factor), np.int32)
            # Keep the numbers of the tiles next to the displayed ids, because each merge starts from the tiles.
            self._painted[factor] = np.zeros_like(shown), shown
            return shown
        return LazyView(self.shape(factor), np.int32, lambda box: self.read(box, factor))

    @property
    def multiscale(self) -> bool:
        return len(self.levels) > 1

    # --------------------------------------------------------------- painting
    def land(self, tile: Tile, n_objects: int) -> None:
        """Number and paint the labels of a staged tile. It reads the tile: call it in a worker thread."""
        with self._lock:
            known = tile.index in self._counts
            # The labels of a tile that was segmented again get new numbers.
            if self._counts.get(tile.index) != n_objects or tile.index in self._parents:
                self._parents.pop(tile.index, None)
                self._offsets[tile.index], self._counts[tile.index] = self._total, n_objects
                self._total += n_objects
            self._forget(tile.index)
        if n_objects or known:
            local = self.job.tiles.read_labels(tile)
            for factor in self._painted:
                self._paint(tile, factor, local)

    def remove(self, tile: Tile) -> None:
        """Show a tile as background, because it is no longer staged. For a worker thread."""
        with self._lock:
            for kept in (self._counts, self._offsets, self._parents):
                kept.pop(tile.index, None)
            self._forget(tile.index)
        for factor, arrays in self._painted.items():
            for array in arrays:
                array[self._reduced(tile.core, factor).slices] = 0

    def _paint(self, tile: Tile, factor: int, local: np.ndarray) -> None:
        box = self._reduced(tile.core, factor)
        numbers = _number(local[self._kept(tile, factor)], self._offsets[tile.index])
        kept, shown = self._painted[factor]
        kept[box.slices] = numbers
        table = self._table
        shown[box.slices] = numbers if table is None or numbers.max(initial=0) >= len(table) else table[numbers]

    def merge(self, merged: Merge | None) -> None:
        """Show merged ids; with None, the numbers of the tiles. Call it in a worker thread.

        Only tiles in which holes are filled for the first time are read.
        """
        fresh = self._number_regions(merged)
        with self._lock:
            # Update both under the lock, so that no reader combines new numbers with the old table.
            for index, (offset, parents) in fresh.items():
                self._offsets[index], self._parents[index] = offset, parents
                self._total = offset + self._counts[index] + len(parents)
                self._forget(index)
            table = self._table = self._merged_table(merged) if merged is not None or self._parents else None
            self._clip = None if merged is None else merged.clip
        for factor, (kept, shown) in self._painted.items():
            np.copyto(shown, kept if table is None else np.take(table, kept, mode="clip"))
            if self._clip is not None:
                for index in list(self._counts):
                    tile = self.grid[index]
                    shown[self._reduced(tile.core, factor).slices] *= self._inside(tile, factor)

    def _inside(self, tile: Tile, factor: int) -> np.ndarray:
        """Return which voxels of a tile are shown at a level, if objects are cut at the edge of a region."""
        inside = np.ones(tile.core.shape, bool) if self._clip is None else self._clip.mask(tile.core)
        return inside[self._kept(tile, factor)]

    def _number_regions(self, merged: Merge | None) -> dict[int, tuple[int, np.ndarray]]:
        """Number the regions of tiles with filled holes, above all numbers so far, and store them for painting."""
        fresh: dict[int, tuple[int, np.ndarray]] = {}
        if merged is None or merged.filled is None:
            return fresh
        total = self._total
        for index in merged.filled.tiles.tolist():
            if index in self._parents or index not in self._offsets:
                continue
            tile, parents = self.grid[index], merged.filled.labels_of_pieces(index)
            fresh[index] = total, parents
            if self._painted:
                local = self.job.tiles.read_regions(tile)
                for factor, (kept, _) in self._painted.items():
                    kept[self._reduced(tile.core, factor).slices] = _number(local[self._kept(tile, factor)], total)
            total += self._counts[index] + len(parents)
        return fresh

    def _merged_table(self, merged: Merge | None) -> np.ndarray:
        with self._lock:
            table = np.zeros(self._total + 1, np.int32)
            for index, offset in self._offsets.items():
                own = self._table_of(index, offset, merged)
                table[offset + 1 : offset + len(own)] = own[1:]
        return table

    def _table_of(self, index: int, offset: int, merged: Merge | None) -> np.ndarray:
        """Return the id of each label of a tile, and of each piece of a tile that is read as regions."""
        n, parents = self._counts[index], self._parents.get(index, np.zeros(0, np.uint32))
        if merged is not None and merged.labels_table.counts[index] == n:
            own = merged.table(index)
        else:
            # Staged after this merge: the tile keeps its numbers, above those of merged objects.
            own = np.concatenate([[0], (0 if merged is None else merged.n_objects) + offset + np.arange(1, n + 1)])
        pieces = own[n + 1 :] if len(own) > n + 1 else own[parents]
        return np.concatenate([own[: n + 1], pieces[: len(parents)]])

    # ---------------------------------------------------------------- reading
    def _reduced(self, box: Box, factor: int) -> Box:
        steps = self.steps(factor)
        return Box(
            tuple(-(-a // s) for a, s in zip(box.start, steps, strict=True)),
            tuple(-(-b // s) for b, s in zip(box.stop, steps, strict=True)),
        )

    def _kept(self, tile: Tile, factor: int) -> tuple[slice, ...]:
        """Return the voxels of a tile that a level shows: the first of each block, counted from the image's origin."""
        found = []
        for start, stop, step in zip(tile.core.start, tile.core.stop, self.steps(factor), strict=True):
            first = -(-start // step) * step
            found.append(slice(first - start, max(stop - start, 0), step) if first < stop else slice(0, 0))
        return tuple(found)

    def _source(self, index: int) -> tuple[Any, int]:
        """Return the array that a tile is read from, and the offset of its numbers."""
        with self._lock:
            return self.job.tiles.array(regions=index in self._parents), self._offsets[index]

    def _numbered(self, tile: Tile, factor: int) -> np.ndarray:
        """Return the numbered labels of a tile at a coarse level, cached for the next plane or pan."""
        array, offset = self._source(tile.index)
        key = tile.index, factor, offset
        with self._lock:
            cached = self._tiles.get(key)
        if cached is None:
            local = array[tile.core.slices].read().result()[self._kept(tile, factor)]
            cached = _number(local, offset)
            self._remember(key, cached)
        return cached

    def _remember(self, key: tuple[int, int, int], numbers: np.ndarray) -> None:
        with self._lock:
            self._tiles[key] = numbers
            while sum(a.size for a in self._tiles.values()) > CACHED_VOXELS and len(self._tiles) > 1:
                self._tiles.popitem(last=False)

    def _forget(self, index: int) -> None:
        for key in [k for k in self._tiles if k[0] == index]:
            del self._tiles[key]

    def read(self, box: Box, factor: int) -> np.ndarray:
        """Return the labels in a box of a level: int32. Only staged tiles are read."""
        result = np.zeros(box.shape, np.int32)
        steps = self.steps(factor)
        full = Box(
            tuple(a * s for a, s in zip(box.start, steps, strict=True)),
            tuple(min((b - 1) * s + 1, n) for b, s, n in zip(box.stop, steps, self.grid.shape, strict=True)),
        )
        with self._lock:
            tiles = [i for i in self.grid.tiles_in(full) if self._counts.get(i) or i in self._parents]
        for index in tiles:
            self._read_tile(self.grid[index], box, factor, result)
        return result

    def _read_tile(self, tile: Tile, box: Box, factor: int, result: np.ndarray) -> None:
        part = self._reduced(tile.core, factor)
        both = part.intersection(box)
        if not both.size:
            return
        if factor == 1:
            array, offset = self._source(tile.index)
            values = _number(array[both.slices].read().result(), offset)
        else:
            values = self._numbered(tile, factor)[both.within(part)]
        table = self._table
        if table is not None and values.max(initial=0) < len(table):
            values = lookup(table, values)
            if self._clip is not None:
                values = values * self._inside(tile, factor)[both.within(part)]
        result[both.within(box)] = values


def _number(local: np.ndarray, offset: int) -> np.ndarray:
    """Return labels or regions of a tile, numbered from an offset: int32."""
    numbers = local.astype(np.int32)
    numbers[local > 0] += np.int32(offset)
    return numbers
