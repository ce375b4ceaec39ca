"""The size of a voxel: one function decides it for every kind of image."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["ImageWarning", "Sizes", "conversion", "level_factor", "say", "spacing_of_axes", "voxel_sizes"]

LARGEST_RATIO = 1000
"""Between two spatial axes of one image. Beyond it, one of the sizes is wrong."""
PLAUSIBLE = (1e-4, 1e4)
"""Sizes in this range are accepted in any unit."""
METERS = (1e-13, 1.0)
"""A voxel is at least a tenth of a picometer and at most a meter long."""
LENGTH = "micrometer"
"""Unit of sizes that come without one that OME-Zarr knows."""

PREFIXES: tuple[str, ...] = (
    "",
    "atto",
    "centi",
    "deci",
    "exa",
    "femto",
    "giga",
    "hecto",
    "kilo",
    "mega",
    "micro",
    "milli",
    "nano",
)
PREFIXES += ("peta", "pico", "tera", "yocto", "yotta", "zepto", "zetta")
UNITS = {
    "[length]": {"angstrom", "foot", "inch", "mile", "parsec", "yard", *(f"{p}meter" for p in PREFIXES)},
    "[time]": {"day", "hour", "minute", *(f"{p}second" for p in PREFIXES)},
}
"""Names that OME-Zarr allows."""
FREQUENT = {"µm": "micrometer", "μm": "micrometer", "um": "micrometer", "nm": "nanometer", "mm": "millimeter"} | {
    "micron": "micrometer",
    "microns": "micrometer",
    "s": "second",
    "sec": "second",
    "ms": "millisecond",
}
"""Spellings that do not need pint, which takes half a second to load."""


class ImageWarning(UserWarning):
    """An image was opened, but something that it says of itself could not be used."""


def say(text: str) -> None:
    """Warn about an image; Python shows each text once."""
    warnings.warn(text, ImageWarning, stacklevel=2)


@dataclass(frozen=True)
class Sizes:
    """Extent of a voxel along each axis.

    Attributes
    ----------
    scale : tuple of float
        Always positive and finite.
    units : tuple of str or None
        None where the image does not say, or where the size had to be taken from another axis.
    """

    scale: tuple[float, ...]
    units: tuple[str | None, ...]


def voxel_sizes(
    axes: str,
    extents: Sequence[int],
    sizes: Mapping[str, Any],
    units: Mapping[str, Any],
    what: str,
    *,
    spacing: float | Sequence[float | None] | None = None,
    factors: Mapping[str, float] | None = None,
) -> Sizes:
    """Decide the size of a voxel from what an image says of itself and what the user says.

    Missing, zero, negative, infinite, NaN and absurd sizes are unknown. An unknown size of one spatial axis beside known
    ones is taken from x (else y, z), and a warning says so. Units of space are brought to that of x. An axis with a
    single plane is no reason for a warning.

    Parameters
    ----------
    axes : str
        Axes of the image without channels, as ``"tzyx"``.
    extents : sequence of int
        Voxels along each axis at full resolution.
    sizes, units : mapping
        By axis at full resolution, as stored: anything may stand there.
    what : str
        Name of the image for messages.
    spacing : float or sequence of float or None, optional
        Sizes of the spatial axes at full resolution in micrometers, from the user. None in the sequence: as stored.
    factors : mapping, optional
        By axis, how much longer a voxel of the opened level is than one of full resolution.

    Raises
    ------
    ValueError
        If `spacing` does not fit the image or is not positive.
    """
    space = [a for a in axes if a in "zyx"]
    given = spacing_of_axes(spacing, space, what)
    stored = {a: _stored(sizes.get(a), units.get(a), "[length]" if a in "zyx" else "[time]") for a in axes}
    stored |= {a: (value, LENGTH) for a, value in given.items()}
    found = _in_one_unit(space, stored)
    reference = next((a for a in reversed(space) if found[a][0] is not None), None)
    thick = {a for a, n in zip(axes, extents, strict=True) if n > 1}
    result: dict[str, tuple[float, str | None]] = {}
    wrong = []
    for axis in axes:
        value, unit = found[axis]
        if reference is not None and axis in space and axis not in given and value is not None:
            near = found[reference][0] or 1.0
            value = value if 1 / LARGEST_RATIO <= value / near <= LARGEST_RATIO else None
        if value is not None:
            result[axis] = (value, unit)
            continue
        result[axis] = (found[reference][0] or 1.0, None) if reference is not None and axis in space else (1.0, None)
        if sizes.get(axis) is not None or (reference is not None and axis in space and axis in thick):
            wrong.append(axis)
    _report(what, wrong=wrong, thick=thick, sizes=sizes, units=units, result=result, reference=reference)
    factors = factors or {}
    return Sizes(
        tuple(result[a][0] * factors.get(a, 1.0) for a in axes),
        tuple(result[a][1] for a in axes),
    )


def spacing_of_axes(
    spacing: float | Sequence[float | None] | None, space: Sequence[str], what: str
) -> dict[str, float]:
    """The user's sizes by axis."""
    if spacing is None:
        return {}
    values = [spacing] * len(space) if isinstance(spacing, int | float) else list(spacing)
    if len(values) == 1:
        values = values * len(space)
    if len(values) != len(space):
        raise ValueError(
            f"spacing has {len(values)} numbers, but {what} has {len(space)} spatial axes ({' '.join(space)}). "
            "Give one number for each, in micrometers"
        )
    result = {}
    for axis, value in zip(space, values, strict=True):
        if value is None:
            continue
        number = _number(value)
        if number is None:
            raise ValueError(f"spacing is {value!r} along {axis}. It must be a number of micrometers above 0")
        result[axis] = number
    return result


def level_factor(full: int, here: int) -> float:
    """How much longer a voxel of a level is, from both extents: a whole number where one explains them."""
    if here < 1:
        return 1.0
    for whole in (math.floor(full / here), math.ceil(full / here)):
        if whole >= 1 and here in (full // whole, -(-full // whole)):
            return float(whole)
    return full / here


# --------------------------------------------------------------------------------------------------------------- parts
def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _stored(value: Any, unit: Any, dimension: str) -> tuple[float | None, str | None]:
    """One axis: its size and a unit that OME-Zarr knows."""
    number = _number(value)
    factor, name = _unit(unit, dimension)
    if number is None:
        return None, None
    number *= factor
    low, high = PLAUSIBLE
    if not low <= number <= high and dimension == "[length]":
        in_meters = number if name is None else number * conversion(name, "meter")
        low, high = METERS if name is not None else (1e-9, 1e9)
        if not low <= in_meters <= high:
            return None, None
    return number, name


def _in_one_unit(
    space: Sequence[str], stored: Mapping[str, tuple[float | None, str | None]]
) -> dict[str, tuple[float | None, str | None]]:
    """Spatial sizes in the unit of x (else y, z)."""
    found = dict(stored)
    unit = next((found[a][1] for a in reversed(space) if found[a][0] is not None and found[a][1]), None)
    if unit is None:
        return found
    for axis in space:
        value, own = found[axis]
        if value is None or own == unit:
            continue
        if own is None:
            # Writers put 1 where they know nothing; another number without a unit is in that of the others.
            found[axis] = (None, None) if value == 1 else (value, unit)
        else:
            found[axis] = (value * conversion(own, unit), unit)
    return found


def _report(
    what: str,
    *,
    wrong: Sequence[str],
    thick: set[str],
    sizes: Mapping[str, Any],
    units: Mapping[str, Any],
    result: Mapping[str, tuple[float, str | None]],
    reference: str | None,
) -> None:
    # Beside voxels that have no size but 1 of no unit, nothing is lost.
    unsized = reference is None or result[reference] == (1.0, None)
    told = [a for a in wrong if a in thick and not (unsized and sizes.get(a) is None)]
    if not told:
        return
    parts = []
    for axis in told:
        text = "not stored" if sizes.get(axis) is None else f"{sizes[axis]} {units.get(axis) or ''}".strip()
        parts.append(f"{axis}: {text}")
    instead = ""
    if reference is not None and any(a in "zyx" for a in told):
        value, unit = result[reference]
        instead = f". Used instead: {value:g} {unit or ''}".rstrip() + f", the size along {reference}"
    say(
        f"{what}: voxel size unknown along {', '.join(told)} ({'; '.join(parts)}){instead}. "
        "Set it with spacing= (--spacing), in micrometers"
    )


# --------------------------------------------------------------------------------------------------------------- units
@functools.lru_cache(maxsize=256)
def _unit_of(text: str, dimension: str) -> tuple[float, str | None]:
    if "\\u" in text:
        # ImageJ escapes its µ.
        text = text.encode("ascii", "backslashreplace").decode("unicode_escape")
    text = FREQUENT.get(text, text)
    if text in UNITS[dimension]:
        return 1.0, text
    if not text or any(text in names for names in UNITS.values()):
        return 1.0, None
    try:
        unit = _registry().Unit(text)
        if str(unit) in UNITS[dimension]:
            return 1.0, str(unit)
        if dict(unit.dimensionality) != {dimension: 1}:
            return 1.0, None
        target = LENGTH if dimension == "[length]" else "second"
        return float(_registry().Quantity(1.0, unit).to(target).magnitude), target
    except Exception:
        # Anything may stand where a unit should: "pixel", "reference frame", half a sentence.
        return 1.0, None


def _unit(unit: Any, dimension: str) -> tuple[float, str | None]:
    """A factor and the name of a unit that OME-Zarr knows; None where there is none."""
    return (1.0, None) if unit is None else _unit_of(str(unit).strip(), dimension)


@functools.lru_cache(maxsize=64)
def conversion(unit: str, target: str) -> float:
    """How many of one unit are in another: 1000 for millimeters in micrometers."""
    if unit == target:
        return 1.0
    if {unit, target} == {"nanometer", "micrometer"}:
        return 1e-3 if unit == "nanometer" else 1e3
    return float(_registry().Quantity(1.0, unit).to(target).magnitude)


def _registry() -> Any:
    import pint

    return pint.get_application_registry()  # type: ignore[no-untyped-call]
