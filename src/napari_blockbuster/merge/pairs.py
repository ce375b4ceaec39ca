"""Pairs of labels: their type, their order, and their wording in messages."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

__all__ = [
    "PairOfLabels",
    "described",
    "label_of_text",
    "label_text",
    "labels_of",
    "ordered",
    "pair_of_text",
    "pair_text",
    "pairs_of",
]

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


def pairs_of(pairs: Any, name: str) -> tuple[PairOfLabels, ...]:
    """Return pairs, each with the lower tile first.

    Raises
    ------
    ValueError
        If something is not a pair of labels. `name` names the argument in the message.
    """
    found = []
    for pair in pairs:
        try:
            found.append(ordered(pair))
        except (TypeError, ValueError):
            raise ValueError(f"{name} has {pair!r}. Give pairs of labels: ((tile, id), (tile, id)).") from None
    return tuple(found)


def pair_text(pair: PairOfLabels) -> str:
    """Return a pair as typed on the command line: ``0:9,1:11`` for label 9 of tile 0 and label 11 of tile 1."""
    return ",".join(f"{tile}:{label}" for tile, label in pair)


def pair_of_text(text: str) -> PairOfLabels:
    """Return a pair from the text that `pair_text` returns.

    Raises
    ------
    ValueError
        If it is not a pair of labels.
    """
    (a, i), (b, k) = (end.split(":") for end in text.split(","))
    return ordered(((int(a), int(i)), (int(b), int(k))))


def labels_of(labels: Any, name: str) -> tuple[tuple[int, int], ...]:
    """Return labels as (tile, id).

    Raises
    ------
    ValueError
        If something is not a label. `name` names the argument in the message.
    """
    found = []
    for label in labels:
        try:
            tile, number = label
            found.append((index(tile), index(number)))
        except (TypeError, ValueError):
            raise ValueError(f"{name} has {label!r}. Give labels of tiles: (tile, id).") from None
    return tuple(found)


def label_text(label: tuple[int, int]) -> str:
    """Return a label as typed on the command line: ``0:9`` for label 9 of tile 0."""
    return f"{label[0]}:{label[1]}"


def label_of_text(text: str) -> tuple[int, int]:
    """Return a label from the text that `label_text` returns.

    Raises
    ------
    ValueError
        If it is not a label.
    """
    tile, number = text.split(":")
    return int(tile), int(number)
