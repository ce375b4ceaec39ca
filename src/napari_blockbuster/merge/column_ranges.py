"""Ranges of columns of the table of objects, and their form on the command line: ``area>=50``, ``0.6<=sphericity<=1``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["Ranges", "checked_ranges", "range_texts", "ranges_of_texts"]

Ranges = dict[str, tuple[float | None, float | None]]
"""Smallest and largest value of a column that is kept; None for no limit."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_FORM = re.compile(
    rf"\s*(?:(?P<low>{_NUMBER})\s*<=\s*)?(?P<name>[^<>=\s](?:[^<>=]*[^<>=\s])?)\s*(?:(?P<sign>>=|<=)\s*(?P<bound>{_NUMBER}))?\s*"
)


def checked_ranges(ranges: Mapping[str, Any]) -> Ranges:
    """Return ranges as pairs of numbers.

    Raises
    ------
    ValueError
        If one is no pair of numbers, or no value lies in it.
    """
    if not isinstance(ranges, Mapping) or not all(isinstance(name, str) for name in ranges):
        raise ValueError(
            f'ranges is {ranges!r}. Give names of columns with their limits, such as {{"area": (50, None)}}.'
        )
    found: Ranges = {}
    for name, pair in ranges.items():
        try:
            low, high = (None if bound is None else float(bound) for bound in pair)
        except (TypeError, ValueError):
            raise ValueError(
                f"The range of {name!r} is {pair!r}. Give the smallest and the largest value: (50, None) for 50 or more."
            ) from None
        # The command line has no word for infinity.
        low, high = None if low == -math.inf else low, None if high == math.inf else high
        if low is None and high is None:
            continue
        if (low is not None and low != low) or (high is not None and high != high):
            raise ValueError(f"The range of {name!r} is {pair!r}. Its limits must be numbers.")
        if (low is not None and high is not None and low > high) or low == math.inf or high == -math.inf:
            raise ValueError(f"The range of {name!r} is {pair!r}. No object can be kept.")
        found[name] = low, high
    return found


def ranges_of_texts(texts: Iterable[str]) -> Ranges:
    """Return the ranges of texts such as ``area>=50``. Several for one column all hold.

    Raises
    ------
    ValueError
        If a text is no range.
    """
    found: Ranges = {}
    for text in texts:
        match = _FORM.fullmatch(text)
        if match is None or not (match["low"] or match["bound"]) or (match["low"] and match["sign"] == ">="):
            raise ValueError(
                f"The condition is {text!r}. Give a column and a limit, such as 'area>=50' or '0.6<=sphericity<=1'."
            )
        lows = [float(match["low"])] if match["low"] else []
        highs: list[float] = []
        if match["bound"]:
            (lows if match["sign"] == ">=" else highs).append(float(match["bound"]))
        low, high = found.get(match["name"], (None, None))
        lows += [] if low is None else [low]
        highs += [] if high is None else [high]
        found[match["name"]] = max(lows, default=None), min(highs, default=None)
    return found


def range_texts(ranges: Ranges) -> list[str]:
    """Return ranges in the form that `ranges_of_texts` reads."""
    texts = []
    for name, (low, high) in ranges.items():
        if low is not None:
            texts.append(f"{name}>={low!r}")
        if high is not None:
            texts.append(f"{name}<={high!r}")
    return texts
