"""Properties that are no sums: each object is visited once, in its bounding box, in the workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_blockbuster.execution.queue import TileQueue
from napari_blockbuster.execution.run import run
from napari_blockbuster.execution.work import Work
from napari_blockbuster.geometry.tiles import Box, TileGrid
from napari_blockbuster.images import ImageSource

from .tile_measurement import LevelImage

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client

__all__ = ["RegionFunction", "check_properties", "measure_regions"]

RegionFunction = Callable[[Any], Mapping[str, float]]
"""From a region (`skimage.measure._regionprops.RegionProperties`) to names and numbers."""
LARGE = 2**25
"""Voxels that the objects of one tile may span together, to be read at once. Otherwise each is read alone."""


def check_properties(properties: Sequence[str]) -> None:
    """Refuse names that are no properties of a region.

    Raises
    ------
    ValueError
    """
    from skimage.measure._regionprops import PROPS

    known = sorted(set(PROPS.values()))
    for name in properties:
        if name not in known and not name.startswith("intensity_percentile_") and name != "intensity_median":
            raise ValueError(
                f"{name!r} is no property of a region. Use names of skimage.measure.regionprops ({', '.join(known[:6])}, "
                "...), or intensity_percentile_90."
            )


def measure_regions(
    table: pd.DataFrame,
    labels: ImageSource,
    image: LevelImage | None,
    grid: TileGrid,
    names: Sequence[str],
    properties: Sequence[str],
    functions: Sequence[RegionFunction],
    client: Client | None,
    progress: Callable[[int, int], None] | None,
) -> dict[str, np.ndarray]:
    """Return a column for each property, in the order of a table. Parameters are those of `measure_label_image`."""
    check_properties(properties)
    ndim, leading = grid.ndim - grid.separate_axes, grid.separate_axes
    corners = table[[f"bbox-{axis}" for axis in range(2 * ndim)]].to_numpy(np.int64)
    times = table["t"].to_numpy(np.int64)[:, None] if leading else np.zeros((len(table), 0), np.int64)
    low = np.concatenate([times, corners[:, :ndim]], axis=1)
    high = np.concatenate([times + 1, corners[:, ndim:]], axis=1)
    places = np.minimum(low // np.array(grid.tile_shape), np.array(grid.grid_shape) - 1)
    tiles = np.ravel_multi_index(tuple(places.T), grid.grid_shape)
    ids = table["label"].to_numpy(np.int64)
    order = np.argsort(tiles, kind="stable")
    starts = np.flatnonzero(np.diff(tiles[order], prepend=-1))
    groups = {
        int(tiles[rows[0]]): (ids[rows], low[rows], high[rows]) for rows in np.split(order, starts[1:]) if len(rows)
    }
    work = RegionWork(labels, image, leading, tuple(names), tuple(properties), tuple(functions), groups)
    found: dict[int, dict[str, float]] = {}
    for done, rows in enumerate(run(work, TileQueue(list(groups)), client), 1):
        if rows is not None:
            found.update(rows)
            if progress is not None:
                progress(len(grid) + done * len(grid) // len(groups), 2 * len(grid))
    columns = list(dict.fromkeys(name for row in found.values() for name in row))
    return {name: np.array([found[i].get(name, np.nan) for i in ids.tolist()], np.float64) for name in columns}


_Group = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Labels of objects, and the lowest and highest corners of their bounding boxes."""


@dataclass
class RegionWork(Work[dict[int, dict[str, float]]]):
    """Visit the objects whose bounding boxes begin in a tile."""

    labels: ImageSource
    image: LevelImage | None
    leading: int
    names: tuple[str, ...]
    properties: tuple[str, ...]
    own: tuple[RegionFunction, ...]
    groups: dict[int, _Group] = field(repr=False)

    @property
    def functions(self) -> Sequence[Callable[..., Any]]:
        return self.own

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"groups": {}, **({} if self._shippable else {"labels": None, "image": None})}

    @property
    def _shippable(self) -> bool:
        return self.labels.shippable and (self.image is None or self.image.source.shippable)

    def ahead(self, item: int) -> tuple[_Group, list[_Part] | None]:
        return self.groups[item], None

    def ship(self, item: int) -> tuple[_Group, list[_Part] | None]:
        group = self.groups[item]
        return group, None if self._shippable else [self._part(box, rows) for box, rows in _reads(group)]

    def _part(self, box: Box, rows: np.ndarray) -> _Part:
        """Read a box of labels and image."""
        labels = self.labels.read(box)
        pixels = None if self.image is None else self.image.spread(self.image.source.read(self.image.box(box)), box)
        return box, rows, labels, pixels

    def __call__(
        self, item: int, prepared: tuple[_Group, list[_Part] | None]
    ) -> Callable[[], dict[int, dict[str, float]]]:
        (ids, low, high), parts = prepared
        found = {}
        for box, rows, labels, pixels in parts or (self._part(*each) for each in _reads((ids, low, high))):
            for row in rows.tolist():
                inner = Box(tuple(low[row].tolist()), tuple(high[row].tolist())).within(box)
                mask = labels[inner] == ids[row]
                mask = mask.reshape(mask.shape[self.leading :])
                seen = None if pixels is None else pixels[inner].reshape((*mask.shape, *pixels.shape[labels.ndim :]))
                found[int(ids[row])] = self._values(mask, seen)
        return lambda: found

    def _values(self, mask: np.ndarray, pixels: np.ndarray | None) -> dict[str, float]:
        from skimage.measure import regionprops

        region: Any = regionprops(mask.astype(np.uint8), pixels)[0]  # type: ignore[no-untyped-call]
        found: dict[str, float] = {}
        for name in self.properties:
            if name.startswith(("intensity_percentile_", "intensity_median")):
                found |= self._percentile(name, mask, pixels)
            else:
                found |= self._flat(name, region[name])
        for function in self.own:
            found |= {str(name): float(value) for name, value in function(region).items()}
        return found

    def _percentile(self, name: str, mask: np.ndarray, pixels: np.ndarray | None) -> dict[str, float]:
        if pixels is None:
            return {}
        percent = 50.0 if name == "intensity_median" else float(name.rpartition("_")[2])
        values = pixels[mask].reshape(int(mask.sum()), -1)
        return self._flat(name, np.nanpercentile(values.astype(np.float64), percent, axis=0))

    def _flat(self, name: str, value: Any) -> dict[str, float]:
        """Name the numbers of a property: by channel for intensities, by their place otherwise."""
        values = np.asarray(value, np.float64).ravel()
        if name.startswith("intensity") and len(values) == len(self.names):
            return {f"{name}-{n}" if n else name: float(v) for n, v in zip(self.names, values, strict=True)}
        if len(values) == 1:
            return {name: float(values[0])}
        return {f"{name}-{k}": float(v) for k, v in enumerate(values)}

    def lost(self, item: int, error: BaseException) -> dict[int, dict[str, float]]:
        raise error


_Part = tuple[Box, np.ndarray, np.ndarray, np.ndarray | None]
"""A box, the rows of the objects in it, its labels and its pixels."""


def _reads(group: _Group) -> list[tuple[Box, np.ndarray]]:
    """Return the boxes to read for a group, and the objects in each."""
    _, low, high = group
    whole = Box(tuple(low.min(axis=0).tolist()), tuple(high.max(axis=0).tolist()))
    if whole.size <= LARGE:
        return [(whole, np.arange(len(low)))]
    boxes = (Box(tuple(a), tuple(b)) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    return [(box, np.array([row])) for row, box in enumerate(boxes)]
