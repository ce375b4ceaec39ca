"""From what a user has (a path, a URL, an array) to an image: which axes, which channel, which level."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

import numpy as np

from .arrays import ArraySource, DaskSource
from .base import ImageReadError, ImageSource, Layout
from .channels import ChannelsSource
from .errors import ChannelNotChosenError
from .metadata import mapping, ome, sequence, text, transforms
from .stored import StoredSource, kvstore, new_opening, open_array
from .tiff import TiffSource, describe_tiff

__all__ = ["open_image", "source_from_description"]

USUAL_AXES = {1: "x", 2: "yx", 3: "zyx"}
TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8", ".tf2", ".ome", ".lsm", ".svs", ".ndpi", ".scn", ".qptiff")


def open_image(
    image: Any,
    *,
    channel: int | str | Sequence[int | str] | None = None,
    level: int = 0,
    axes: str | Sequence[str] | None = None,
) -> ImageSource:
    """Open an image at one level: one channel, or those that a model shall see together. No pixel is read.

    Parameters
    ----------
    image : path, URL, zarr.Array, dask array or numpy array
        OME-Zarr 0.4 or 0.5, zarr v2 or v3, TIFF; or an array.
    channel : int, str or sequence of these, optional
        Index along the channel axis, or its name where the image names channels. Needed if there are several.
        A sequence of them: pixels get one axis more, the last, for models that take several channels.
    level : int, default 0
        Level of a pyramid, 0 the finest.
    axes : str, optional
        Names of the axes, as ``"tczyx"``; needed where the image does not say and there are more than three.

    Raises
    ------
    FileNotFoundError
        If there is nothing at the path.
    ImageReadError
        If it cannot be read.
    ValueError
        If axes, channel or level are unclear or do not exist; the message says what there is.
    """
    if channel is not None and not isinstance(channel, (int, np.integer, str)):
        return _open_channels(image, list(channel), level, axes)
    named = None if axes is None else "".join(axes).lower()
    if isinstance(image, (str, os.PathLike)):
        return _open_path(os.fspath(image), channel, level, named)
    if level:
        raise ValueError(f"level is {level}, but an array has no levels; pass the array of that level")
    return _open_array(image, channel, named)


def _open_channels(image: Any, channels: list[int | str], level: int, axes: str | Sequence[str] | None) -> ImageSource:
    if not channels:
        raise ValueError("channel is an empty list; give one channel or more, or leave it out")
    parts = [open_image(image, channel=channel, level=level, axes=axes) for channel in channels]
    found = [part.layout.channel or 0 for part in parts]
    if len(set(found)) < len(found):
        raise ValueError(f"channel is {channels}, which names a channel twice; a model sees each once")
    return parts[0] if len(parts) == 1 else ChannelsSource(parts, found)


def source_from_description(description: dict[str, Any]) -> ImageSource:
    """Open an image again as `ImageSource.describe` told.

    Raises
    ------
    ValueError
        If it was in memory.
    OSError
        If it is not there any more.
    """
    kind = description["kind"]
    if kind not in ("zarr", "tiff"):
        raise ValueError("this image was in memory; pass it again")
    if "://" not in description["path"] and not Path(description["path"]).exists():
        raise FileNotFoundError(f"{description['path']} is not there any more")
    source = open_image(
        description["path"],
        channel=description["channel"],
        level=description["level"],
        axes=description.get("stored_axes"),
    )
    # The user may have known better than the file.
    for name in ("scale", "units", "translation"):
        values = tuple(description.get(name) or ())
        if len(values) == source.ndim:
            source.layout = replace(source.layout, **{name: values})  # type: ignore[arg-type]
    return source


# -------------------------------------------------------------------------------------------------------------- arrays
def _open_array(image: Any, channel: int | str | None, axes: str | None) -> ImageSource:
    if type(image).__module__.startswith("dask."):
        layout = _plain_layout(image, axes, channel, "this dask array")
        return DaskSource(image, layout, "dask array")
    if getattr(image, "store", None) is not None:
        if not hasattr(image, "chunks"):
            raise ValueError(f"this is a zarr group ({image.store}); pass its path, or one of its arrays")
        return _open_zarr_array(image, channel, axes)
    array = image if isinstance(image, np.ndarray) else _as_array(image)
    return ArraySource(array, _plain_layout(array, axes, channel, "this array"), "array")


def _as_array(image: Any) -> np.ndarray:
    try:
        array = np.asarray(image)
    except ValueError:  # Lists of unequal length.
        array = np.empty(0, object)
    if array.dtype == object or array.ndim == 0:
        raise ValueError(
            f"an image cannot be made of {type(image).__name__}; pass a path, or a zarr, dask or numpy array"
        )
    return array


def _open_zarr_array(array: Any, channel: int | str | None, axes: str | None) -> ImageSource:
    layout = _plain_layout(array, axes or _dimension_names(array), channel, "this zarr array")
    root = getattr(array.store, "root", None)
    if root is not None:
        # On disk: workers read it themselves.
        return StoredSource(str(Path(root).absolute() / array.path).rstrip("/"), "", layout)
    return ArraySource(array, layout, "zarr array")


def _dimension_names(array: Any) -> str | None:
    metadata = getattr(array, "metadata", None)
    names = getattr(metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    return _axes_of_names(names)


def _axes_of_names(names: Any) -> str | None:
    if not names or not all(isinstance(n, str) and n.lower() in ("t", "c", "z", "y", "x") for n in names):
        return None
    return "".join(names).lower()


def _plain_layout(array: Any, axes: str | None, channel: int | str | None, what: str) -> Layout:
    stored = _resolve_axes(axes, tuple(array.shape), what)
    _check_dtype(np.dtype(array.dtype), what)
    return _unscaled(stored, _pick_channel(stored, tuple(array.shape), channel, [], what))


def _unscaled(stored: str, channel: int | None) -> Layout:
    n = len(stored) - stored.count("c")
    return Layout(stored, channel, (1.0,) * n, (None,) * n)


# --------------------------------------------------------------------------------------------------------------- paths
def _open_path(path: str, channel: int | str | None, level: int, axes: str | None) -> ImageSource:
    if not path:
        raise ValueError("the image's path is empty; pass the path of an OME-Zarr, a zarr array or a TIFF file")
    remote = "://" in path and not path.startswith("file://")
    if not remote:
        local = _local_path(path)
        if not local.exists():
            nearest = next(p for p in local.parents if p.exists())
            raise FileNotFoundError(f"there is no image at {local}; the nearest folder that exists is {nearest}")
        if local.is_file():
            return _open_tiff(local, channel, level, axes)
        path = str(local)
    return _open_zarr(path, channel, level, axes)


def _local_path(path: str) -> Path:
    """The path that a path or a file URL means."""
    plain = path.removeprefix("file://")
    local = Path(plain).expanduser().absolute()
    if plain != path and not local.exists():
        # file:///C:/a%20b: escaped, as `Path.as_uri` and file managers write it.
        return Path(url2pathname(plain)).absolute()
    return local


def _open_tiff(path: Path, channel: int | str | None, level: int, axes: str | None) -> ImageSource:
    if path.suffix.lower() not in TIFF_SUFFIXES:
        raise ValueError(f"{path} is a file but no TIFF; images are OME-Zarr and zarr folders, and TIFF files")
    found = describe_tiff(path)
    _check_level(level, found.shapes, str(path))
    _check_dtype(found.dtype, str(path))
    shape = found.shapes[level]
    own = found.axes.lower().replace("s", "c")
    stored = _resolve_axes(axes or (own if set(own) <= set("tczyx") and own.count("c") < 2 else None), shape, str(path))
    names = [a for a in stored if a != "c"]
    full = dict(zip(stored, found.shapes[0], strict=True))
    here = dict(zip(stored, shape, strict=True))
    # A level says nothing of its own scale: it follows from how much smaller it is.
    scale = tuple(found.size.get(a, 1.0) * full[a] / here[a] for a in names)
    picked = _pick_channel(stored, shape, channel, found.channels, str(path))
    return TiffSource(str(path), Layout(stored, picked, scale, tuple(found.unit.get(a) or None for a in names)), level)


def _open_zarr(path: str, channel: int | str | None, level: int, axes: str | None) -> ImageSource:
    root, attributes = _find_image(path)
    multiscales = None if attributes is None else ome(attributes).get("multiscales")
    if multiscales:
        if not isinstance(multiscales, list):
            raise ImageReadError(f"{root}: its multiscales metadata is damaged (not a list)")
        return _open_ome_zarr(root, attributes or {}, multiscales[0], channel, level, axes)
    if attributes is not None:
        raise ValueError(_not_an_image(root, attributes))
    if level:
        raise ValueError(f"level is {level}, but {root} is a single array without levels")
    opening = new_opening()
    array = open_array(root, opening)
    stored = _resolve_axes(axes or _stored_names(root), array.shape, root)
    _check_dtype(array.dtype, root)
    layout = _unscaled(stored, _pick_channel(stored, array.shape, channel, [], root))
    return StoredSource(root, "", layout, opening=opening)


def _find_image(path: str) -> tuple[str, dict[str, Any] | None]:
    """The image's root, and the attributes of its group (None where the root is an array)."""
    attributes = _group_attributes(path)
    if attributes is not None and ome(attributes).get("bioformats2raw.layout") is not None:
        # One image for each child; the first is what such a file is made for most of the time.
        first = f"{path.rstrip('/')}/0"
        inner = _group_attributes(first)
        if inner is not None:
            return first, inner
    return path, attributes


def _group_attributes(path: str) -> dict[str, Any] | None:
    """Attributes of a zarr group; None for an array.

    Raises
    ------
    ImageReadError
        If there is neither, or the metadata is damaged.
    """
    v3 = _read_json(path, "zarr.json")
    if v3 is not None:
        return mapping(v3.get("attributes")) if v3.get("node_type") == "group" else None
    if _read_json(path, ".zarray") is not None:
        return None
    if _read_json(path, ".zgroup") is not None:
        return _read_json(path, ".zattrs") or {}
    raise ImageReadError(
        f"{path} is not an image: it holds no zarr.json, .zarray or .zgroup; "
        "pass the folder of an OME-Zarr or of a zarr array, or a TIFF file"
    )


def _read_json(path: str, name: str) -> dict[str, Any] | None:
    import tensorstore as ts

    try:
        answer = ts.KvStore.open(kvstore(path)).result().read(name).result()
    except ValueError:
        raise
    except Exception as error:
        raise ImageReadError(f"{path}/{name} cannot be read ({str(error)[:300]})") from error
    if answer.state == "missing":
        return None
    try:
        content = json.loads(answer.value)
    except ValueError:
        raise ImageReadError(f"{path}/{name} is damaged: it is not JSON") from None
    if not isinstance(content, dict):
        raise ImageReadError(f"{path}/{name} is damaged: it is not a JSON object")
    return content


def _stored_names(path: str) -> str | None:
    v3 = _read_json(path, "zarr.json")
    if v3 is not None:
        return _axes_of_names(v3.get("dimension_names"))
    return _axes_of_names((_read_json(path, ".zattrs") or {}).get("_ARRAY_DIMENSIONS"))


def _not_an_image(root: str, attributes: dict[str, Any]) -> str:
    if "plate" in ome(attributes):
        return f"{root} is a plate of many images; pass the path of one field, as {root}/A/1/0"
    arrays = []
    if "://" not in root:
        markers = [p.parent for name in ("*/zarr.json", "*/.zarray", "*/*/.zarray") for p in Path(root).glob(name)]
        arrays = sorted({str(p) for p in markers})[:6]
    inside = f"; inside it are {', '.join(arrays)}" if arrays else ""
    return f"{root} is a zarr group without an image (no multiscales metadata){inside}: pass the path of one array"


# ------------------------------------------------------------------------------------------------------------ OME-Zarr
def _open_ome_zarr(
    root: str,
    attributes: dict[str, Any],
    multiscale: dict[str, Any],
    channel: int | str | None,
    level: int,
    axes: str | None,
) -> ImageSource:
    try:
        datasets = multiscale["datasets"]
        paths = [str(dataset["path"]) for dataset in datasets]
    except (KeyError, TypeError):
        raise ImageReadError(f"{root}: its multiscales metadata is damaged (no datasets with a path)") from None
    opening = new_opening()
    if not 0 <= level < len(paths):
        shapes = [open_array(f"{root.rstrip('/')}/{p}", opening).shape for p in paths]
        _check_level(level, shapes, root)
    array = open_array(f"{root.rstrip('/')}/{paths[level]}", opening)
    _check_dtype(array.dtype, root)
    entries = multiscale.get("axes") or [{"name": n} for n in "tczyx"[-len(array.shape) :]]
    entries = [{"name": e} if isinstance(e, str) else mapping(e) for e in sequence(entries)]
    stored = _resolve_axes(axes or _axes_of_names([e.get("name") for e in entries]), array.shape, root)
    if len(entries) != len(stored):
        entries = [{"name": name} for name in stored]
    scale, translation = transforms(datasets[level], multiscale, len(stored))
    shown = sequence(mapping(ome(attributes).get("omero")).get("channels"))
    names = [str(mapping(channel).get("label") or "") for channel in shown]
    layout = Layout(
        stored,
        _pick_channel(stored, array.shape, channel, names, root),
        tuple(s for a, s in zip(stored, scale, strict=True) if a != "c"),
        tuple(text(e.get("unit")) for a, e in zip(stored, entries, strict=True) if a != "c"),
        tuple(s for a, s in zip(stored, translation, strict=True) if a != "c") if any(translation) else None,
    )
    return StoredSource(root, paths[level], layout, level, opening)


# -------------------------------------------------------------------------------------------------------------- checks
def _resolve_axes(axes: str | None, shape: tuple[int, ...], what: str) -> str:
    if not 1 <= len(shape) <= 5:
        raise ValueError(f"{what} has {len(shape)} axes of extent {shape}; images have 1 to 5: time, channel, z, y, x")
    if any(isinstance(n, float) for n in shape):
        raise ValueError(f"{what} has the unknown shape {shape}; call its compute_chunk_sizes() first")
    if 0 in shape:
        raise ValueError(f"{what} is empty: its shape is {shape}")
    if axes is None:
        axes = USUAL_AXES.get(len(shape))
        if axes is None:
            raise ValueError(
                f"{what} has {len(shape)} axes of extent {shape} and does not name them; "
                f"say which they are, as axes={'tczyx'[-len(shape) :]!r} (t time, c channel, z, y, x)"
            )
        if len(shape) == 3 and shape[2] in (3, 4) and shape[0] > 16 < shape[1]:
            raise ValueError(
                f"{what} of shape {shape} looks like a colour image; say axes='yxc' and a channel, "
                "or axes='zyx' if it is a stack"
            )
    if len(axes) != len(shape):
        raise ValueError(f"axes={axes!r} names {len(axes)} axes, but {what} has {len(shape)} of extent {shape}")
    if len(set(axes)) != len(axes) or not set(axes) <= set("tczyx"):
        raise ValueError(f"axes={axes!r}: use each of t, c, z, y, x at most once")
    if not set(axes) & set("zyx"):
        raise ValueError(f"axes={axes!r} of {what}: at least one of z, y, x is needed")
    if "t" in axes and axes.replace("c", "")[0] != "t":
        raise ValueError(
            f"{what} has its axes in the order {axes!r}, but time must come before z, y, x; "
            "pass it as a dask array, transposed"
        )
    return axes


def _pick_channel(
    stored: str, shape: tuple[int, ...], channel: int | str | None, names: Sequence[str], what: str
) -> int | None:
    if "c" not in stored:
        if channel not in (None, 0, "0"):
            raise ValueError(f"channel is {channel!r}, but {what} has no channel axis; leave it out")
        return None
    n = shape[stored.index("c")]
    choices = [f"{i}" + (f" ({names[i]})" if i < len(names) and names[i] else "") for i in range(min(n, 12))]
    listing = ", ".join(choices)
    if channel is None:
        if n > 1:
            message = f"{what} has {n} channels; say which one to segment, channel= (--channel): {listing}"
            raise ChannelNotChosenError(message, choices)
        return 0
    if isinstance(channel, str) and channel and channel in names:
        if list(names).count(channel) > 1:
            raise ValueError(f"{what} has several channels called {channel!r}; say which by number: {listing}")
        return list(names).index(channel)
    index = int(channel) if str(channel).isdecimal() else -1
    if not 0 <= index < n:
        raise ValueError(f"there is no channel {channel!r} in {what}; its channels are {listing}")
    return index


def _check_level(level: int, shapes: Sequence[tuple[int, ...]], what: str) -> None:
    if not 0 <= level < len(shapes):
        listing = "; ".join(f"{i}: {' x '.join(map(str, shape))}" for i, shape in enumerate(shapes))
        raise ValueError(f"there is no level {level} in {what}; its levels are {listing}")


def _check_dtype(dtype: np.dtype[Any], what: str) -> None:
    if dtype.kind not in "biuf":
        remedy = "; pass its magnitude, abs(image)" if dtype.kind == "c" else ""
        raise ValueError(f"{what} has pixels of type {dtype}; images are of integers, floats or bools{remedy}")
