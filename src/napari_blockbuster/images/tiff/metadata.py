"""What a TIFF file says of an image: sizes, units and names of channels, in the dialects of several programs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .files import OpenTiff

__all__ = ["Facts", "facts_of"]

INCHES, CENTIMETERS, MILLIMETERS, MICROMETERS = 2, 3, 4, 5
RESOLUTION_UNITS = {INCHES: 25_400.0, CENTIMETERS: 10_000.0, MILLIMETERS: 1000.0, MICROMETERS: 1.0}
PRINTING = (72, 75, 90, 96, 100, 120, 150, 180, 200, 240, 300, 360, 400, 600, 720, 1200)
"""Dots per inch that programs write where they know nothing of a microscope."""


@dataclass
class Facts:
    """Sizes and units by axis as stored, names of channels, and what was damaged."""

    sizes: dict[str, Any] = field(default_factory=dict)
    units: dict[str, Any] = field(default_factory=dict)
    channels: list[str] = field(default_factory=list)
    damage: str = ""

    def set(self, axis: str, size: Any, unit: Any) -> None:
        if size is not None:
            self.sizes[axis], self.units[axis] = size, unit


def facts_of(tiff: OpenTiff, index: int) -> Facts:
    """Read what a file says of one of its images. Nothing that stands there is an error."""
    facts = Facts(damage=tiff.damage)
    file, series = tiff.file, tiff.series[index]
    if tiff.images[index] is not None:
        _ome(tiff.images[index], facts)
        return facts
    for is_kind, read in DIALECTS:
        if getattr(file, is_kind, False):
            # A dialect that its own program broke must not cost the pixels.
            with contextlib.suppress(Exception):
                read(file, facts)
            if facts.sizes:
                return facts
    with contextlib.suppress(Exception):
        _resolution(series.keyframe, facts)
    return facts


# The names and defaults below are those of the OME schema. Its full model (ome-types) takes more than a second to load,
# and refuses an image for one attribute that is not valid.
def _ome(image: Any, facts: Facts) -> None:
    pixels = image.find("./{*}Pixels")
    for axis in "xyz":
        name = f"PhysicalSize{axis.upper()}"
        facts.set(axis, pixels.get(name), pixels.get(f"{name}Unit", "µm"))
    facts.set("t", pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"))
    facts.channels = [channel.get("Name") or "" for channel in pixels.findall("./{*}Channel")]


def _imagej(file: Any, facts: Facts) -> None:
    metadata = file.imagej_metadata or {}
    unit = metadata.get("unit") or None
    tags = file.pages[0].tags
    for axis, name, own in (("x", "XResolution", "xunit"), ("y", "YResolution", "yunit")):
        if name in tags:
            pixels, units = tags[name].value
            facts.set(axis, units / pixels if pixels else 0.0, metadata.get(own) or unit)
    facts.set("z", metadata.get("spacing"), metadata.get("zunit") or unit)
    facts.set("t", metadata.get("finterval") or None, metadata.get("tunit") or "s")


def _lsm(file: Any, facts: Facts) -> None:
    metadata = file.lsm_metadata
    for axis in "xyz":
        facts.set(axis, metadata.get(f"VoxelSize{axis.upper()}"), "meter")
    facts.set("t", metadata.get("TimeIntervall") or metadata.get("TimeInterval") or None, "s")


def _stk(file: Any, facts: Facts) -> None:
    metadata = file.stk_metadata
    if metadata.get("SpatialCalibration", 1):
        unit = metadata.get("CalibrationUnits")
        for axis in "xy":
            facts.set(axis, metadata.get(f"{axis.upper()}Calibration"), unit)
    distances = np.atleast_1d(metadata.get("ZDistance", []))
    if len(distances):
        facts.set("z", float(np.abs(distances[-1])), metadata.get("CalibrationUnits"))


def _svs(file: Any, facts: Facts) -> None:
    found = re.search(r"\bMPP\s*=\s*([^|\s]+)", file.pages[0].description or "")
    for axis in "xy" if found else "":
        facts.set(axis, found[1] if found else None, "µm")


def _micromanager(file: Any, facts: Facts) -> None:
    summary = (file.micromanager_metadata or {}).get("Summary", {})
    for axis in "xy":
        facts.set(axis, summary.get("PixelSize_um") or None, "µm")
    facts.set("z", summary.get("z-step_um") or None, "µm")
    facts.channels = [str(name) for name in summary.get("ChNames") or []]


def _resolution(page: Any, facts: Facts) -> None:
    """Pixels per unit of length, which every TIFF may say."""
    unit = page.tags.valueof("ResolutionUnit", default=INCHES)
    if unit not in RESOLUTION_UNITS:
        return
    for axis, name in (("x", "XResolution"), ("y", "YResolution")):
        value = page.tags.valueof(name)
        if not value or not value[0] or not value[1]:
            continue
        density = value[0] / value[1]
        per_inch = density * RESOLUTION_UNITS[INCHES] / RESOLUTION_UNITS[unit]
        if not any(abs(per_inch - dots) < 0.5 for dots in PRINTING) and density != 1:
            facts.set(axis, RESOLUTION_UNITS[unit] / density, "micrometer")


DIALECTS: tuple[tuple[str, Callable[[Any, Facts], None]], ...] = (
    ("is_imagej", _imagej),
    ("is_lsm", _lsm),
    ("is_stk", _stk),
    ("is_svs", _svs),
    ("is_micromanager", _micromanager),
)
"""tifffile's name of a dialect, and what reads it."""
