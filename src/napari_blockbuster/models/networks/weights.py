"""Files of weights: their digest, and their download."""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["checked_digest", "digest", "download"]

BLOCK = 2**20


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
