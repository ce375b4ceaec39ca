"""Row-major indices of the positions of a grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["index_of", "indices_in", "position_of", "snake_order"]


def index_of(position: Sequence[int], shape: tuple[int, ...]) -> int:
    """Return the index of a position.

    Raises
    ------
    IndexError
        If the position lies outside the grid.
    """
    index = 0
    for p, n in zip(position, shape, strict=True):
        if not 0 <= p < n:
            raise IndexError(f"no tile at grid position {tuple(position)}: the grid is {shape}")
        index = index * n + p
    return index


def position_of(index: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the position of an index."""
    position = []
    for n in reversed(shape):
        index, p = divmod(index, n)
        position.append(p)
    return tuple(reversed(position))


def indices_in(spans: Sequence[range], shape: tuple[int, ...]) -> np.ndarray:
    """Return the indices of a block of positions, as an array of the shape of the block."""
    indices: np.ndarray = np.zeros((), np.int64)
    for span, n in zip(spans, shape, strict=True):
        indices = indices[..., None] * n + np.arange(span.start, span.stop)
    return indices


def snake_order(shape: tuple[int, ...]) -> list[int]:
    """Return all indices in an order in which successive positions differ by one step along one axis."""
    order: np.ndarray = np.zeros(1, np.int64)
    for n in shape:
        along = np.arange(n)
        # Every other stretch runs backward.
        backward = (np.arange(len(order)) % 2 == 1)[:, None]
        order = (order[:, None] * n + np.where(backward, along[::-1], along)).ravel()
    found: list[int] = order.tolist()
    return found
