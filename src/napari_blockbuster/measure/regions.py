"""Properties that are no sums: each object is visited once, in its bounding box, in the workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_blockbuster.execution.queue import TileQueue
from napari_blockbuster.execution.run import run
from napari_blockbuster.execution.work import Work
from napari_blockbuster.geometry.tiles import Box, TileGrid
from napari_blockbuster.images import ImageSource

from .kept_regions import KeptRegions
from .tile_measurement import LevelImage

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client

__all__ = ["RegionFunction", "RegionMeasures", "check_properties", "measure_regions"]

RegionFunction = Callable[[Any], Mapping[str, float]]
"""From a region (`skimage.measure._regionprops.RegionProperties`) to names and numbers."""
LARGE = 2**25
"""Voxels that the objects of one tile may span together, to be read at once. Otherwise each is read alone."""


PERCENTILE, MEDIAN = "intensity_percentile_", "intensity_median"
PLACED = ("bbox", "centroid", "centroid_weighted", "label", "slice")
"""Properties of a region that say where it is. It is seen alone in its bounding box, so that only the sums know."""


def check_properties(properties: Sequence[str], ndim: int, has_image: bool) -> None:
    """Refuse names that are no properties of a region, or that cannot be measured here.

    Parameters
    ----------
    properties : sequence of str
    ndim : int
        Number of spatial axes.
    has_image : bool
        Whether there are pixels.

    Raises
    ------
    ValueError
    """
    from skimage.measure._regionprops import PROPS

    if properties and ndim < 2:
        raise ValueError(f"The property {properties[0]!r} needs 2 or 3 spatial axes, and the labels have {ndim}.")
    known = sorted(set(PROPS.values()))
    for name in properties:
        is_own = name == MEDIAN or name.startswith(PERCENTILE)
        if is_own:
            _check_percentile(name)
        elif name not in known:
            raise ValueError(
                f"{name!r} is not a property of a region. Use names of skimage.measure.regionprops ({', '.join(known[:6])}, "
                "...), or intensity_percentile_90."
            )
        if not has_image and (is_own or "intensity" in name or "weighted" in name):
            raise ValueError(f"The property {name!r} needs an image. Give one, or leave out the property.")
        if not is_own and name not in PLACED:
            _check_number(name, ndim)


def _check_percentile(name: str) -> None:
    try:
        fits = name == MEDIAN or 0 <= float(name.removeprefix(PERCENTILE)) <= 100
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name!r} is not a percentile. Use a number from 0 to 100, such as {PERCENTILE}90.")


def _check_number(name: str, ndim: int) -> None:
    """Refuse a property that is not a fixed count of numbers in images of this many axes."""
    counts = set()
    for length in (5, 6):
        region = _region(_ball((length,) * ndim), np.ones((length,) * ndim))
        try:
            counts.add(np.asarray(region[name], np.float64).size)
        except NotImplementedError:
            raise ValueError(f"The property {name!r} does not exist for images with {ndim} spatial axes.") from None
        except (TypeError, ValueError):
            counts.add(-1)
    if len(counts) > 1 or -1 in counts:
        raise ValueError(
            f"The property {name!r} is not a fixed number of values per object, so a table has no column for it."
        )


def _ball(shape: tuple[int, ...]) -> np.ndarray:
    """An object that no property refuses: neither flat nor a box."""
    distance = sum((np.indices(shape)[axis] - (n - 1) / 2) ** 2 for axis, n in enumerate(shape))
    return np.asarray(distance <= (min(shape) / 2) ** 2)


def _region(mask: np.ndarray, pixels: np.ndarray | None) -> Any:
    from skimage.measure import regionprops

    return regionprops(mask.astype(np.uint8), pixels)[0]  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class RegionMeasures:
    """What is measured of each object beside its sums.

    Attributes
    ----------
    labels : ImageSource
    image : LevelImage or None
    names : tuple of str
        Names of the channels of the image.
    properties : tuple of str
        Names of properties of a region.
    functions : tuple of callable
        From a region to names and numbers.
    """

    labels: ImageSource
    image: LevelImage | None
    names: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    functions: tuple[RegionFunction, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.properties or self.functions)


def measure_regions(
    table: pd.DataFrame,
    grid: TileGrid,
    measures: RegionMeasures,
    client: Client | None,
    progress: Callable[[int, int], None] | None,
    folder: Path | None = None,
) -> dict[str, np.ndarray]:
    """Return a column for each property, in the order of a table.

    Parameters
    ----------
    table : pandas.DataFrame
        Labels and bounding boxes of the objects, and their time, if there is time. Its columns are not measured again.
    grid : TileGrid
    measures : RegionMeasures
    client : distributed.Client or None
    progress : callable or None
        ``progress(done, total)`` in tiles, in the second half of two passes.
    folder : Path, optional
        Folder in which the values are kept until the end.
    """
    # The table has these from the sums, exact and in the place of the whole image.
    taken = frozenset(map(str, table.columns))
    known = taken | {name.partition("-")[0] for name in taken} | set(PLACED)
    measures = replace(
        measures, properties=tuple(name for name in dict.fromkeys(measures.properties) if name not in known)
    )
    groups = _groups(table, grid)
    kept = KeptRegions(folder, measures.properties, measures.functions)
    found = kept.read()
    waiting = [tile for tile, group in groups.items() if not found.keys() >= set(group.rows.tolist())]
    work = RegionWork(measures, grid.separate_axes, taken, groups)
    for done, rows in enumerate(run(work, TileQueue(waiting), client), 1 + len(groups) - len(waiting)):
        if rows is not None:
            found.update(rows)
            kept.add(rows)
            if progress is not None:
                progress(len(grid) + done * len(grid) // len(groups), 2 * len(grid))
    columns = list(dict.fromkeys(name for row in found.values() for name in row))
    return {name: np.array([found[i].get(name, np.nan) for i in range(len(table))], np.float64) for name in columns}


def _groups(table: pd.DataFrame, grid: TileGrid) -> dict[int, _Group]:
    """Return the objects whose bounding boxes begin in each tile."""
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
    return {
        int(tiles[rows[0]]): _Group(rows, ids[rows], low[rows], high[rows])
        for rows in np.split(order, starts[1:])
        if len(rows)
    }


class _Group(NamedTuple):
    """Objects whose bounding boxes begin in one tile: rows in the table, labels, and corners of their bounding boxes."""

    rows: np.ndarray
    ids: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass
class RegionWork(Work[dict[int, dict[str, float]]]):
    """Visit the objects whose bounding boxes begin in a tile."""

    measures: RegionMeasures
    leading: int
    taken: frozenset[str]
    groups: dict[int, _Group] = field(repr=False)

    @property
    def functions(self) -> Sequence[Callable[..., Any]]:
        return self.measures.functions

    def __getstate__(self) -> dict[str, Any]:
        # Pixels in memory travel with each tile.
        measures = self.measures
        if not self._shippable:
            measures = replace(measures, labels=None, image=None)  # type: ignore[arg-type]
        return self.__dict__ | {"groups": {}, "measures": measures}

    @property
    def _shippable(self) -> bool:
        image = self.measures.image
        return self.measures.labels.shippable and (image is None or image.source.shippable)

    def ahead(self, item: int) -> tuple[_Group, list[_Part] | None]:
        return self.groups[item], None

    def ship(self, item: int) -> tuple[_Group, list[_Part] | None]:
        group = self.groups[item]
        return group, None if self._shippable else [self._part(box, rows) for box, rows in _reads(group)]

    def _part(self, box: Box, rows: np.ndarray) -> _Part:
        """Read a box of labels and image."""
        image = self.measures.image
        labels = self.measures.labels.read(box)
        pixels = None if image is None else image.spread(image.source.read(image.box(box)), box)
        return box, rows, labels, pixels

    def __call__(
        self, item: int, prepared: tuple[_Group, list[_Part] | None]
    ) -> Callable[[], dict[int, dict[str, float]]]:
        group, parts = prepared
        numbers, ids, low, high = group
        found = {}
        for box, rows, labels, pixels in parts or (self._part(*each) for each in _reads(group)):
            for row in rows.tolist():
                inner = Box(tuple(low[row].tolist()), tuple(high[row].tolist())).within(box)
                mask = labels[inner] == ids[row]
                mask = mask.reshape(mask.shape[self.leading :])
                seen = None if pixels is None else pixels[inner].reshape((*mask.shape, *pixels.shape[labels.ndim :]))
                found[int(numbers[row])] = self._values(int(ids[row]), mask, seen)
        return lambda: found

    def _values(self, label: int, mask: np.ndarray, pixels: np.ndarray | None) -> dict[str, float]:
        region = _region(mask, pixels)
        found: dict[str, float] = {}
        for name in self.measures.properties:
            if name.startswith((PERCENTILE, MEDIAN)):
                found |= self._percentile(name, mask, pixels)
                continue
            try:
                found |= self._flat(name, region[name])
            except (ValueError, ZeroDivisionError, IndexError, np.linalg.LinAlgError):
                # Objects of a few voxels have no convex hull or surface. Their value is missing.
                continue
        for function in self.measures.functions:
            found |= self._own_values(function, label, region)
        return found

    def _own_values(self, function: RegionFunction, label: int, region: Any) -> dict[str, float]:
        name = getattr(function, "__name__", type(function).__name__)
        try:
            found = {str(column): float(value) for column, value in function(region).items()}
        except Exception as error:
            raise ValueError(
                f"The function {name} failed on the object with the label {label} ({type(error).__name__}: {error}). It must "
                "return a dict of names and numbers."
            ) from error
        if both := sorted(self.taken & found.keys()):
            raise ValueError(f"The function {name} returns {both[0]!r}, which the table has already. Use another name.")
        return found

    def _percentile(self, name: str, mask: np.ndarray, pixels: np.ndarray | None) -> dict[str, float]:
        if pixels is None:
            return {}
        percent = 50.0 if name == "intensity_median" else float(name.rpartition("_")[2])
        values = pixels[mask].reshape(int(mask.sum()), -1).astype(np.float64)
        # As in the sums, pixels that are not finite do not count.
        finite = (channel[np.isfinite(channel)] for channel in values.T)
        return self._flat(name, [np.percentile(seen, percent) if len(seen) else np.nan for seen in finite])

    def _flat(self, name: str, value: Any) -> dict[str, float]:
        """Name the numbers of a property: by channel for intensities, by their place otherwise."""
        values = np.asarray(value, np.float64).ravel()
        if name.startswith("intensity") and len(values) == len(self.measures.names):
            return {f"{name}-{n}" if n else name: float(v) for n, v in zip(self.measures.names, values, strict=True)}
        if len(values) == 1:
            return {name: float(values[0])}
        return {f"{name}-{k}": float(v) for k, v in enumerate(values)}

    def lost(self, item: int, error: BaseException) -> dict[int, dict[str, float]]:
        raise error


_Part = tuple[Box, np.ndarray, np.ndarray, np.ndarray | None]
"""A box, the rows of the objects in it, its labels and its pixels."""


def _reads(group: _Group) -> list[tuple[Box, np.ndarray]]:
    """Return the boxes to read for a group, and the objects in each."""
    low, high = group.low, group.high
    whole = Box(tuple(low.min(axis=0).tolist()), tuple(high.max(axis=0).tolist()))
    if whole.size <= LARGE:
        return [(whole, np.arange(len(low)))]
    boxes = (Box(tuple(a), tuple(b)) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    return [(box, np.array([row])) for row, box in enumerate(boxes)]
