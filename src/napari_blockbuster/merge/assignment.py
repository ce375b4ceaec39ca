"""The assignment of labels to objects: the record that a merge returns. It is a look-up table; no voxel is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_blockbuster.geometry.roi import Roi
from napari_blockbuster.merge.holes.filling import Filled
from napari_blockbuster.stage.tables.label_table import LabelTable

from .filters import ObjectFilter
from .pairs import PairOfLabels

__all__ = ["Merge", "MergeSettings"]


@dataclass(frozen=True)
class MergeSettings:
    """Settings of a merge, except the object filter.

    Attributes
    ----------
    rule : str
        See `napari_blockbuster.merge.rules`.
    min_iou : float
        Threshold of the rules ``overlap`` and ``face``.
    connectivity : int
        For the rule ``touch``.
    cut, join : tuple
        A person's decisions. They override the rule.
    remove : tuple of (tile, id)
        Labels that a person removed: they are background.
    sequential : bool
        Number the objects 1..n. Otherwise an object has the number of its first label among all labels.
    """

    rule: str
    min_iou: float
    connectivity: int
    cut: tuple[PairOfLabels, ...] = ()
    join: tuple[PairOfLabels, ...] = ()
    sequential: bool = True
    remove: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, repr=False)
class Merge:
    """The outcome of a merge: a new id for each label of each tile.

    The settings are also attributes of the merge: `rule`, `min_iou`, `connectivity`, `cut`, `join`, `sequential`.

    Attributes
    ----------
    settings : MergeSettings
    n_objects : int
        Number of merged objects.
    seams : numpy.ndarray
        The evidence (`napari_blockbuster.stage.seams.evidence.evidence_dtype`), one row per pair of labels.
    joined : numpy.ndarray of bool
        For each row of `seams`, whether the pair was joined.
    agreement : numpy.ndarray
        For each row of `seams`, the largest `min_iou` at which the rule still joins the pair (0: never; empty for rules
        without a threshold).
    labels_table : LabelTable
        The labels before the merge: counts, sizes, offsets.
    new_ids : numpy.ndarray
        uint32 (uint64 beyond 2^32 objects), ``n_labels + 1`` entries: the merged id of each label, 0 for background.
    filter : ObjectFilter
        The filter that was applied. `new_ids` is 0 for the objects that it removed.
    n_removed : int
        Number of merged objects that the filter removed. `n_objects` does not count them.
    filled : Filled or None
        The holes that became part of an object, or None if holes are not filled.
    n_outside : int
        Number of merged objects that lie outside the region of interest. `new_ids` is 0 for them, and `n_objects` does not
        count them.
    clip : Roi or None
        Region at whose edge the objects are cut when they are written; None: objects are whole.
    continues : numpy.ndarray of bool, or None
        For each label, whether it continues in a tile that is skipped because it lies outside the region of interest. None
        without a region.
    """

    settings: MergeSettings
    n_objects: int
    seams: np.ndarray
    joined: np.ndarray
    agreement: np.ndarray
    labels_table: LabelTable
    new_ids: np.ndarray
    filter: ObjectFilter = ObjectFilter()
    n_removed: int = 0
    filled: Filled | None = None
    n_outside: int = 0
    clip: Roi | None = None
    continues: np.ndarray | None = None

    @property
    def rule(self) -> str:
        return self.settings.rule

    @property
    def min_iou(self) -> float:
        return self.settings.min_iou

    @property
    def connectivity(self) -> int:
        return self.settings.connectivity

    @property
    def cut(self) -> tuple[PairOfLabels, ...]:
        return self.settings.cut

    @property
    def join(self) -> tuple[PairOfLabels, ...]:
        return self.settings.join

    @property
    def sequential(self) -> bool:
        return self.settings.sequential

    @property
    def n_labels(self) -> int:
        """Number of labels in all tiles before the merge."""
        return int(self.labels_table.offsets[-1])

    @property
    def n_incomplete(self) -> int:
        """Number of merged objects that a skipped tile cuts off. Objects that are cut at the edge of the region do not count."""
        if self.continues is None or self.clip is not None:
            return 0
        return int(np.count_nonzero(np.unique(self.new_ids[1:][self.continues])))

    def __repr__(self) -> str:
        return (
            f"Merge(rule={self.rule!r}, n_labels={self.n_labels}, n_objects={self.n_objects}, seams={len(self.seams)})"
        )

    def table(self, tile: int) -> np.ndarray:
        """Look-up table of a tile: ``table[local id]`` is the merged id, and ``table[0]`` is 0.

        If holes of the tile are filled, its pieces of background follow the labels, numbered as in its regions
        (`napari_blockbuster.stage.regions.store`).
        """
        start, stop = self.labels_table.offsets[tile : tile + 2]
        own = self.new_ids[start + 1 : stop + 1]
        return np.concatenate([np.zeros(1, own.dtype), own, *([self.filled.table(tile)] if self.filled else [])])

    def fills(self, tile: int) -> bool:
        """Whether any background of a tile became part of an object."""
        return self.filled is not None and len(self.filled.table(tile)) > 0

    def object_of(self, tile: int, label: int) -> int:
        """Merged id of a label of a tile; 0 if the filter removed its object (and no hole of another object holds it)."""
        return int(self.new_ids[self.labels_table.offsets[tile] + label])

    def labels_of(self, object_id: int) -> list[tuple[int, int]]:
        """Labels (tile, id) of a merged object; none for 0."""
        numbers = np.flatnonzero(self.new_ids == object_id) - 1 if object_id else np.zeros(0, np.int64)
        offsets = self.labels_table.offsets
        tiles = np.searchsorted(offsets, numbers, side="right") - 1
        return list(zip(tiles.tolist(), (numbers - offsets[tiles] + 1).tolist(), strict=True))

    def is_one_object(self, pair: PairOfLabels) -> bool:
        """Whether two labels belong to the same object; False if the filter removed them."""
        low, high = (self.object_of(*end) for end in pair)
        return low == high > 0

    def row_of(self, pair: PairOfLabels) -> int | None:
        """Row of `seams` that holds a pair (lower tile first), or None if the two labels do not meet at a seam."""
        (low, low_id), (high, high_id) = pair
        wanted = {"low": low, "low_id": low_id, "high": high, "high_id": high_id}
        found = np.flatnonzero(np.logical_and.reduce([self.seams[name] == value for name, value in wanted.items()]))
        return int(found[0]) if len(found) else None
