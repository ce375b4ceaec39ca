"""Synthetic confluent tissue, a perfect and a noisy model, tiling and scoring.

Everything is plain numpy/scipy and deterministic for a given seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage as ndi
from scipy.spatial import cKDTree

__all__ = [
    "NoiseSpec",
    "fused_cells",
    "noisy_model",
    "overlap_table",
    "perfect_model",
    "score",
    "seam_cells",
    "voronoi_tissue",
]


# --------------------------------------------------------------------------
# Ground truth
# --------------------------------------------------------------------------
def _jittered_grid(shape, spacing, jitter, rng):
    """Return points of a grid of pitch ``spacing``, each moved at random.

    Only the points inside the image are kept.
    """
    axes = [np.arange(-0.5, n / s + 1.0) for n, s in zip(shape, spacing, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(shape))
    grid = grid + rng.uniform(-jitter, jitter, grid.shape)
    # a random phase, else seams always fall at the same place of a cell
    grid = grid + rng.uniform(-0.5, 0.5, len(shape))
    points = grid * np.asarray(spacing, float)
    # centres inside the image only: no slivers of cells along its edges
    return points[np.all((points >= 0) & (points < shape), axis=1)]


def voronoi_tissue(shape, diameter, seed=0, jitter=0.35):
    """Confluent tissue: Voronoi cells that abut without any gap.

    Parameters
    ----------
    shape : tuple of int
        Shape of the label image (2D or 3D).
    diameter : float or sequence of float
        Mean spacing of the cell centres in voxels, per axis if a sequence
        (a sequence gives elongated cells).
    seed : int
        Seed of the random generator.
    jitter : float
        Largest displacement of a centre from the regular grid, in spacings.

    Returns
    -------
    numpy.ndarray of int32
        Labels 1..n, no background.
    """
    rng = np.random.default_rng(seed)
    spacing = np.broadcast_to(np.asarray(diameter, float), (len(shape),))
    points = _jittered_grid(shape, spacing, jitter, rng) / spacing
    axes = [(np.arange(n) + 0.5) / s for n, s in zip(shape, spacing, strict=True)]
    voxels = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(shape))
    _, owner = cKDTree(points).query(voxels)
    _, labels = np.unique(owner, return_inverse=True)
    return (labels.reshape(shape) + 1).astype(np.int32)


# --------------------------------------------------------------------------
# Models
# --------------------------------------------------------------------------
@dataclass(frozen=True)
class NoiseSpec:
    """How a noisy model errs (each read box on its own).

    Attributes
    ----------
    warp : float
        RMS displacement of the outlines per axis, in voxels.
    warp_sigma : float
        Correlation length (Gaussian sigma) of the displacement field.
    split, fuse : float
        Fraction of the objects of a read box that are cut in two through
        their centroid, or fused with a random touching neighbor.
    miss_cut : float
        Fraction missed among the objects cut by a border of the read box that
        is not an edge of the image.
    """

    warp: float = 1.5
    warp_sigma: float = 6.0
    split: float = 0.03
    fuse: float = 0.03
    miss_cut: float = 0.4


def perfect_model(truth_box, origin, image_shape, seed=0):
    """Return the labels a perfect model gives for one read box.

    Ids are local to the box: shuffled 1..n, so that no test can pass by
    comparing ids of neighboring tiles.  Parameters as `noisy_model`.
    """
    rng = np.random.default_rng([seed, *origin])
    return _renumber(truth_box, rng)


def _renumber(labels, rng):
    ids = np.unique(labels)
    ids = ids[ids > 0]
    lut = np.zeros(int(labels.max(initial=0)) + 1, np.int32)
    lut[ids] = rng.permutation(len(ids)) + 1
    return lut[labels]


def _touching_pairs(labels):
    pairs = []
    for axis in range(labels.ndim):
        a = np.moveaxis(labels, axis, 0)
        u, v = a[:-1], a[1:]
        m = (u != v) & (u > 0) & (v > 0)
        u, v = u[m], v[m]
        pairs.append(np.stack([np.minimum(u, v), np.maximum(u, v)], 1))
    return np.unique(np.concatenate(pairs), axis=0)


def noisy_model(truth_box, origin, image_shape, seed=0, noise=NoiseSpec()):
    """Return the labels an imperfect model gives for one read box.

    Parameters
    ----------
    truth_box : numpy.ndarray of int
        The truth cropped to the read box.
    origin : tuple of int
        Position of the box in the image; with ``seed`` it seeds the errors, so
        that each tile errs on its own and a re-run errs alike.
    image_shape : tuple of int
        Shape of the whole image: a border of the box lying on an edge of the
        image cuts nothing.
    seed : int
        Seed of the run.
    noise : NoiseSpec
        Rates of the errors.

    Returns
    -------
    numpy.ndarray of int32
        Labels of the box, local ids 1..n, 0 where an object was missed.
    """
    rng = np.random.default_rng([seed, *origin])
    shape = truth_box.shape
    ndim = truth_box.ndim
    # 1. warp the outlines by a smooth random displacement (nearest look-up)
    labels = truth_box
    if noise.warp > 0:
        index = []
        for axis in range(ndim):
            field = ndi.gaussian_filter(
                rng.standard_normal(shape, dtype=np.float32),
                noise.warp_sigma,
                mode="wrap",
                truncate=3.0,
            )
            field *= noise.warp / max(float(field.std()), 1e-9)
            ramp = np.arange(shape[axis]).reshape([-1 if k == axis else 1 for k in range(ndim)])
            index.append(np.clip(np.rint(ramp + field), 0, shape[axis] - 1).astype(np.intp))
        labels = truth_box[tuple(index)]
    _, labels = np.unique(labels, return_inverse=True)
    labels = labels.reshape(shape).astype(np.int32)
    if truth_box.min() > 0:
        labels += 1
    n = int(labels.max())
    # 2. miss objects cut by the tile's own border
    cut = np.zeros(n + 1, bool)
    for axis in range(ndim):
        if origin[axis] > 0:
            cut[np.unique(labels.take(0, axis))] = True
        if origin[axis] + shape[axis] < image_shape[axis]:
            cut[np.unique(labels.take(-1, axis))] = True
    lut = np.arange(n + 1, dtype=np.int32)
    lut[cut & (rng.random(n + 1) < noise.miss_cut)] = 0
    # 3. fuse with a random touching neighbor, 4. split through the centroid
    kind = rng.random(n + 1)
    order = rng.permutation(np.arange(1, n + 1))
    pairs = _touching_pairs(labels)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    for i in order[kind[order] < noise.fuse]:
        near = both[both[:, 0] == i, 1]
        near = near[lut[near] > 0]
        if lut[i] > 0 and near.size:
            lut[lut == lut[i]] = lut[rng.choice(near)]
    labels_out = lut[labels]
    # a fused object is not split too; splitting is drawn among the others
    sizes = np.bincount(lut[1:], minlength=n + 1)
    chosen = [i for i in order if noise.fuse <= kind[i] < noise.fuse + noise.split and lut[i] == i and sizes[i] == 1]
    boxes = ndi.find_objects(labels)
    top = n
    for i in chosen:
        box = boxes[i - 1]
        where = np.argwhere(labels[box] == i)
        normal = rng.standard_normal(ndim)
        side = (where - where.mean(0)) @ normal > 0
        if side.all() or not side.any():
            continue
        top += 1
        view = labels_out[box]
        view[tuple(where[side].T)] = top
    return _renumber(labels_out, rng)


# --------------------------------------------------------------------------
# Scoring
# --------------------------------------------------------------------------
def overlap_table(truth, objects):
    """Voxel counts of every (true cell, object) pair, object 0 included."""
    width = int(objects.max()) + 1
    key, count = np.unique(truth.astype(np.int64) * width + objects, return_counts=True)
    return key // width, key % width, count


def seam_cells(truth, grid):
    """Return the ids of the true cells having voxels in two cores of a `TileGrid` or more."""
    seen = np.zeros(int(truth.max()) + 1, np.int64)
    for tile in grid:
        seen[np.unique(truth[tile.core.slices])] += 1
    seen[0] = 0
    return np.flatnonzero(seen > 1)


def fused_cells(table, share=0.5):
    """Which true cells have a best object that covers another cell as well.

    Returns
    -------
    numpy.ndarray of bool
        By true id: the object with the largest overlap with the cell also
        covers more than ``share`` of at least one other true cell.
    """
    t, o, c = (np.asarray(x) for x in table)
    tsize = np.bincount(t, c)
    keep = (o > 0) & (t > 0)
    t, o, c = t[keep], o[keep], c[keep]
    best = np.zeros(len(tsize), np.int64)
    order = np.lexsort((-o, c, t))  # last row of a cell: most voxels
    best[t[order]] = o[order]
    covers = c > share * tsize[t]
    n_covered = np.bincount(o[covers], minlength=int(o.max(initial=0)) + 1)
    self_covered = np.zeros(len(tsize), bool)
    self_covered[t[covers & (best[t] == o)]] = True
    return (best > 0) & (n_covered[best] - self_covered > 0)


def score(table, cells, share=0.2, own=None):
    """Score objects on the seam cells.

    Parameters
    ----------
    table : tuple of numpy.ndarray
        ``(true id, object id, voxels)`` over the whole image, rows unique
        (`overlap_table`).
    cells : numpy.ndarray of int
        The true seam cells (`seam_cells`).
    share : float
        Smallest share of a cell that counts as a substantial piece.
    own : numpy.ndarray of bool, optional
        `fused_cells` of the table before any join: what the model fused
        itself, within one tile.

    Returns
    -------
    dict of str to float
        ``recall``: fraction of the cells having an object at IoU >= 0.5;
        ``fused``: fraction whose best object (largest overlap) also covers
        more than half of another true cell;
        ``net``: the same, of cells not in ``own`` (only if given);
        ``split``: fraction with two objects or more each covering at least
        ``share`` of the cell.
    """
    t, o, c = (np.asarray(x) for x in table)
    n_true, n_obj = int(t.max()) + 1, int(o.max()) + 1
    tsize = np.bincount(t, c, n_true)
    osize = np.bincount(o, c, n_obj)
    fused = fused_cells(table)
    keep = (o > 0) & (t > 0)
    t, o, c = t[keep], o[keep], c[keep]
    best_iou = np.zeros(n_true)
    np.maximum.at(best_iou, t, c / (tsize[t] + osize[o] - c))
    pieces = np.bincount(t[c >= share * tsize[t]], minlength=n_true)
    out = {
        "recall": float((best_iou[cells] >= 0.5).mean()),
        "fused": float(fused[cells].mean()),
        "split": float((pieces[cells] > 1).mean()),
    }
    if own is not None:
        out["net"] = float((fused & ~own)[cells].mean())
    return out
