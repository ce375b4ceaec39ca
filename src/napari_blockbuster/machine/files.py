"""Small files that survive a crash: a write or a deletion happens completely or not at all."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import uuid
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from .system import name_limit, replace, sync

__all__ = [
    "beside",
    "create_folders",
    "discard",
    "named_after",
    "npy_bytes",
    "read_checked",
    "read_table",
    "with_checksum",
    "write_atomically",
]

SHORT = 100
"""Bytes that a name may have on every disk."""


def write_atomically(
    path: Path, data: bytes, *, durable: bool = True, below: Path | None = None, temporary: Path | None = None
) -> None:
    """Write a file so that other processes see either nothing or all of it.

    Parameters
    ----------
    path : Path
    data : bytes
    durable : bool, default True
        Also survive a power failure: the bytes reach the disk before the name does.
    below : Path, optional
        A folder that must exist. Folders between it and the file are created if they are missing.
    temporary : Path, optional
        Name under which the file is written, on the same disk. Default: next to it.
    """
    if temporary is None:
        temporary = beside(path, f".{os.getpid()}.tmp")
    try:
        with _opened(temporary, below) as file:
            file.write(data)
            if durable:
                sync(file)
        replace(temporary, path)
    except OSError:
        # An incomplete file takes space on a full disk.
        temporary.unlink(missing_ok=True)
        raise


def _opened(path: Path, below: Path | None) -> IO[bytes]:
    try:
        return open(path, "wb")
    except FileNotFoundError:
        if below is None:
            raise
    create_folders(path, below)
    return open(path, "wb")


def create_folders(path: Path, below: Path) -> None:
    """Create the folders between a folder, if it exists, and a file that is about to be written.

    The folder itself is never created, also if another process deletes it meanwhile.
    """
    if path.parent.is_dir():
        return
    folder = below
    for part in path.parent.relative_to(below).parts:
        folder /= part
        # Without the parents: they may have been deleted since.
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            folder.mkdir()


def discard(path: Path) -> None:
    """Delete a file or folder, if it exists, so that a crash leaves no part of it under its name."""
    doomed = beside(path, f".{uuid.uuid4().hex[:8]}.deleted")
    try:
        os.rename(path, doomed)
    except FileNotFoundError:
        return
    if doomed.is_dir() and not doomed.is_symlink():
        shutil.rmtree(doomed, ignore_errors=True)
    else:
        doomed.unlink()


def beside(path: Path, suffix: str) -> Path:
    """Return the path of a hidden file next to another one and named after it, within the length limit of the disk.

    Parameters
    ----------
    path : Path
        Its folder need not exist.
    suffix : str
        ASCII.
    """
    name = f".{path.name.strip('.')}{suffix}"
    return path.with_name(name if _fits(name, path) else f".{_digest(path.name)}{suffix}")


def named_after(path: Path, suffix: str) -> Path:
    """Return the path of a file next to another one and named after it, within the length limit of the disk.

    Parameters
    ----------
    path : Path
        Its folder need not exist.
    suffix : str
        ASCII.
    """
    name = f"{path.name}{suffix}"
    return path.with_name(name if _fits(name, path) else f"{path.name[:20]}-{_digest(path.name)}{suffix}")


def _fits(name: str, path: Path) -> bool:
    length = len(os.fsencode(name))
    return length <= SHORT or length <= name_limit(next((p for p in path.parents if p.exists()), path.parent))


def _digest(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:12]


# ------------------------------------------------------------------------------------------------------------- records
def with_checksum(record: dict[str, Any]) -> bytes:
    """Return a record as JSON with a checksum, which detects flipped bits in numbers."""
    return json.dumps({**record, "crc32": _checksum(record)}).encode()


def read_checked(path: Path) -> dict[str, Any]:
    """Read a record written by `with_checksum`.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    try:
        record = json.loads(path.read_bytes())
        expected = record.pop("crc32")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ValueError(f"{path} is damaged: it is not a record") from None
    if expected != _checksum(record):
        raise ValueError(f"{path} is damaged: its checksum does not fit")
    return dict(record)


def _checksum(record: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())


# -------------------------------------------------------------------------------------------------------------- tables
def read_table(path: Path, dtype: np.dtype[Any]) -> np.ndarray:
    """Read a one-dimensional .npy file of a known dtype. The header parser of numpy would take most of the time.

    Raises
    ------
    ValueError
        If the file holds anything else.
    """
    data = path.read_bytes()
    start = 10 + int.from_bytes(data[8:10], "little")
    if (
        data[:8] != b"\x93NUMPY\x01\x00"
        or _descr(dtype) not in data[10:start]
        or (len(data) - start) % dtype.itemsize
        or f"({(len(data) - start) // dtype.itemsize},)".encode() not in data[10:start]
    ):
        raise ValueError(f"{path} is damaged: it is not a table of {dtype}")
    return np.frombuffer(data, dtype, offset=start)


@functools.lru_cache(maxsize=8)
def _descr(dtype: np.dtype[Any]) -> bytes:
    return repr(np.lib.format.dtype_to_descr(dtype)).encode()


def npy_bytes(array: np.ndarray) -> bytes:
    """Return an array as the bytes of an .npy file."""
    import io

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
