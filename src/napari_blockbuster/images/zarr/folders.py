"""Zarr folders, zip files and addresses: OME-Zarr images, and plain arrays."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from napari_blockbuster.images.base import ImageReadError, ImageSource
from napari_blockbuster.images.metadata.axes import (
    Request,
    axes_of_names,
    check_dtype,
    check_level,
    image_axes,
    make_layout,
    plain_layout,
    resolve_axes,
)
from napari_blockbuster.images.metadata.scenes import Scene, pick_scene
from napari_blockbuster.images.metadata.sizes import level_factor, say, voxel_sizes
from napari_blockbuster.images.places import Place, few, is_remote, join, name_of, zip_file_of

from .multiscales import Multiscale, attributes_of_image, channel_names, multiscales_of
from .source import StoredSource, new_opening, open_array
from .stores import read_json

__all__ = ["accepts", "fields_of_plate", "is_label_image", "multiscales_at", "open_place", "scenes"]


def accepts(place: Place) -> bool:
    """Folders, addresses and zip files (and what is inside them)."""
    return place.path is None or not place.path.is_file() or place.start(4) == b"PK\x03\x04"


def scenes(place: Place) -> list[Scene]:
    """Images of a group: fields of a plate or a well, series written by bioformats2raw, or several multiscales."""
    attributes = _group_attributes(place.text)
    if attributes is None:
        return [Scene("")]
    said = attributes_of_image(attributes)
    return _scenes(said, _inner_images(place.text, said))


def _scenes(said: dict[str, Any], inner: list[str] | None) -> list[Scene]:
    if inner is not None:
        return [Scene(name) for name in inner]
    several = said.get("multiscales")
    names = several if isinstance(several, list) else []
    return [Scene(str(m.get("name") or "") if isinstance(m, dict) else "") for m in names] or [Scene("")]


def open_place(place: Place, request: Request) -> ImageSource:
    """Open an OME-Zarr image or a zarr array.

    Raises
    ------
    ImageReadError
        If it cannot be read.
    ValueError
        If it is neither, or does not have what was asked for.
    """
    root = place.text
    if is_remote(root) and name_of(root).lower().endswith((".tif", ".tiff")):
        raise ValueError(f"{root}: TIFF files are read from disk. Download it, or convert it to OME-Zarr")
    attributes = _group_attributes(root)
    if attributes is None:
        return _open_plain(root, request)
    said = attributes_of_image(attributes)
    images = _inner_images(root, said)
    found = _scenes(said, images)
    inner = ""
    if images:
        if ("plate" in said or "well" in said) and request.scene is None and len(found) > 1:
            raise ValueError(_many_fields(root, found))
        index = pick_scene(found, request.scene, root)
        inner = found[index].name
        if request.scene is None and len(found) > 1:
            say(f"{root} holds {len(found)} images. {inner!r} is read. Choose with scene= (--scene): {_names(found)}")
        attributes = _group_attributes(join(root, inner)) or {}
        number = 0
    else:
        number = pick_scene(found, request.scene, root)
    multiscales = multiscales_of(attributes, join(root, inner))
    if not multiscales:
        raise ValueError(_not_an_image(join(root, inner), attributes_of_image(attributes)))
    return _open_multiscale(root, inner, multiscales[number], channel_names(attributes), request)


def _many_fields(root: str, found: list[Scene]) -> str:
    return (
        f"{root} is a plate of many images. Pass the path of one field, as {join(root, found[0].name)}, or choose one of "
        f"{len(found)} with scene= (--scene): {_names(found)}. segment_many segments all of them"
    )


def fields_of_plate(place: Place) -> list[str] | None:
    """Paths of the fields of a plate (or of one well) in the order of its wells; None for anything else."""
    if not accepts(place) or (place.path is not None and not _may_be_group(place.text)):
        return None
    said = attributes_of_image(_group_attributes(place.text) or {})
    return _inner_images(place.text, said) if "plate" in said or "well" in said else None


def is_label_image(location: str) -> bool:
    """Whether a folder holds labels, which are results and not images."""
    return "image-label" in attributes_of_image(_group_attributes(location) or {})


def multiscales_at(folder: Path) -> list[Multiscale]:
    """The images of a zarr group; empty where there are none."""
    return multiscales_of(_group_attributes(str(folder)) or {}, str(folder))


def _may_be_group(location: str) -> bool:
    return zip_file_of(location) is not None or any(
        (Path(location) / name).exists() for name in ("zarr.json", ".zgroup")
    )


def _inner_images(root: str, said: dict[str, Any]) -> list[str] | None:
    """Paths of the images inside a plate, a well or a folder of bioformats2raw; None for an image."""
    if isinstance(said.get("plate"), dict):
        wells = [str(well["path"]) for well in said["plate"].get("wells") or [] if _has_path(well)]
        found = [(well, _fields_of_well(join(root, well))) for well in wells]
        if missing := [well for well, fields in found if fields is None]:
            say(f"{root}: {len(missing)} of {len(wells)} wells are not there: {few(missing)}. They are left out")
        return [f"{well}/{field}" for well, fields in found for field in fields or ()]
    if isinstance(said.get("well"), dict):
        return _paths_in_well(said)
    return _series(root) if said.get("bioformats2raw.layout") is not None else None


def _fields_of_well(location: str) -> list[str] | None:
    """Paths of the images in a well; None if there is none at this place."""
    for name in ("zarr.json", ".zattrs"):
        content = read_json(location, name)
        if content is not None:
            return _paths_in_well(attributes_of_image(content.get("attributes", content)))
    return None


def _paths_in_well(said: dict[str, Any]) -> list[str]:
    well = said.get("well")
    images = well.get("images") if isinstance(well, dict) else None
    return [str(image["path"]) for image in images or [] if _has_path(image)]


def _has_path(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("path"), str | int)


def _names(found: list[Scene]) -> str:
    return few((scene.name for scene in found), most=8)


def _series(root: str) -> list[str]:
    """Paths of the images that bioformats2raw wrote."""
    for name in ("zarr.json", ".zattrs"):
        content = read_json(join(root, "OME"), name) or {}
        attributes = attributes_of_image(content.get("attributes", content))
        series = attributes.get("series")
        if isinstance(series, list) and series:
            return [str(path) for path in series]
    # Without a list they are numbered.
    found: list[str] = []
    while len(found) < 10_000 and _is_group(join(root, str(len(found)))):
        found.append(str(len(found)))
    return found


def _is_group(location: str) -> bool:
    return read_json(location, ".zgroup") is not None or read_json(location, "zarr.json") is not None


def _group_attributes(location: str) -> dict[str, Any] | None:
    """Attributes of a zarr group; None for an array.

    Raises
    ------
    ImageReadError
        If there is neither, or the metadata is damaged.
    """
    v3 = read_json(location, "zarr.json")
    if v3 is not None:
        return v3.get("attributes") or {} if v3.get("node_type") == "group" else None
    if read_json(location, ".zarray") is not None:
        return None
    if read_json(location, ".zgroup") is not None:
        return read_json(location, ".zattrs") or {}
    raise ImageReadError(_nothing_in(location))


def _nothing_in(location: str) -> str:
    text = f"{location} is not an image: it holds no zarr.json, .zarray or .zgroup"
    advice = ". Pass the folder of an OME-Zarr or of a zarr array, or a TIFF file"
    folder, zipped = Path(location), zip_file_of(location)
    if zipped is not None:
        with zipfile.ZipFile(zipped[0]) as archive:
            inside = sorted({name.partition("/")[0] for name in archive.namelist()})
        return f"{text}. The zip file holds {few(inside)}: pass the path of an image in it, as {zipped[0]}/{inside[0]}"
    if not folder.is_dir():
        return text + advice
    files = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    if not files:
        return f"{location} is an empty folder{advice}"
    entries = f"{len(files)} other entries: {few(files)}" if len(files) > 1 else files[0]
    return f"{text}, but {entries}{advice} inside it"


def _not_an_image(root: str, attributes: dict[str, Any]) -> str:
    if "plate" in attributes:
        return f"{root} is a plate of many images. Pass the path of one field, as {root}/A/1/0"
    arrays = []
    if not is_remote(root):
        markers = [p.parent for name in ("*/zarr.json", "*/.zarray", "*/*/.zarray") for p in Path(root).glob(name)]
        arrays = sorted({str(p) for p in markers})[:6]
    inside = f". Inside it are {', '.join(arrays)}" if arrays else ""
    return f"{root} is a zarr group without an image (no multiscales metadata){inside}: pass the path of one array"


# ---------------------------------------------------------------------------------------------------------- plain zarr
def _open_plain(root: str, request: Request) -> ImageSource:
    if request.level:
        raise ValueError(f"level is {request.level}, but {root} is a single array without levels")
    pick_scene([Scene("")], request.scene, root)
    opening = new_opening()
    array = open_array(root, opening)
    layout = plain_layout(array, request, root, axes=_stored_names(root))
    return StoredSource(root, "", layout, opening=opening)


def _stored_names(location: str) -> str | None:
    v3 = read_json(location, "zarr.json")
    if v3 is not None:
        return axes_of_names(v3.get("dimension_names"))
    return axes_of_names((read_json(location, ".zattrs") or {}).get("_ARRAY_DIMENSIONS"))


# ------------------------------------------------------------------------------------------------------------ OME-Zarr
def _open_multiscale(
    root: str, inner: str, multiscale: Multiscale, channels: list[str], request: Request
) -> ImageSource:
    image = join(root, inner)
    opening = new_opening()
    paths = multiscale.paths
    level = request.level
    if not 0 <= level < len(paths):
        check_level(level, [open_array(join(image, p), opening).shape for p in paths], image)
    array = open_array(join(image, paths[level]), opening)
    shape = array.shape
    check_dtype(array.dtype, image)
    stored = resolve_axes(request.axes or multiscale.letters(len(shape), image), shape, image)
    place = multiscale.place(level, stored, name_of(image))
    finest = multiscale.place(0, stored, name_of(image)) if level else place
    full = open_array(join(image, paths[0]), opening).shape if level else shape
    axes = image_axes(stored)
    extents = dict(zip(stored, full, strict=True))
    here = dict(zip(stored, shape, strict=True))
    factors = {a: _factor(finest.scale.get(a), place.scale.get(a)) or level_factor(extents[a], here[a]) for a in axes}
    sizes = voxel_sizes(
        axes,
        [extents[a] for a in axes],
        finest.scale,
        multiscale.units(stored),
        name_of(image),
        spacing=request.spacing,
        factors=factors if level else None,
    )
    moved = place.moved(axes, sizes, finest.scale, factors if level else {})
    layout = make_layout(stored, shape, request, sizes, image, channels=channels, translation=moved)
    return StoredSource(root, join(inner, paths[level]) if inner else paths[level], layout, level, opening)


def _factor(finest: Any, here: Any) -> float | None:
    try:
        factor = float(here) / float(finest)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return factor if 0 < factor < float("inf") else None
