"""Collections: folders, patterns and plates, and the images that they hold."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_blockbuster.images.metadata.sizes import say
from napari_blockbuster.images.zarr.folders import fields_of_plate

from .places import is_remote, join, locate, name_of

__all__ = ["Collection", "Member", "find_images"]

ARRAYS = ("zarr.json", ".zgroup", ".zarray")


@dataclass(frozen=True)
class Member:
    """One image of a collection.

    Attributes
    ----------
    name : str
        Path inside the collection, unique: ``sub/a.tif``, or ``A/1/0`` for a field of a plate.
    path : str
        Path or address.
    in_plate : bool
        Whether it is a field of a plate.
    """

    name: str
    path: str
    in_plate: bool = False


@dataclass(frozen=True)
class Collection:
    """Images found at one place.

    Attributes
    ----------
    kind : str
        ``"plate"``, ``"folder"``, ``"pattern"`` or ``"list"``.
    place : str
        What the user named.
    members : tuple of Member
    others : tuple of str
        Entries that are not images: label images, job folders, other files.
    """

    kind: str
    place: str
    members: tuple[Member, ...]
    others: tuple[str, ...] = ()


def find_images(images: Any) -> Collection | None:
    """List the images of a folder, a pattern, a plate or a sequence of paths; None for a single image.

    No pixel is read. Label images and job folders are left out, and so are further files of an OME-TIFF in several files.

    Parameters
    ----------
    images : path, URL or sequence of these

    Raises
    ------
    FileNotFoundError
        If there is nothing at a path.
    ValueError
        If there are no images.
    """
    if not isinstance(images, str | os.PathLike):
        if not isinstance(images, Sequence) or not all(isinstance(i, str | os.PathLike) for i in images):
            return None
        return _listed("list", "the list", [os.fspath(i) for i in images])
    text = os.fspath(images)
    if glob.has_magic(text) and not is_remote(text) and not Path(text).expanduser().exists():
        return _listed("pattern", text, sorted(glob.glob(str(Path(text).expanduser().absolute()), recursive=True)))
    place = locate(text)
    fields = fields_of_plate(place)
    if fields is not None:
        return _plate(place.text, fields)
    if place.path is None or not place.path.is_dir() or _is_zarr(place.path):
        return None
    return _listed("folder", place.text, sorted(str(p) for p in place.path.iterdir() if not p.name.startswith(".")))


def _plate(root: str, fields: Sequence[str], prefix: str = "") -> Collection:
    if not fields:
        raise ValueError(f"{root} is a plate without fields: none of its wells names an image that exists")
    members = tuple(Member(f"{prefix}{field}", join(root, field), in_plate=True) for field in fields)
    return Collection("plate", root, members)


def _listed(kind: str, place: str, paths: Sequence[str]) -> Collection:
    """Sort paths into images and other things. What a user names himself is an image, or an error."""
    own = [locate(path).text for path in paths] if kind == "list" else list(paths)
    local = [path for path in own if not is_remote(path)]
    root = Path(os.path.commonpath([str(Path(path).parent) for path in local])) if local else Path()
    members: list[Member] = []
    others: list[str] = []
    for path in own:
        name = name_of(path) if is_remote(path) else Path(path).relative_to(root).as_posix()
        fields = fields_of_plate(locate(path))
        if fields is not None:
            members += _plate(path, fields, f"{name}/").members
        elif kind == "list" or _is_image(path):
            members.append(Member(name, path))
        else:
            others.append(name)
    kept, parts = _without_parts(members)
    if not kept:
        seen = f". It holds {len(others)} other entries, such as {others[0]}" if others else ""
        raise ValueError(f"{place}: there are no images{seen}")
    _check_names(kept)
    return Collection(kind, place, tuple(kept), (*others, *parts))


def _check_names(members: Iterable[Member]) -> None:
    seen: set[str] = set()
    for member in members:
        if member.name in seen:
            raise ValueError(f"{member.name} is there twice. Name each image once")
        seen.add(member.name)


def _is_zarr(path: Path) -> bool:
    return any((path / name).exists() for name in ARRAYS)


def _is_image(path: str) -> bool:
    from napari_blockbuster.images.zarr.folders import is_label_image

    from .opening import is_image_file

    if not os.path.isdir(path):
        return is_image_file(locate(path))
    return _is_zarr(Path(path)) and not is_label_image(path)


def _without_parts(members: Sequence[Member]) -> tuple[list[Member], list[str]]:
    """Leave out files of an image that another file of the list stands for."""
    from napari_blockbuster.images.tiff.files import files_of_image

    taken: set[str] = set()
    kept, parts = [], []
    for member in members:
        if member.path in taken:
            parts.append(member.name)
            continue
        kept.append(member)
        taken |= {path for path in files_of_image(member.path) if path != member.path}
    if parts:
        say(f"{len(parts)} files belong to images in several files, and are read with them: {parts[0]} and so on")
    return kept, parts
