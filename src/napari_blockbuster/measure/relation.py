"""Relate the objects of two label images: which nucleus lies in which cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_blockbuster.images import ImageSource
from napari_blockbuster.machine.units import shape_text

from .overlaps import count_overlaps, pair_grid
from .remainder import RemainderSource, lazy_array

if TYPE_CHECKING:
    import dask.array as da
    import pandas as pd
    from distributed import Client

__all__ = ["Relation", "check_pair", "relate_images"]

PARENT_COLUMNS = ("n_children", "area_children", "fraction_children", "area_remainder")
CHILD_COLUMNS = ("parent", "area_inside", "fraction_inside", "n_parents")


@dataclass(frozen=True)
class Relation:
    """The parent of each child: the object of the first image that covers most of it.

    If two parents cover equally much of a child, the one with the smaller label is its parent. A child that meets no parent
    has the parent 0.

    Attributes
    ----------
    overlaps : numpy.ndarray
        One row for each pair of labels that share a voxel: ``parent``, ``child``, ``voxels``. Label 0 is background, so that
        the voxels of an object are the sum of its rows.
    """

    overlaps: np.ndarray
    _parents: ImageSource
    _children: ImageSource

    # ------------------------------------------------------------------------------------------------------- tables
    @cached_property
    def _assigned(self) -> np.ndarray:
        """One `OVERLAP` for each child, with its parent; sorted by child. Parent and voxels are 0 without a parent."""
        rows = self.overlaps[self.overlaps["child"] != 0]
        covered = np.where(rows["parent"] != 0, rows["voxels"], 0)
        # The last row of each child counts: the largest overlap, of those the smallest parent.
        order = np.lexsort((~rows["parent"], covered, rows["child"]))
        rows, covered = rows[order], covered[order]
        last = np.append(rows["child"][1:] != rows["child"][:-1], True)[: len(rows)]
        best: np.ndarray = rows[last].copy()
        best["voxels"] = covered[last]
        best["parent"][best["voxels"] == 0] = 0
        return best

    @cached_property
    def children(self) -> pd.DataFrame:
        """One row for each child (nucleus).

        ``label``, ``area`` (voxels), ``parent`` (label, 0 for none), ``area_inside`` and ``fraction_inside`` (voxels in the
        parent, and their share of the child), ``n_parents`` (objects of the first image that share a voxel with it).
        """
        import pandas as pd

        rows = self.overlaps[self.overlaps["child"] != 0]
        labels, areas = _sums(rows["child"], rows["voxels"])
        best = self._assigned
        _, n_parents = _sums(rows["child"], rows["parent"] != 0)
        return pd.DataFrame(
            {
                "label": _integers(labels),
                "area": areas,
                "parent": _integers(best["parent"]),
                "area_inside": best["voxels"],
                "fraction_inside": best["voxels"] / areas,
                "n_parents": n_parents,
            }
        )

    @cached_property
    def parents(self) -> pd.DataFrame:
        """One row for each parent (cell).

        ``label``, ``area`` (voxels), ``n_children`` (children whose parent it is), ``area_children`` and
        ``fraction_children`` (voxels of these children inside it, and their share of its area), ``area_remainder`` (voxels
        without these children).
        """
        import pandas as pd

        rows = self.overlaps[self.overlaps["parent"] != 0]
        labels, areas = _sums(rows["parent"], rows["voxels"])
        best = self._assigned[self._assigned["parent"] != 0]
        place = np.searchsorted(labels, best["parent"])
        counts = np.bincount(place, minlength=len(labels))
        inside = np.zeros(len(labels), np.int64)
        np.add.at(inside, place, best["voxels"])
        return pd.DataFrame(
            {
                "label": _integers(labels),
                "area": areas,
                "n_children": counts,
                "area_children": inside,
                "fraction_children": inside / areas,
                "area_remainder": areas - inside,
            }
        )

    def add_to(self, parents: pd.DataFrame, children: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return two tables of objects with the columns of this relation added.

        Parameters
        ----------
        parents, children : pandas.DataFrame
            With a column ``label``, such as `napari_blockbuster.Result.table`. Columns of the same names are replaced.

        Returns
        -------
        parents, children : pandas.DataFrame
            Copies. Labels that are not in the images get missing values.
        """
        return _joined(parents, self.parents, PARENT_COLUMNS), _joined(children, self.children, CHILD_COLUMNS)

    # ------------------------------------------------------------------------------------------------------- voxels
    @property
    def remainder_source(self) -> RemainderSource:
        """The parents without their own children, as an image of which any box can be read."""
        best = self._assigned
        return RemainderSource(self._parents, self._children, best["child"].copy(), best["parent"].copy())

    @property
    def remainder(self) -> da.Array:
        """The parents without their own children (the cytoplasm), as a lazy dask array of labels.

        Voxels where a nucleus of one cell lies in another cell keep the label of that other cell.
        """
        return lazy_array(self.remainder_source, pair_grid(self._parents).tile_shape)

    def summary(self) -> dict[str, int]:
        """Return counts: of parents, children, children without a parent, and parents with 0, 1 and more children."""
        counts = self.parents["n_children"].to_numpy()
        return {
            "parents": len(counts),
            "children": len(self.children),
            "children_without_parent": int((self._assigned["parent"] == 0).sum()),
            "parents_without_child": int((counts == 0).sum()),
            "parents_with_one_child": int((counts == 1).sum()),
            "parents_with_several": int((counts > 1).sum()),
        }


def check_pair(parents: ImageSource, children: ImageSource) -> None:
    """Refuse images that are not two label images of equal shape.

    Raises
    ------
    ValueError
    """
    for source in (parents, children):
        if source.n_channels > 1:
            raise ValueError(f"{source.name} is read with {source.n_channels} channels. A label image has one.")
        if source.dtype.kind not in "iub":
            raise ValueError(
                f"{source.name} has values of type {source.dtype}, so it is no label image. Labels are integers, 0 is "
                "background."
            )
    if parents.shape != children.shape:
        raise ValueError(
            f"The two label images differ in shape: {parents.name} is {shape_text(parents.shape)}, {children.name} is "
            f"{shape_text(children.shape)}. Use images of the same pixels and the same level."
        )


def relate_images(
    parents: ImageSource,
    children: ImageSource,
    client: Client | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Relation:
    """Relate two label images that are open. See `napari_blockbuster.relate`."""
    check_pair(parents, children)
    return Relation(count_overlaps(parents, children, client, progress), parents, children)


# ------------------------------------------------------------------------------------------------------------- helpers
def _sums(labels: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels in ascending order, and the sum of their values."""
    found, place = np.unique(labels, return_inverse=True)
    sums = np.zeros(len(found), np.int64)
    np.add.at(sums, place, values)
    return found, sums


def _integers(labels: np.ndarray) -> np.ndarray:
    """Labels as int64, the type that tables join best; as they are if one is too large."""
    return labels.astype(np.int64) if not len(labels) or labels.max() <= np.iinfo(np.int64).max else labels


def _joined(table: Any, more: Any, columns: tuple[str, ...]) -> Any:
    if "label" not in table.columns:
        raise ValueError(f'The table has no column "label". Its columns are: {", ".join(map(str, table.columns))}.')
    kept = table.drop(columns=[name for name in columns if name in table.columns])
    return kept.merge(more[["label", *columns]], on="label", how="left")
