"""The table of any label image, measured on any image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_blockbuster.execution.queue import TileQueue
from napari_blockbuster.execution.run import run
from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.images import ImageSource
from napari_blockbuster.machine.disk import writing_to
from napari_blockbuster.machine.files import discard
from napari_blockbuster.merge.assignment import Merge, MergeSettings
from napari_blockbuster.stage.labels import OBJECT
from napari_blockbuster.stage.seams.comparison import evidence_dtype
from napari_blockbuster.stage.sums.label_sums import TileSums, place_rows
from napari_blockbuster.stage.tables.label_table import LabelTable
from napari_blockbuster.stage.tables.sum_table import SumTable

from .overlaps import pair_grid
from .regions import RegionFunction, RegionMeasures, measure_regions
from .space import Space
from .table import object_table
from .tile_measurement import LevelImage, Measurement, MeasureWork, kept_tiles

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client

__all__ = ["measure_label_image"]

OF_MERGES = ("n_tiles", "n_labels", "seam_iou", "joined_by_hand", "cut_by_hand")
"""Columns that only the labels of a job have."""


def measure_label_image(
    labels: ImageSource,
    image: ImageSource | None,
    *,
    names: Sequence[str] = (),
    properties: Sequence[str] = (),
    functions: Sequence[RegionFunction] = (),
    client: Client | None = None,
    resume: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Measure the objects of a label image; see `napari_blockbuster.measure_objects`.

    Parameters
    ----------
    labels, image : ImageSource
        Of equal shape, or levels of one pyramid.
    names : sequence of str
        Names of the channels of `image`.
    properties : sequence of str
        Names of properties of `skimage.measure.regionprops` that are not sums.
    functions : sequence of callable
        From a region of skimage to a mapping of names and numbers.
    client : distributed.Client, optional
    resume : Path, optional
        Folder in which the sums of tiles are kept until the end. A later call with the same images continues there.
    progress : callable, optional
        ``progress(done, total)`` in tiles.
    """
    if labels.n_channels > 1 or labels.dtype.kind not in "iub":
        raise ValueError(f"{labels.name} is no label image: labels are integers of one channel, 0 is background.")
    level = None if image is None else LevelImage(image, labels.shape)
    if level is not None:
        level.check(labels.name, labels.axes)
    measures = RegionMeasures(labels, level, tuple(names), tuple(properties), tuple(functions))
    grid = pair_grid(labels)
    kept = None if resume is None else resume / _digest(labels, image)
    work = MeasureWork(grid, labels, level, kept)
    known: dict[int, Measurement] = {}
    if kept is not None:
        with writing_to(kept.parent):
            kept.mkdir(parents=True, exist_ok=True)
        known = kept_tiles(kept)
    waiting = [index for index in grid.order() if index not in known]
    passes = 2 if measures else 1
    for found in run(work, TileQueue(waiting), client):
        if found is not None:
            known[found.tile] = found
            if progress is not None:
                progress(len(known), passes * len(grid))
    table = _table(grid, known, space_of(labels, image), names)
    if measures:
        for name, values in measure_regions(table, grid, measures, client, progress, kept).items():
            table[name] = values
    if resume is not None:
        discard(resume)
    return table


def space_of(labels: ImageSource, image: ImageSource | None) -> Space:
    """Return the space of the labels: their own sizes, or those of the image if the labels have none."""
    leading = labels.separate_axes
    if image is None or any(labels.units[leading:]):
        source, factors = labels, [1.0] * len(labels.spatial_shape)
    else:
        source = image
        factors = [there / here for here, there in zip(labels.spatial_shape, image.spatial_shape, strict=True)]
        # Levels of one pyramid differ by whole factors, or by one over them.
        factors = [float(round(f)) if f >= 1 else 1 / round(1 / f) for f in factors]
    scale = [s * f for s, f in zip(source.scale[leading:], factors, strict=True)]
    moved = source.translation
    return Space.of(scale, source.units[leading:], None if moved is None else moved[leading:])


def _digest(labels: ImageSource, image: ImageSource | None) -> str:
    """Identify the two images: sums of others must not be mixed with theirs."""
    parts = [source.identity() | {"channels": source.channels} for source in (labels, image) if source is not None]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _table(grid: TileGrid, known: Mapping[int, Measurement], space: Space, names: Sequence[str]) -> pd.DataFrame:
    indices = sorted(known)
    some = [known[index] for index in indices if len(known[index].ids)]
    counts = np.zeros(len(grid), np.int64)
    counts[indices] = [len(known[index].ids) for index in indices]
    if some:
        place = np.concatenate([each.sums.place for each in some], axis=1)
        intensity = np.concatenate([each.sums.intensity for each in some], axis=2)
        ids = np.concatenate([each.ids for each in some])
    else:
        empty = TileSums.empty(grid.ndim - grid.separate_axes, len(names))
        place, intensity, ids = empty.place, empty.intensity, np.zeros(0, np.uint64)
    if len(ids) and int(ids.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"The label {ids.max()} is larger than 2^63 - 1. Number the labels from 1 first.")
    none = TileSums.empty(1).contacts
    sums = SumTable(grid, counts, TileSums(place, intensity, none), np.zeros(len(grid), np.int64))
    # The same label at two time points is two rows: in tracked labels, it is the same cell later on.
    known_ids = ids.astype(np.int64)
    times = sums.origins[0] if grid.separate_axes else np.zeros(len(ids), np.int64)
    order = np.lexsort((times, known_ids))
    new = np.ones(len(ids), bool)
    new[1:] = (np.diff(known_ids[order]) != 0) | (np.diff(times[order]) != 0)
    number = np.empty(len(ids), np.int64)
    number[order] = np.cumsum(new)
    merged = _as_merge(sums, number)
    table = object_table(merged, sums, space, channels=names).drop(columns=list(OF_MERGES))
    table["label"] = known_ids[order][new]
    return table


def _as_merge(sums: SumTable, ids: np.ndarray) -> Merge:
    """Return the merge that gives the labels of each tile the ids that they have already."""
    grid = sums.grid
    objects = np.zeros(len(ids), OBJECT)
    objects["edge"] = _on_edge(sums)
    labels = LabelTable(sums.counts, objects, np.zeros(len(grid)))
    new_ids = np.concatenate([[0], ids.astype(np.int64)])
    seams = np.zeros(0, evidence_dtype(grid.ndim))
    none = np.zeros(0, bool)
    return Merge(MergeSettings("none", 0.0, 1), len(np.unique(ids)), seams, none, np.zeros(0), labels, new_ids)


def _on_edge(sums: SumTable) -> np.ndarray:
    rows, leading = place_rows(sums.ndim), sums.grid.separate_axes
    origins, extents = sums.origins[leading:], sums.grid.shape[leading:]
    edge = np.zeros(sums.sums.place.shape[1], bool)
    for axis, extent in enumerate(extents):
        edge |= sums.sums.place[rows.low][axis] + origins[axis] == 0
        edge |= sums.sums.place[rows.high][axis] + origins[axis] == extent - 1
    return edge
