"""Which merged objects lie in a region of interest, and how they are cut at its edge.

Objects are judged after the merge, because an object that crosses a tile border is a fragment in each tile.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from napari_blockbuster.geometry.roi import Coverage, Roi
from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.merge.assignment import Merge

__all__ = ["clipped", "keep_objects", "object_centroids", "tiles_to_read"]


def clipped(labels: np.ndarray, clip: Roi | None, core: Box) -> np.ndarray:
    """Return the labels of a core with background outside of a region; as they are without one."""
    if clip is None or not labels.any():
        return labels
    inside = clip.mask(core)
    return labels if inside.all() else np.where(inside, labels, labels.dtype.type(0))


def object_centroids(merged: Merge, sums: np.ndarray) -> np.ndarray:
    """Return the centroid of each merged object, in voxels: float64 of shape (ids, axes), NaN for ids without an object.

    Parameters
    ----------
    merged : Merge
    sums : numpy.ndarray
        For each label, the sum of the places of its voxels: float64 of shape (labels, axes). NaN if it is not needed.
    """
    owner = merged.new_ids[1:].astype(np.int64)
    n_ids = int(owner.max(initial=0)) + 1
    voxels = np.bincount(owner, weights=merged.labels_table.objects["core"], minlength=n_ids)
    total = np.stack([np.bincount(owner, weights=column, minlength=n_ids) for column in sums.T], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / voxels[:, None])


def tiles_to_read(merged: Merge, coverage: np.ndarray, inside: str) -> np.ndarray:
    """Return the tiles whose labels decide which objects lie in a region.

    An object of a single label in a tile that lies inside needs no look, because its centroid lies in that tile.

    Parameters
    ----------
    merged : Merge
    coverage : numpy.ndarray
        `Coverage` of each tile.
    inside : {"centroid", "touching", "clip"}
    """
    counts = merged.labels_table.counts
    if inside != "centroid":
        return np.flatnonzero((counts > 0) & (coverage == Coverage.SOME))
    tiles, owner = np.repeat(np.arange(len(counts)), counts), merged.new_ids[1:].astype(np.int64)
    open_ids = np.bincount(owner) > 1
    open_ids[owner[coverage[tiles] < Coverage.ALL]] = True
    return np.unique(tiles[open_ids[owner]])


def keep_objects(merged: Merge, kept: np.ndarray, clip: Roi | None = None) -> Merge:
    """Return the merge with only some of its objects.

    Parameters
    ----------
    merged : Merge
        Without a filter.
    kept : numpy.ndarray
        bool, for each merged id.
    clip : Roi, optional
        See `Merge.clip`.
    """
    found = np.flatnonzero(kept)
    found = found[found > 0]
    ids = np.zeros(len(kept), merged.new_ids.dtype)
    ids[found] = np.arange(1, len(found) + 1) if merged.sequential else found
    return replace(
        merged,
        new_ids=ids[merged.new_ids],
        n_objects=len(found),
        n_outside=merged.n_objects - len(found),
        clip=clip,
    )
