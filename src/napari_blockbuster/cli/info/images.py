"""Description of an image, and of a folder or plate of images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from napari_blockbuster.machine.units import bytes_text

from .text import Rows, by, named

if TYPE_CHECKING:
    from napari_blockbuster.images import Collection, ImageSource, Scene
    from napari_blockbuster.models import Model

__all__ = ["describe_collection", "describe_image"]


def describe_image(path: str, model: Model, **options: Any) -> Rows:
    """Return axes, shape, chunks and levels of an image, and the tiles that a run would use."""
    from napari_blockbuster.geometry.tiles import TileGrid
    from napari_blockbuster.images import list_scenes, open_image
    from napari_blockbuster.job.setup.suggestion import suggest_tiles

    scenes = list_scenes(path)
    unclear = options.get("scene") is None and len(scenes) > 1
    options = options | ({"scene": _largest(scenes)} if unclear else {})
    channels = _channels(path, options)
    source = open_image(path, **options | ({"channel": 0} if channels else {}))
    tile, halo = suggest_tiles(source, model)
    n_frames = source.separate_axes
    grid = TileGrid(source.shape, (1,) * n_frames + tile, (0,) * n_frames + halo, separate_axes=n_frames)
    known = any(source.units) or set(source.scale) != {1.0}
    scale = ", ".join(f"{name} {s:g} {unit or ''}".strip() for name, s, unit in _axes_of(source))
    voxels = math.prod(source.shape)
    return [
        ("image", path),
        *_scene_rows(scenes, options.get("scene"), unclear),
        ("shape", named(source.axes, source.shape)),
        *([("channels", f"{', '.join(channels)}; choose one with --channel")] if channels else []),
        ("type", f"{source.dtype}, {bytes_text(voxels * source.dtype.itemsize)} uncompressed"),
        ("voxel", scale if known else "size unknown"),
        ("chunks", by(source.read_chunks)),
        *_level_rows(path, options | {"channel": source.layout.channel}),
        ("tile", f"{by(tile)} (suggested for {model.family})"),
        ("halo", f"{by(halo)} (suggested for {model.family})"),
        ("tiles", str(len(grid))),
    ]


def _largest(scenes: list[Scene]) -> int:
    """The scene to describe where none was chosen: the first of the largest."""
    return max(range(len(scenes)), key=lambda i: (math.prod(scenes[i].shape or (0,)), -i))


def _scene_rows(scenes: list[Scene], scene: Any, unclear: bool) -> Rows:
    """The images that a file holds; no row for a single one."""
    from napari_blockbuster.images.metadata.scenes import listed

    if len(scenes) < 2:
        return []
    advice = f"; below: {scene}, choose one with --scene" if unclear else f"; below: {scene}"
    return [("scenes", f"{len(scenes)} images: {listed(scenes)}{advice}")]


def _axes_of(source: ImageSource) -> list[tuple[str, float, str | None]]:
    return list(zip(source.axes, source.scale, source.units, strict=True))


def _channels(path: str, options: dict[str, Any]) -> list[str]:
    """Return the channels that a run would have to choose from; empty if there is no choice."""
    from napari_blockbuster.images import ChannelNotChosenError, open_image

    try:
        open_image(path, **options)
    except ChannelNotChosenError as error:
        return error.channels
    return []


def _level_rows(path: str, options: dict[str, Any]) -> Rows:
    """List the shapes of a pyramid's levels; no row for a single level."""
    from napari_blockbuster.images import open_image

    shapes = []
    for level in range(64):
        try:
            shapes.append(open_image(path, **options | {"level": level}).shape)
        except ValueError:
            break
    return [("levels", ", ".join(by(shape) for shape in shapes))] if len(shapes) > 1 else []


def describe_collection(found: Collection) -> Rows:
    """List the images of a folder, pattern or plate. Reads their metadata only."""
    from napari_blockbuster.machine.errors import one_line

    rows = [(found.kind, found.place), ("images", str(len(found.members)))]
    for member in found.members:
        try:
            rows.append((member.name, _in_short(member.path)))
        except (OSError, ValueError, ImportError) as error:
            rows.append((member.name, f"cannot be read: {one_line(error)}"))
    if found.others:
        names = ", ".join(found.others[:4]) + (f" and {len(found.others) - 4} more" if len(found.others) > 4 else "")
        rows.append(("left out", f"{len(found.others)}: {names}"))
    return rows


def _in_short(path: str) -> str:
    """Shape, channels, type and number of scenes of an image."""
    from napari_blockbuster.images import list_scenes, open_image

    scenes = list_scenes(path)
    options: dict[str, Any] = {"scene": _largest(scenes)} if len(scenes) > 1 else {}
    channels = _channels(path, options)
    source = open_image(path, **options | ({"channel": 0} if channels else {}))
    parts = [named(source.axes, source.shape), str(source.dtype)]
    if channels:
        parts.append(f"{len(channels)} channels")
    if len(scenes) > 1:
        parts.append(f"number {options['scene']} of {len(scenes)} scenes")
    return ", ".join(parts)
