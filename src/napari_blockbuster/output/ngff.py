"""OME-NGFF: the levels of a label pyramid, and the attributes that describe them."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Level", "attributes", "axis_attributes", "check_version", "plan_levels"]

VERSIONS = ("0.5", "0.4")
"""Versions of OME-Zarr that can be written."""

SMALLEST = 256
"""Longest spatial extent of the coarsest level, in voxels."""


@dataclass(frozen=True)
class Level:
    """One level of a pyramid.

    Attributes
    ----------
    factors : tuple of int
        Voxel ``j`` of this level is voxel ``j * factor`` of the full resolution: no level has ids of its own.
    shape : tuple of int
    """

    factors: tuple[int, ...]
    shape: tuple[int, ...]


def check_version(version: str) -> None:
    """Refuse a version of OME-Zarr that cannot be written.

    Raises
    ------
    ValueError
    """
    if version not in VERSIONS:
        known = " or ".join(map(repr, VERSIONS))
        raise ValueError(f"OME-Zarr version {version!r} cannot be written. Choose {known}")


def plan_levels(
    shape: Sequence[int], scale: Sequence[float], separate_axes: int, n_levels: int | None = None
) -> list[Level]:
    """Return the levels of a pyramid: halved along the spatial axes, the finest ones first, until voxels are about isotropic.

    Parameters
    ----------
    shape, scale : sequence
        At full resolution; time first, if there is time.
    separate_axes : int
        Leading axes that are never reduced.
    n_levels : int, optional
        Default: until the longest spatial extent is at most 256.
    """
    scale = _lengths(scale)
    levels = [Level((1,) * len(shape), tuple(shape))]
    while _wants_another(levels, separate_axes, n_levels):
        last = levels[-1]
        size = [s * f for s, f in zip(scale, last.factors, strict=True)]
        finest = min(size[a] for a in range(separate_axes, len(shape)) if last.shape[a] > 1)
        # An axis with longer voxels is not halved until the others have caught up.
        halve = [a >= separate_axes and last.shape[a] > 1 and _is_fine(size[a], finest) for a in range(len(shape))]
        factors = tuple(f * 2 if h else f for f, h in zip(last.factors, halve, strict=True))
        levels.append(Level(factors, tuple(-(-n // f) for n, f in zip(shape, factors, strict=True))))
    return levels


def _lengths(scale: Sequence[float]) -> list[float]:
    """Return comparable voxel lengths: an axis whose scale is zero or not finite counts as one of the finest."""
    known = [abs(float(s)) for s in scale if math.isfinite(s) and s != 0]
    finest = min(known, default=1.0)
    return [abs(float(s)) if math.isfinite(s) and s != 0 else finest for s in scale]


def _is_fine(size: float, finest: float) -> bool:
    """Whether an axis is halved: always for the finest one, so that every step makes a level smaller."""
    return size <= finest or size < 1.5 * finest


def _wants_another(levels: list[Level], separate_axes: int, n_levels: int | None) -> bool:
    longest = max(levels[-1].shape[separate_axes:])
    if longest <= 1:
        return False
    return len(levels) < n_levels if n_levels is not None else longest > SMALLEST


def attributes(
    levels: Sequence[Level],
    *,
    version: str,
    axes: Sequence[str],
    scale: Sequence[float],
    units: Sequence[str | None],
    translation: Sequence[float] | None,
    name: str,
    source_image: str | None,
) -> dict[str, Any]:
    """Return the attributes of an OME-Zarr label image, version 0.4 or 0.5.

    A level's voxels are every second one of the level below, beginning with the first, so all levels have the same
    origin: the center of their first voxel.
    """
    datasets = []
    for number, level in enumerate(levels):
        steps: list[dict[str, Any]] = [
            {"type": "scale", "scale": [_stated(s, f) for s, f in zip(scale, level.factors, strict=True)]}
        ]
        if translation is not None:
            steps.append({"type": "translation", "translation": [float(t) for t in translation]})
        datasets.append({"path": str(number), "coordinateTransformations": steps})
    multiscale: dict[str, Any] = {
        "name": name,
        "axes": [axis_attributes(a, u) for a, u in zip(axes, units, strict=True)],
        "datasets": datasets,
        "type": "nearest",
    }
    label: dict[str, Any] = {"source": {"image": source_image}} if source_image else {}
    if version == "0.5":
        return {"ome": {"version": version, "multiscales": [multiscale], "image-label": label}}
    return {"multiscales": [{"version": version, **multiscale}], "image-label": {"version": version, **label}}


def _stated(length: float, factor: int) -> float:
    """Return the length of a voxel as a finite number that is not zero, as JSON requires."""
    known = float(length) if math.isfinite(length) and length != 0 else 1.0
    largest = sys.float_info.max
    return max(-largest, min(known * factor, largest))


def axis_attributes(name: str, unit: str | None) -> dict[str, str]:
    """Return the metadata of one axis."""
    axis = {"name": name, "type": {"t": "time", "c": "channel"}.get(name, "space")}
    return axis | {"unit": unit} if unit else axis
