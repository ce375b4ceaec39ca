"""Files of weights: where a user says they are, their digest, and their download."""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
import urllib.request
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from napari_blockbuster.models.suggestions import did_you_mean

__all__ = ["checked_digest", "digest", "download", "given_path", "is_file_path", "unknown_network"]

BLOCK = 2**20


def is_file_path(weights: str, names: Collection[str] = ()) -> bool:
    """Return whether a setting is the path of a file, and not a name that a library knows.

    Parameters
    ----------
    weights : str
    names : collection of str
        Names that are never paths.
    """
    path = Path(weights)
    return weights not in names and (path.name != weights or bool(path.suffix) or path.is_file())


def given_path(weights: str, what: str) -> Path:
    """Return the absolute path of weights that a user gave.

    Parameters
    ----------
    weights : str
    what : str
        For the message, such as "there is no StarDist network".

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    """
    path = Path(weights).expanduser().absolute()
    if not path.exists():
        raise FileNotFoundError(f"{what} at {path}")
    return path


def unknown_network(library: str, what: str, weights: str, known: Collection[str], instead: str) -> ValueError:
    """Return the error for a name that a library does not know, with the names that it knows.

    Parameters
    ----------
    library, what : str
        Such as "stardist" and "network".
    weights : str
    known : collection of str
    instead : str
        What else can be given, such as "the path of a folder".
    """
    return ValueError(
        f"{library} has no {what} {weights!r}{did_you_mean(weights, known)}. "
        f"There are {', '.join(known)}, or give {instead}"
    )


def digest(paths: Sequence[Path]) -> str:
    """Return the sha256 of files as hex: of one file its content, of several also their names."""
    if len(paths) == 1:
        return _file_digest(paths[0])
    total = hashlib.sha256()
    for path in paths:
        total.update(f"{path.name} {_file_digest(path)}\n".encode())
    return total.hexdigest()


def checked_digest(place: Path, paths: Sequence[Path], expected: str | None) -> str:
    """Return the digest of weights, and refuse weights other than those of a run.

    Parameters
    ----------
    place : Path
        Named in the message.
    paths : sequence of Path
        Files that make up the weights.
    expected : str or None
        Digest that the run began with, if it has begun.

    Raises
    ------
    ValueError
        If the weights have another digest.
    """
    found = digest(paths)
    if expected is not None and found != expected:
        raise ValueError(
            f"the weights at {place} are not those of this run: their sha256 begins with {found[:12]}, that of the run "
            f"with {expected[:12]}"
        )
    return found


def _file_digest(path: Path) -> str:
    status = path.stat()
    return _cached_digest(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _cached_digest(path: Path, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(url: str, path: Path, what: str) -> None:
    """Download a file with a progress bar. It appears at `path` only when it is complete.

    Parameters
    ----------
    url : str
    path : Path
        Its folder is created.
    what : str
        Text beside the progress bar.

    Raises
    ------
    OSError
        If the file cannot be downloaded or written. Nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            _fetch(url, file, what)
        os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True)


def _fetch(url: str, file: Any, what: str) -> None:
    from tqdm import tqdm

    with urllib.request.urlopen(url, timeout=60) as response:
        length = response.headers.get("Content-Length")
        total = int(length) if length else None
        with tqdm(total=total, unit="B", unit_scale=True, desc=what) as bar:
            while block := response.read(BLOCK):
                file.write(block)
                bar.update(len(block))
            if total is not None and bar.n != total:
                raise OSError(f"the connection broke after {bar.n} of {total} bytes")
