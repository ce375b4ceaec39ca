"""Table of merged objects, from the sums of their labels: no voxel is read.

Names are those of `skimage.measure.regionprops_table` where it has them, and the values are equal. Columns in world units end
with the unit (``_um``, ``_um2``, ``_um3``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.merge.rules import band_iou, face_iou
from napari_blockbuster.stage.sums.label_sums import COUNT, HIGHEST, LOWEST, SQUARES, SUM, WEIGHTED, place_rows
from napari_blockbuster.stage.tables.sum_table import SumTable

from .groups import Groups
from .shapes import axis_lengths, ball_diameter, principal_variances
from .space import Space

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["OtherVoxelsError", "object_table", "seam_table"]

Columns = dict[str, np.ndarray]


class OtherVoxelsError(ValueError):
    """Objects of a merge have filled holes or are cut at the edge of a region: staged sums know nothing of that."""


def object_table(
    merged: Merge,
    sums: SumTable,
    space: Space | None = None,
    *,
    channels: Sequence[str] = (),
    alarms: Mapping[int, int] | None = None,
) -> pd.DataFrame:
    """Return one row for each object, in the order of their ids.

    Parameters
    ----------
    merged : Merge
        Without filled holes.
    sums : SumTable
        The sums of the same tiles.
    space : Space, optional
        Adds columns in world units.
    channels : sequence of str, optional
        Names of the measured channels. Default: their numbers.
    alarms : mapping of int to int, optional
        Number of alarms of an object, by its id. Adds the column ``alarms``.

    Returns
    -------
    pandas.DataFrame
        See `docs/table.md` for each column. Integers are exact.

    Raises
    ------
    ValueError
        If `sums` holds other tiles than `merged`, or if holes are filled or objects are cut at the edge of a region: the sums
        know nothing of that.
    """
    import pandas as pd

    if not np.array_equal(sums.counts, merged.labels_table.counts):
        raise ValueError("Tiles were staged after this merge. Call merge() again.")
    if merged.filled is not None:
        raise OtherVoxelsError(
            "This merge has filled holes, and the sums of the tiles do not include them. "
            "Write the labels: the result has a table, for which the tiles are read again."
        )
    if merged.clip is not None:
        raise OtherVoxelsError(
            "This merge cuts objects at the edge of a region of interest, and the sums of the tiles are of whole objects. "
            "Write the labels: the result has a table, for which they are measured."
        )
    groups = Groups.of(merged.new_ids[1:])
    names = list(channels) if len(channels) == sums.n_channels else [str(k) for k in range(sums.n_channels)]
    places, intensities = _of_voxels(groups, merged, sums, space, tuple(f"-{name}" if name else "" for name in names))
    columns: Columns = {"label": groups.ids} | places | _seams(groups, merged, sums.tiles)
    if alarms is not None:
        columns["alarms"] = np.array([alarms.get(label, 0) for label in groups.ids.tolist()], np.int64)
    return pd.DataFrame(columns | intensities, copy=False)


def seam_table(merged: Merge) -> pd.DataFrame:
    """Return the columns of the table that come from the merge and not from voxels, with the labels."""
    import pandas as pd

    groups = Groups.of(merged.new_ids[1:])
    counts = merged.labels_table.counts
    return pd.DataFrame({"label": groups.ids} | _seams(groups, merged, np.repeat(np.arange(len(counts)), counts)))


def _of_voxels(
    groups: Groups, merged: Merge, sums: SumTable, space: Space | None, endings: tuple[str, ...]
) -> tuple[Columns, Columns]:
    """Return the columns of places and of intensities. Those of objects with one label hold for every merge."""
    key = space, endings
    if key not in sums.cache:
        sums.cache.clear()
        sums.cache[key] = _computed(Groups.of_labels(len(merged.new_ids) - 1), merged, sums, space, endings)
    places, intensities = (_rows(part, groups.first) for part in sums.cache[key])
    if len(groups.several):
        of_several = _computed(groups.only_several(), merged, sums, space, endings)
        for columns, part in zip((places, intensities), of_several, strict=True):
            for name, values in part.items():
                columns[name][groups.several] = values
    return places, intensities


def _rows(columns: Columns, rows: np.ndarray) -> Columns:
    return {name: values[rows] for name, values in columns.items()}


def _computed(
    groups: Groups, merged: Merge, sums: SumTable, space: Space | None, endings: tuple[str, ...]
) -> tuple[Columns, Columns]:
    intensities: Columns = {}
    for channel, ending in enumerate(endings):
        intensities |= _intensities(groups, sums, channel, ending)
    return _places(groups, merged, sums, space), intensities


# -------------------------------------------------------------------------------------------------------------- places
def _places(groups: Groups, merged: Merge, sums: SumTable, space: Space | None) -> Columns:
    ndim, rows, place = sums.ndim, place_rows(sums.ndim), sums.sums.place
    origins = sums.origins[sums.grid.separate_axes :]
    area = groups.total(place[0])
    columns: Columns = {}
    if sums.grid.separate_axes:
        columns["t"] = groups.lowest(sums.origins[0])
    columns["area"] = area
    if space is not None and space.unit:
        columns[space.named("volume" if ndim == 3 else "area", ndim)] = area * math.prod(space.spacing)
    first = [groups.total(partial(_moved, place[rows.first][k], origins[k], place[0])) for k in range(ndim)]
    base = [total // area for total in first]
    rest = [(total - area * b) / area for total, b in zip(first, base, strict=True)]
    for k in range(ndim):
        columns[f"centroid-{k}"] = base[k] + rest[k]
    if space is not None and space.unit:
        for k in range(ndim):
            place_in_world = columns[f"centroid-{k}"] * space.spacing[k] + space.origin[k]
            columns[f"centroid_{space.unit}-{k}"] = place_in_world
    lowest = [groups.lowest(partial(_moved, place[rows.low][k], origins[k], None)) for k in range(ndim)]
    highest = [groups.highest(partial(_moved, place[rows.high][k], origins[k], None)) + 1 for k in range(ndim)]
    columns |= {f"bbox-{k}": each for k, each in enumerate([*lowest, *highest])}
    extents = [b - a for a, b in zip(lowest, highest, strict=True)]
    columns["area_bbox"] = np.prod(extents, axis=0)
    columns["extent"] = area / columns["area_bbox"]
    columns["equivalent_diameter_area"] = ball_diameter(area, ndim)
    columns |= _axes(groups, sums, area, (base, rest), extents, space)
    columns |= _surface(groups, merged, sums, area, space)
    edge = merged.labels_table.objects["edge"]
    columns["on_edge"] = groups.highest(edge)
    return columns


def _moved(values: np.ndarray, origins: np.ndarray, times: np.ndarray | None, at: np.ndarray) -> np.ndarray:
    """Return values of some labels, counted from the origin of the image."""
    moved: np.ndarray = values[at] + (origins[at] if times is None else origins[at] * times[at])
    return moved


Centroids = tuple[list[np.ndarray], list[np.ndarray]]
"""Centroids along each axis: whole voxels, and the rest."""


def _axes(
    groups: Groups,
    sums: SumTable,
    area: np.ndarray,
    centroids: Centroids,
    extents: list[np.ndarray],
    space: Space | None,
) -> Columns:
    """Principal axes in voxels, and in world units with the ratios of their lengths."""
    ndim = sums.ndim
    if ndim == 1:
        return {}
    several = groups.several
    base, rest = ([each[several] for each in part] for part in centroids)
    of_several = _covariance(groups, sums, area[several], base, rest, [e[several] for e in extents])
    lengths = in_world = _lengths(groups, sums, of_several, (1.0,) * ndim)
    columns = _named_axes(lengths, "")
    if space is not None and space.unit:
        isotropic = space.is_isotropic
        in_world = lengths * space.spacing[0] if isotropic else _lengths(groups, sums, of_several, space.spacing)
        columns |= _named_axes(in_world, f"_{space.unit}")
    columns["elongation"] = _ratio(in_world[0], in_world[1])
    if ndim == 3:
        columns["flatness"] = _ratio(in_world[1], in_world[2])
    return columns


def _lengths(groups: Groups, sums: SumTable, of_several: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Return the lengths of the axes of each object."""
    low, high = np.triu_indices(sums.ndim)
    by = (np.array(spacing)[low] * np.array(spacing)[high])[:, None]
    if len(groups.several) == len(groups):
        return axis_lengths(principal_variances(of_several * by))
    lengths = axis_lengths(principal_variances(_label_covariance(sums)[:, groups.first] * by))
    if len(groups.several):
        lengths[:, groups.several] = axis_lengths(principal_variances(of_several * by))
    return lengths


def _label_covariance(sums: SumTable) -> np.ndarray:
    """Return the covariance of the places of each label's voxels, in the order of ``numpy.triu_indices``."""
    rows, place = place_rows(sums.ndim), sums.sums.place
    first, second, voxels = place[rows.first], place[rows.second], place[0]
    base = first // voxels
    rest = (first - base * voxels) / voxels
    found = np.empty(second.shape)
    for at, (i, j) in enumerate(zip(*np.triu_indices(sums.ndim), strict=True)):
        moment = second[at] - base[i] * first[j] - base[j] * (first[i] - voxels * base[i])
        found[at] = moment / voxels - rest[i] * rest[j]
    return found


def _covariance(
    groups: Groups,
    sums: SumTable,
    area: np.ndarray,
    base: list[np.ndarray],
    rest: list[np.ndarray],
    extents: list[np.ndarray],
) -> np.ndarray:
    """Return the covariance of the objects that have several labels, in the order of ``numpy.triu_indices``.

    Moments are counted from a whole voxel next to the centroid, so that nothing is lost far from the origin of the image.
    """
    ndim, rows, members = sums.ndim, place_rows(sums.ndim), groups.members
    largest = max((float(e.max(initial=1)) for e in extents), default=1.0)
    exact = float(area.max(initial=0)) * largest**2 < 2**61
    number: type[np.generic] = np.int64 if exact else np.float64
    if not len(members):
        return np.zeros((ndim * (ndim + 1) // 2, 0))
    voxels = sums.sums.place[0, members].astype(number, copy=False)
    first = sums.sums.place[rows.first, members].astype(number, copy=False)
    origins = sums.origins[sums.grid.separate_axes :, members]
    labels = np.diff(groups.starts, append=len(members))
    away = [(origins[k] - np.repeat(base[k], labels)).astype(number) for k in range(ndim)]
    found = []
    for at, (i, j) in enumerate(zip(*np.triu_indices(ndim), strict=True)):
        second = sums.sums.place[rows.second][at][members]
        moment = second + away[i] * first[j] + away[j] * (first[i] + voxels * away[i])
        found.append(np.add.reduceat(moment, groups.starts) / area - rest[i] * rest[j])
    return np.stack(found)


def _named_axes(lengths: np.ndarray, ending: str) -> Columns:
    names = ("major", "minor") if len(lengths) == 2 else ("major", "intermediate", "minor")
    return {f"axis_{name}_length{ending}": each for name, each in zip(names, lengths, strict=True)}


def _ratio(longer: np.ndarray, shorter: np.ndarray) -> np.ndarray:
    """Ratio of two lengths; NaN if the shorter one is 0."""
    ratio: np.ndarray = np.divide(longer, shorter, out=np.full_like(longer, np.nan), where=shorter > 0)
    return ratio


def _surface(groups: Groups, merged: Merge, sums: SumTable, area: np.ndarray, space: Space | None) -> Columns:
    """Surface, or length of the outline, from the exposed faces of voxels.

    The faces along an axis are what the surface looks like from that axis, twice. Cauchy's formula relates the mean over all
    directions to the surface; the mean over the axes of the image stands for it: 2/3 of the faces in 3D, pi/4 in 2D. It is
    right on average for objects that point anywhere, and too small for boxes along the axes.
    """
    ndim = sums.ndim
    if ndim == 1:
        return {}
    faces = _exposed_faces(groups, merged, sums)
    spacing = space.spacing if space is not None and space.unit else (1.0,) * ndim
    share = {2: math.pi / 4, 3: 2 / 3}[ndim]
    name = "surface_area" if ndim == 3 else "boundary_length"
    columns: Columns = {name: share * np.sum(faces, axis=0)}
    in_world = columns[name]
    if space is not None and space.unit:
        areas = [math.prod(spacing) / s for s in spacing]
        in_world = np.asarray(share * np.sum([f * a for f, a in zip(faces, areas, strict=True)], axis=0))
        columns[space.named(name, ndim - 1)] = in_world
    size = area * math.prod(spacing)
    if ndim == 3:
        columns["sphericity"] = math.pi ** (1 / 3) * (6 * size) ** (2 / 3) / in_world
    else:
        columns["circularity"] = 4 * math.pi * size / in_world**2
    return columns


def _exposed_faces(groups: Groups, merged: Merge, sums: SumTable) -> list[np.ndarray]:
    """Return the faces along each axis that are not between two voxels of the same object."""
    ndim, separate_axes, n = sums.ndim, sums.grid.separate_axes, len(groups)
    place = sums.sums.place[place_rows(ndim).faces]
    if not len(groups.several):
        return [groups.total(each) for each in place]
    # Labels of one tile that are one object are rare: their contacts alone are looked at.
    rows, low, high = sums.contacts(groups.members_with_the_same(sums.tiles))
    inside = np.flatnonzero(groups.row[low] == groups.row[high])
    of_pairs, touching = groups.row[low[inside]], sums.sums.contacts["faces"][rows[inside], 3 - ndim :]
    seams = merged.seams
    seam_low, seam_high = (groups.row[merged.labels_table.numbers(seams[s], seams[f"{s}_id"])] for s in ("low", "high"))
    across = np.flatnonzero((seam_low == seam_high) & (seam_low >= 0) & (seams["contact"][:, 0] > 0))
    found = []
    for k in range(ndim):
        faces = groups.total(place[k])
        at = across[seams["axis"][across] == k + separate_axes]
        hidden = np.bincount(of_pairs, touching[:, k], n) + np.bincount(seam_low[at], seams["contact"][at, 0], n)
        found.append(faces - 2 * hidden.astype(np.int64))
    return found


# --------------------------------------------------------------------------------------------------------------- seams
def _seams(groups: Groups, merged: Merge, tiles: np.ndarray) -> Columns:
    """Number of tiles of each object, its weakest joined seam, and a person's decisions on it."""
    n, seams, labels = len(groups), merged.seams, merged.labels_table
    rows = np.flatnonzero(merged.joined)
    owner = groups.row[labels.numbers(seams["low"][rows], seams["low_id"][rows])]
    rows, owner = rows[owner >= 0], owner[owner >= 0]
    joined = seams[rows]
    has_band = (joined["low_band"] > 0) | (joined["high_band"] > 0)
    strength = np.where(has_band, band_iou(joined), face_iou(joined))
    weakest = np.full(n, np.nan)
    # The order is descending, so the weakest remains.
    order = np.argsort(-strength, kind="stable")
    weakest[owner[order]] = strength[order]
    columns = {"n_tiles": groups.n_distinct(tiles), "n_labels": groups.n_labels(), "seam_iou": weakest}
    for name, pairs in (("joined_by_hand", merged.join), ("cut_by_hand", merged.cut)):
        count = np.zeros(n, np.int64)
        for (low, low_id), (high, high_id) in pairs:
            ends = {int(groups.row[labels.offsets[t] + k - 1]) for t, k in ((low, low_id), (high, high_id))}
            for row in ends - {-1}:
                count[row] += 1
        columns[name] = count
    return columns


# --------------------------------------------------------------------------------------------------------- intensities
def _intensities(groups: Groups, sums: SumTable, channel: int, ending: str) -> Columns:
    values = sums.sums.intensity[channel]
    count, total = groups.total(values[COUNT]), groups.total(values[SUM])
    some = count > 0
    mean = np.divide(total, count, out=np.full(len(groups), np.nan), where=some)
    squares = values[SQUARES][groups.first]
    if len(groups.several):
        part = values[:, groups.members]
        of_label = np.divide(part[SUM], part[COUNT], out=np.zeros(part.shape[1]), where=part[COUNT] > 0)
        away = np.where(part[COUNT] > 0, of_label - mean[groups.owners], 0)
        squares[groups.several] = np.add.reduceat(part[SQUARES] + part[COUNT] * away**2, groups.starts)
    columns = {
        f"intensity_mean{ending}": mean,
        f"intensity_std{ending}": np.sqrt(np.divide(squares, count, out=np.full_like(mean, np.nan), where=some)),
        f"intensity_min{ending}": np.where(some, groups.lowest(values[LOWEST]), np.nan),
        f"intensity_max{ending}": np.where(some, groups.highest(values[HIGHEST]), np.nan),
        f"intensity_sum{ending}": total,
        f"intensity_voxels{ending}": count.astype(np.int64),
    }
    origins = sums.origins[sums.grid.separate_axes :]
    for k in range(sums.ndim):
        weighted = groups.total(partial(_moved, values[WEIGHTED + k], origins[k], values[SUM]))
        place = np.divide(weighted, total, out=np.full_like(mean, np.nan), where=total != 0)
        columns[f"centroid_weighted-{k}{ending}"] = place
    return columns
