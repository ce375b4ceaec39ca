"""OME-Zarr metadata as other programs write it: null, text and single values where the specification asks for something else.

An image can be segmented without the parts that are read here.
"""

from __future__ import annotations

import math
from typing import Any

__all__ = ["mapping", "number", "ome", "sequence", "text", "transforms"]


def transforms(dataset: dict[str, Any], multiscale: dict[str, Any], ndim: int) -> tuple[list[float], list[float]]:
    """Scale and translation of a level: its own transformations, then those of the whole pyramid."""
    scale, translation = [1.0] * ndim, [0.0] * ndim
    for holder in (dataset, multiscale):
        for step in map(mapping, sequence(holder.get("coordinateTransformations"))):
            numbers = sequence(step.get(str(step.get("type"))))
            if len(numbers) != ndim:
                continue
            if step["type"] == "scale":
                factors = [number(n, 1.0) or 1.0 for n in numbers]
                scale = [number(a * b, 1.0) for a, b in zip(scale, factors, strict=True)]
                translation = [number(a * b, 0.0) for a, b in zip(translation, factors, strict=True)]
            elif step["type"] == "translation":
                translation = [number(a + number(b, 0.0), 0.0) for a, b in zip(translation, numbers, strict=True)]
    return scale, translation


def ome(attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes that OME-Zarr defines: under one key since version 0.5."""
    inner = attributes.get("ome")
    return inner if isinstance(inner, dict) else attributes


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple | str) else []


def text(value: Any) -> str | None:
    return (value.strip() or None) if isinstance(value, str) else None


def number(value: Any, otherwise: float) -> float:
    """A finite number; another one instead of anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return otherwise
    return number if math.isfinite(number) else otherwise
