"""Quantities as text."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["bytes_text", "count_text", "shape_text"]


def bytes_text(n_bytes: float) -> str:
    """Return a number of bytes with a unit: ``3.2 GB``. Units are powers of a thousand."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


def count_text(n: int, noun: str) -> str:
    """Return a number and its noun: "1 tile", "1,200 tiles"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def shape_text(shape: Iterable[int]) -> str:
    """Return extents as text: "128 x 256"."""
    return " x ".join(str(int(n)) for n in shape)
