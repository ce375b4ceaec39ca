"""Paths and addresses of images: what a user may write, and how parts are joined."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

__all__ = ["Place", "is_remote", "join", "locate", "name_of", "zip_file_of"]


@dataclass(frozen=True)
class Place:
    """Where an image is.

    Attributes
    ----------
    text : str
        Absolute path, or address.
    path : Path or None
        None for an address.
    """

    text: str
    path: Path | None

    def start(self, count: int = 16) -> bytes:
        """First bytes of a local file; empty for anything else."""
        if self.path is None or not self.path.is_file():
            return b""
        with self.path.open("rb") as file:
            return file.read(count)


def is_remote(location: str) -> bool:
    """Whether a location is an address and not a path."""
    return "://" in location


def join(location: str, *parts: str) -> str:
    """A place inside a folder or address; the query of an address (a signature, say) stays at its end."""
    inner = "/".join(part.strip("/") for part in parts if part.strip("/"))
    if not is_remote(location):
        return f"{location.rstrip('/')}/{inner}" if inner else location
    address = urlsplit(location)
    path = f"{address.path.rstrip('/')}/{inner}" if inner else address.path
    return urlunsplit(address._replace(path=path))


def name_of(location: str) -> str:
    """Last part of a path or address, without its query."""
    path = urlsplit(location).path if is_remote(location) else location
    return path.rstrip("/").rsplit("/", 1)[-1] or location


def zip_file_of(location: str) -> tuple[str, str] | None:
    """A zip file and the path inside it, for a location that is one or lies in one."""
    if is_remote(location) or os.path.isdir(location):
        return None
    path = Path(location)
    for candidate in (path, *path.parents):
        if candidate.is_file():
            with candidate.open("rb") as file:
                is_zip = file.read(4) == b"PK\x03\x04"
            return (str(candidate), str(path.relative_to(candidate)).removeprefix(".")) if is_zip else None
        if candidate.is_dir():
            return None
    return None


def locate(image: str) -> Place:
    """Find what a user's path or address names.

    Raises
    ------
    FileNotFoundError
        If there is nothing at the path.
    ValueError
        If it is empty, or a pattern.
    """
    if not image:
        raise ValueError("the image's path is empty. Pass the path of an OME-Zarr, a zarr array or a TIFF file")
    if image.startswith("file:"):
        address = urlsplit(image)
        if address.netloc not in ("", "localhost"):
            raise ValueError(f"{image} is on another machine. Pass the path where this machine sees it")
        path = unquote(address.path)
    elif is_remote(image):
        return Place(image, None)
    else:
        path = image
    local = Path(path).expanduser().absolute()
    if not local.exists() and zip_file_of(str(local)) is None:
        raise _nothing_at(local, path)
    return Place(str(local), local)


def _nothing_at(local: Path, given: str) -> Exception:
    if glob.has_magic(given):
        found = sorted(glob.glob(str(local)))
        names = few(Path(name).name for name in found)
        seen = f"{len(found)} paths: {names}" if found else "nothing"
        several = "Pass one image at a time, segment_many for all, or axes= if they are planes of one image"
        return ValueError(f"{given} is a pattern. It matches {seen}. {several}")
    nearest = next(p for p in local.parents if p.exists())
    return FileNotFoundError(f"there is no image at {local}. The nearest folder that exists is {nearest}")


def few(names: Iterable[str], most: int = 4) -> str:
    """The first names of many, for messages."""
    all_names = list(names)
    return ", ".join(all_names[:most]) + (f" and {len(all_names) - most} more" if len(all_names) > most else "")
