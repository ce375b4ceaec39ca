"""Pairs of labels: their type, their order, and their wording in messages."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index

__all__ = ["PairOfLabels", "described", "ordered"]

PairOfLabels = tuple[tuple[int, int], tuple[int, int]]
"""Two labels of two tiles: ``((tile, id), (tile, id))``."""


def ordered(pair: Sequence[Sequence[int]]) -> PairOfLabels:
    """Return a pair with the lower tile first.

    Raises
    ------
    TypeError, ValueError
        If it is not a pair of labels.
    """
    (a, i), (b, k) = pair
    first, second = sorted([(index(a), index(i)), (index(b), index(k))])
    return first, second


def described(pair: PairOfLabels) -> str:
    """Name both labels of a pair."""
    (a, i), (b, k) = pair
    return f"label {i} of tile {a} and label {k} of tile {b}"
