"""Sums over the labels of each object. Most objects are a single label, so that most of a sum is a look-up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Groups"]

Values = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Groups:
    """Labels grouped by the object that they belong to.

    Attributes
    ----------
    ids : numpy.ndarray
        Id of each object, ascending.
    row : numpy.ndarray
        int64, for each label the row of its object; -1 for a label without an object.
    first : numpy.ndarray
        For each object, its first label.
    several : numpy.ndarray
        Rows of the objects with several labels.
    members, starts : numpy.ndarray
        The labels of these objects, one object after the other, and where each begins.
    """

    ids: np.ndarray
    row: np.ndarray
    first: np.ndarray
    several: np.ndarray
    members: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, objects: np.ndarray) -> Groups:
        """Group labels.

        Parameters
        ----------
        objects : numpy.ndarray
            The object of each label; 0 for none.
        """
        kept = np.flatnonzero(objects)
        # Objects are numbered in the order of their first labels, which a stable sort of integers uses.
        order = kept[np.argsort(objects[kept], kind="stable")]
        sorted_ids = objects[order]
        new = np.ones(len(order), bool)
        new[1:] = sorted_ids[1:] != sorted_ids[:-1]
        begin = np.flatnonzero(new)
        lengths = np.diff(begin, append=len(order))
        row = np.full(len(objects), -1, np.int64)
        row[order] = np.cumsum(new) - 1
        several = np.flatnonzero(lengths > 1)
        members = order[np.repeat(lengths > 1, lengths)]
        starts = np.cumsum(lengths[several]) - lengths[several]
        return cls(sorted_ids[begin].astype(np.int64), row, order[begin], several, members, starts)

    @classmethod
    def of_labels(cls, n: int) -> Groups:
        """Return groups in which each of n labels is an object."""
        each, none = np.arange(n), np.zeros(0, np.int64)
        return cls(each + 1, each, each, none, none, none)

    def only_several(self) -> Groups:
        """Return the objects with several labels alone."""
        n, row = len(self.several), np.full(len(self.row), -1, np.int64)
        owners = np.repeat(np.arange(n), np.diff(self.starts, append=len(self.members)))
        row[self.members] = owners
        first = self.members[self.starts]
        return Groups(self.ids[self.several], row, first, np.arange(n), self.members, self.starts)

    def __len__(self) -> int:
        return len(self.ids)

    def total(self, values: np.ndarray | Values) -> np.ndarray:
        """Return the sum of the values of the labels of each object.

        Parameters
        ----------
        values : numpy.ndarray or callable
            One for each label; or a function that returns the values of some labels, given their numbers. It is called for the
            first label of each object, and for the labels of objects that have several.
        """
        return self._reduced(np.add, values)

    def lowest(self, values: np.ndarray | Values) -> np.ndarray:
        """Return the lowest value of each object; see `total`."""
        return self._reduced(np.minimum, values)

    def highest(self, values: np.ndarray | Values) -> np.ndarray:
        """Return the highest value of each object; see `total`."""
        return self._reduced(np.maximum, values)

    def _reduced(self, reduce: np.ufunc, values: np.ndarray | Values) -> np.ndarray:
        of = values if callable(values) else values.__getitem__
        if len(self.several) == len(self.first) > 0:
            return np.asarray(reduce.reduceat(of(self.members), self.starts))
        found: np.ndarray = of(self.first)
        if len(self.several):
            found[self.several] = reduce.reduceat(of(self.members), self.starts)
        return found

    @property
    def owners(self) -> np.ndarray:
        """The row of the object of each label in `members`."""
        found: np.ndarray = np.repeat(self.several, np.diff(self.starts, append=len(self.members)))
        return found

    def n_labels(self) -> np.ndarray:
        """Return the number of labels of each object."""
        found = np.ones(len(self.ids), np.int64)
        found[self.several] = np.diff(self.starts, append=len(self.members))
        return found

    def n_distinct(self, keys: np.ndarray) -> np.ndarray:
        """Return how many different keys the labels of each object have. Keys do not decrease from label to label."""
        found = np.ones(len(self.ids), np.int64)
        if len(self.several):
            found[self.several] = np.add.reduceat(self._new(keys).astype(np.int64), self.starts)
        return found

    def members_with_the_same(self, keys: np.ndarray) -> np.ndarray:
        """Return the labels in `members` whose object has another label with the same key. Keys do not decrease."""
        new = self._new(keys)
        alone = new & np.append(new[1:], True)
        kept: np.ndarray = self.members[~alone]
        return kept

    def _new(self, keys: np.ndarray) -> np.ndarray:
        """Whether each of `members` has another key than the label before it, or is the first label of its object."""
        new = np.ones(len(self.members), bool)
        of_members = keys[self.members]
        new[1:] = of_members[1:] != of_members[:-1]
        new[self.starts] = True
        return new
