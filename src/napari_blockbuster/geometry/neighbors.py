"""Pairs of tiles that touch."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

__all__ = ["Neighbor", "forward_offsets"]


@dataclass(frozen=True, slots=True)
class Neighbor:
    """Two tiles that touch: `high` lies at ``low.position + offset``.

    The first non-zero entry of `offset` is +1, so that each pair of tiles is named once. `axis` is the place of that entry;
    a pair with a single non-zero entry shares a face, others only an edge or a corner.
    """

    low: int
    high: int
    offset: tuple[int, ...]

    @property
    def axis(self) -> int:
        """First axis along which the tiles are apart."""
        return _first_axis(self.offset)

    @property
    def is_face(self) -> bool:
        """Whether the tiles share a face."""
        return sum(map(abs, self.offset)) == 1


@functools.lru_cache(maxsize=1024)
def _first_axis(offset: tuple[int, ...]) -> int:
    return next(i for i, o in enumerate(offset) if o)


def forward_offsets(ndim: int, separate_axes: int) -> tuple[tuple[int, ...], ...]:
    """Return the offsets of a tile's forward neighbors: half of the 3^n - 1 around it, faces first.

    Tiles are never neighbors along the first `separate_axes`.
    """
    free = ndim - separate_axes
    half = [o for o in itertools.product((-1, 0, 1), repeat=free) if o > (0,) * free]
    half.sort(key=lambda o: (sum(map(abs, o)), [-x for x in o]))
    return tuple((0,) * separate_axes + o for o in half)
