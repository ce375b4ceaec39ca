"""Evidence on disk: written by the worker that stages the second tile of a pair, and read by the merge."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from napari_blockbuster.geometry.tiles import Neighbor, TileGrid
from napari_blockbuster.machine.disk import damage_named, writing_to
from napari_blockbuster.machine.files import npy_bytes, read_table
from napari_blockbuster.machine.ownership import Owner
from napari_blockbuster.stage import label_pairs
from napari_blockbuster.stage.store import StagedTile, StageStore

from .comparison import compare, compare_all, evidence_dtype

__all__ = ["close_seams", "compare", "evidence_dtype", "gather_evidence", "in_order", "missing_pairs"]


def close_seams(
    store: StageStore, index: int, own: dict[tuple[int, str], np.ndarray] | None = None, owner: Owner | None = None
) -> int:
    """Compare a tile that was just staged with its staged neighbors, and write the evidence.

    Called by the worker that staged the tile, after the marker: of two tiles staged at the same time at least one sees the
    other. If both do, both write the same evidence, and `gather_evidence` takes it once. Tiles without labels have no evidence.

    Parameters
    ----------
    store : StageStore
    index : int
        The tile.
    own : dict, optional
        The tile's bands, if they are still in memory.
    owner : Owner, optional
        Writes the evidence, unless its run was taken over.

    Returns
    -------
    int
        Number of pairs of tiles compared.
    """
    bands = _StoredBands(store, {(index, *key): band for key, band in (own or {}).items()})
    if not bands.has_labels(index):
        return 0
    pairs = [pair for pair in store.grid.pairs(index) if bands.has_labels(pair.high if pair.low == index else pair.low)]
    if pairs:
        _write_evidence(store, index, compare_all(store.grid, pairs, bands.read), owner)
    return len(pairs)


class _StoredBands:
    """Reads bands of staged tiles. The file of each tile is opened once, and each band is read once.

    Parameters
    ----------
    store : StageStore
    known : dict
        Bands in memory, keyed by (tile, axis, side).
    """

    def __init__(self, store: StageStore, known: dict[tuple[int, int, str], np.ndarray]) -> None:
        self._store, self._known = store, known
        self._tiles: dict[int, StagedTile] = {}

    def has_labels(self, index: int) -> bool:
        """Return whether a tile is staged and has labels. Pairs with other tiles have no evidence."""
        try:
            return self._opened(index).record.n_objects > 0
        except FileNotFoundError:
            return False

    def read(self, index: int, axis: int, side: str) -> np.ndarray:
        key = index, axis, side
        if key not in self._known:
            self._known[key] = self._opened(index).band(axis, side)
        return self._known[key]

    def _opened(self, index: int) -> StagedTile:
        if index not in self._tiles:
            self._tiles[index] = self._store.staged(index, recent=True)
        return self._tiles[index]


def _write_evidence(store: StageStore, index: int, table: np.ndarray, owner: Owner | None) -> None:
    path = store.path("seams", index)
    with contextlib.suppress(FileNotFoundError):
        table = np.concatenate([table, read_table(path, evidence_dtype(store.grid.ndim))])
    data = npy_bytes(table)
    if owner is None:
        store.write("seams", index, data, durable=False)
    else:
        owner.write(path, data, durable=False, below=store.folder / "seams")


def gather_evidence(store: StageStore, staged: Iterable[int], without: Collection[int] = ()) -> np.ndarray:
    """Return the evidence on disk between staged tiles: each pair of tiles once, in the order of the grid.

    Files of the tiles in `without` are not read.
    """
    dtype = evidence_dtype(store.grid.ndim)
    tables = [read_table(path, dtype) for index, path in store.files("seams") if index not in without]
    table = np.concatenate([np.zeros(0, dtype), *tables])
    is_staged = np.zeros(len(store.grid), bool)
    is_staged[list(staged)] = True
    return in_order(table[is_staged[table["low"]] & is_staged[table["high"]]])


def in_order(table: np.ndarray) -> np.ndarray:
    """Return evidence with each pair of labels once, in the order of the grid."""
    order = np.lexsort((table["high_id"], table["low_id"], table["high"], table["low"]))
    table = table[order]
    fresh = np.ones(len(table), bool)
    if len(table):
        same = [table[name][1:] == table[name][:-1] for name in ("low", "high", "low_id", "high_id")]
        fresh[1:] = ~np.logical_and.reduce(same)
    evidence: np.ndarray = table[fresh]
    return evidence


def missing_pairs(grid: TileGrid, evidence: np.ndarray, counts: np.ndarray) -> dict[int, list[Neighbor]]:
    """Return pairs of tiles with labels that have no evidence, by their low tile. Their run was interrupted.

    Parameters
    ----------
    grid : TileGrid
    evidence : numpy.ndarray
        Evidence on disk.
    counts : numpy.ndarray
        The number of labels of each tile; 0 for tiles that are not staged.
    """
    marks = evidence[evidence["low_id"] == 0]
    seen = np.sort(label_pairs.pack(marks["low"], marks["high"]))
    indices = np.arange(len(grid), dtype=np.uint32).reshape(grid.grid_shape)
    labeled = counts.reshape(grid.grid_shape) > 0
    missing: dict[int, list[Neighbor]] = {}
    for offset in grid.offsets:
        at_low = tuple(slice(max(0, -o), n - max(0, o)) for o, n in zip(offset, grid.grid_shape, strict=True))
        at_high = tuple(slice(max(0, o), n - max(0, -o)) for o, n in zip(offset, grid.grid_shape, strict=True))
        both = labeled[at_low] & labeled[at_high]
        low, high = indices[at_low][both], indices[at_high][both]
        new = ~np.isin(label_pairs.pack(low, high), seen, assume_unique=True)
        for a, b in zip(low[new].tolist(), high[new].tolist(), strict=True):
            missing.setdefault(a, []).append(Neighbor(a, b, offset))
    return missing


def compare_missing(store: StageStore, pairs: Sequence[Neighbor], keep: Owner | None) -> np.ndarray:
    """Compare pairs of staged tiles (all with the same low tile). Their owner, if there is one, writes the evidence."""
    with damage_named(store.folder.parent):
        bands = _StoredBands(store, {})
        table = compare_all(store.grid, pairs, bands.read)
    if keep is not None:
        with writing_to(store.folder):
            _write_evidence(store, pairs[0].low, table, keep)
    return table
