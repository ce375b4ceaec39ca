"""Polygons in GeoJSON, as QuPath and others write it: x and y in pixels of the full resolution."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from napari_blockbuster.geometry.roi.polygon_part import PolygonPart

from .frame import Frame

__all__ = ["load_geojson", "read_polygons"]


def load_geojson(path: Path) -> Any:
    """Read a GeoJSON file.

    Raises
    ------
    ValueError
        If it is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as GeoJSON ({error}). Export the regions again.") from None


def read_polygons(said: Any, frame: Frame, name: str) -> PolygonPart:
    """Return the polygons of GeoJSON as a part of a region of interest. They hold in every plane of the image.

    Parameters
    ----------
    said : dict or list
        A FeatureCollection, a feature, a geometry, or a list of these. Points and lines are ignored.
    frame : Frame
        The image.
    name : str
        For messages.

    Raises
    ------
    ValueError
        If it holds no polygon, or if the image has fewer than two spatial axes.
    """
    if frame.axes[-2:] != ("y", "x"):
        raise ValueError(
            f"{name} holds polygons, and the image has no axes y and x (its axes: {', '.join(frame.axes)})"
        )
    factors = np.array(frame.factors[-2:])
    try:
        found = [
            # x comes first in GeoJSON; further coordinates are heights.
            [_vertices(ring) / factors for ring in polygon if len(ring)]
            for polygon in _polygons(said)
        ]
    except (TypeError, ValueError, KeyError, AttributeError):
        raise ValueError(f"{name} is not GeoJSON: coordinates of a polygon are missing or no finite numbers.") from None
    if not found:
        raise ValueError(f"{name} holds no polygon. Export regions with an area, not points or lines.")
    return PolygonPart.of(found, frame.shape[-2:])


def _vertices(ring: Any) -> np.ndarray:
    vertices = np.asarray([(y, x) for x, y, *_ in ring], np.float64)
    if not np.isfinite(vertices).all():
        raise ValueError
    return vertices


def _polygons(said: Any) -> Iterator[list[Any]]:
    if isinstance(said, list):
        for each in said:
            yield from _polygons(each)
        return
    kind = said.get("type")
    if kind == "FeatureCollection":
        yield from _polygons(said["features"])
    elif kind == "Feature":
        if said.get("geometry"):
            yield from _polygons(said["geometry"])
    elif kind == "GeometryCollection":
        yield from _polygons(said["geometries"])
    elif kind == "Polygon":
        yield said["coordinates"]
    elif kind == "MultiPolygon":
        yield from said["coordinates"]
    elif kind not in ("Point", "MultiPoint", "LineString", "MultiLineString"):
        raise ValueError
