"""Identify the file or folder at a path, so that nothing else is replaced."""

from __future__ import annotations

import os
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["Occupant"]


@dataclass(frozen=True)
class Occupant:
    """The file, folder or link at a path, or nothing. Equal occupants are the same file, folder or link.

    Attributes
    ----------
    place : tuple of int
        Device, inode and type; empty if the path is free.
    content : tuple of int
        Checksum of a folder's zarr metadata, or size and time of a file: a system may use an inode number again.
    """

    place: tuple[int, ...] = ()
    content: tuple[int, ...] = ()

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return the occupant of `path`. Links are not followed."""
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return cls()
        place = found.st_dev, found.st_ino, stat.S_IFMT(found.st_mode)
        if stat.S_ISDIR(found.st_mode):
            return cls(place, (_metadata_checksum(path),))
        return cls(place, (found.st_size, found.st_mtime_ns))

    @property
    def is_nothing(self) -> bool:
        """Whether the path is free."""
        return not self.place


def _metadata_checksum(folder: Path) -> int:
    checksum = 0
    for name in ("zarr.json", ".zgroup", ".zattrs"):
        try:
            checksum = zlib.crc32((folder / name).read_bytes(), checksum)
        except OSError:
            continue
    return checksum
