"""Boxes as text: ``z0:z1,y0:y1,x0:x1`` in voxels, or in world units as ``10um:200um``."""

from __future__ import annotations

import math
import re

from napari_blockbuster.geometry.roi.box_part import BoxPart
from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images.metadata.sizes import conversion

from .frame import Frame

__all__ = ["is_box", "read_box"]

UNITS = {
    "um": "micrometer",
    "µm": "micrometer",
    "μm": "micrometer",
    "nm": "nanometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
}
_END = re.compile(r"^\s*(-?\d*\.?\d*(?:[eE][-+]?\d+)?)\s*([a-zµμ]*)\s*$")
_SHAPE = re.compile(r"^[\s\d.:,eE+\-a-zµμ]*$")


def is_box(text: str) -> bool:
    """Whether text looks like a box: ranges of numbers, and no name of a file."""
    ranges = text.split(",")
    return bool(_SHAPE.match(text)) and ":" in text and all(_ranged(each) for each in ranges)


def _ranged(text: str) -> bool:
    ends = text.split(":")
    return not text.strip() or (len(ends) == 2 and all(_END.match(end) for end in ends))


def read_box(text: str, frame: Frame) -> BoxPart:
    """Read a box.

    Parameters
    ----------
    text : str
        One range for each spatial axis, or for each axis of the image. An end may be left out: ``:,100:,:50``.
    frame : Frame
        Its image.

    Raises
    ------
    ValueError
        If there are too many or too few ranges, or if one has no voxels or an unknown unit.
    """
    ranges = text.split(",")
    leading = len(frame.shape) - len(ranges)
    spatial = [axis for axis in frame.axes if axis != "t"]
    if len(ranges) not in (len(spatial), len(frame.shape)):
        raise ValueError(
            f"The box {text!r} has {len(ranges)} ranges, and the image has the axes {', '.join(frame.axes)}. "
            f"Give one range for each of {', '.join(spatial)}, such as {','.join(['10:200'] * len(spatial))}."
        )
    spans = [(0, n) for n in frame.shape[:leading]]
    spans += [_span(each, axis, text, frame) for axis, each in enumerate(ranges, leading)]
    return BoxPart(Box(*zip(*spans, strict=True)))


def _span(text: str, axis: int, box: str, frame: Frame) -> tuple[int, int]:
    ends = text.split(":") if text.strip() else ["", ""]
    found = [_END.match(end) for end in ends]
    if len(found) != 2 or None in found:
        raise ValueError(f"{text!r} in the box {box!r} is no range. Use start:stop, such as 10:200 or 5um:80um.")
    numbers = [float(m[1]) if m is not None and m[1] else None for m in found]
    units = [m[2] for m in found if m is not None and m[2]]
    low: float | None
    high: float | None
    if not units:
        low, high = (_whole(number, text, box) for number in numbers)
        span = (0 if low is None else int(low), frame.shape[axis] if high is None else int(high))
    else:
        # "5:80um" is in micrometers at both ends.
        own = [m[2] if m is not None and m[2] else units[0] for m in found]
        low, high = (n if n is None else n * _in_unit(u, axis, box, frame) for n, u in zip(numbers, own, strict=True))
        if not all(n is None or math.isfinite(n) for n in (low, high)):
            raise ValueError(f"{text!r} in the box {box!r} is no range: a number is too large.")
        span = frame.span(axis, low, high)
    if span[0] >= span[1]:
        hint = "The stop must be larger." if _is_turned(low, high) else frame.extent(axis, in_units=bool(units))
        raise ValueError(f"{text!r} in the box {box!r} holds no voxel along {frame.axes[axis]}. {hint}")
    return span


def _is_turned(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and low >= high


def _whole(number: float | None, text: str, box: str) -> int | None:
    """An end of a range in voxels."""
    if number is None:
        return None
    if number < 0 or not number.is_integer():
        raise ValueError(
            f"{text!r} in the box {box!r} is no range of voxels: these are whole numbers from 0. World coordinates have a unit, "
            "such as -5um:80.5um."
        )
    return int(number)


def _in_unit(name: str, axis: int, box: str, frame: Frame) -> float:
    """How many units of the image one unit of a box is."""
    if name not in UNITS:
        raise ValueError(f"{name!r} in the box {box!r} is an unknown unit. Use one of {', '.join(UNITS)}, or voxels.")
    unit = frame.units[axis]
    if frame.axes[axis] == "t":
        raise ValueError(f"The box {box!r} is in {name} along t. Give time points there, such as 0:5.")
    if unit is None:
        raise ValueError(
            f"The box {box!r} is in {name}, and the image does not say how large a voxel is along {frame.axes[axis]}. "
            "Give voxels, or the size of a voxel with spacing= (--spacing)."
        )
    return conversion(UNITS[name], unit)
