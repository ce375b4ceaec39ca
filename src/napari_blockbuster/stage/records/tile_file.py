"""One file for all that a tile keeps beside its labels. The tile is staged once the file is in place.

Layout of a file::

    MAGIC, length and checksum of the head        `_PREFIX`
    head          JSON: the record of the tile, and for each part its place, its checksum and its shape
    parts         one after the other, each an array in C order, compressed if that makes it smaller

A reader of one part reads the head and that part.
"""

from __future__ import annotations

import json
import math
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["TileFile", "packed"]

MAGIC = b"\x93BBTILE1"
_PREFIX = struct.Struct("<8sII")
_Part = tuple[int, int, int, int, Sequence[int]]
"""Place after the head, bytes, checksum, bytes of an element, and shape."""
FIRST_READ = 16384
"""Bytes read at once: the head, and the objects of most tiles."""


def packed(record: dict[str, Any], parts: Mapping[str, np.ndarray]) -> bytes:
    """Return the content of a tile's file.

    Parameters
    ----------
    record : dict
        Values that JSON can hold.
    parts : dict of str to numpy.ndarray
        Arrays to keep. Parts that are read most often come first.
    """
    from numcodecs import zstd

    table: dict[str, _Part] = {}
    pieces = []
    at = 0
    for name, array in parts.items():
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        piece: bytes = zstd.compress(raw, 1) if raw.nbytes else b""
        if len(piece) >= raw.nbytes:
            piece = raw.tobytes()
        table[name] = at, len(piece), zlib.crc32(piece), array.itemsize, array.shape
        pieces.append(piece)
        at += len(piece)
    head = json.dumps({"record": record, "parts": table}).encode()
    return b"".join([_PREFIX.pack(MAGIC, len(head), zlib.crc32(head)), head, *pieces])


class TileFile:
    """A tile's file, of which the head has been read.

    Parameters
    ----------
    name : str
        Name of the file.

    Attributes
    ----------
    record : dict
        The record of the tile.
    checksum : int
        The checksum of the head. It changes when the tile is segmented again.

    Raises
    ------
    FileNotFoundError
        If the tile is not staged.
    ValueError
        If the file is damaged.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._kept: dict[str, bytes] | None = None
        with open(name, "rb", buffering=0) as file:
            data = file.read(FIRST_READ)
            magic, length, checksum = _PREFIX.unpack(data[: _PREFIX.size].ljust(_PREFIX.size, b"\0"))
            if magic != MAGIC:
                raise self._damaged("it is not the file of a tile")
            self._start = _PREFIX.size + length
            if self._start > len(data):
                data += file.read(self._start - len(data))
        head = data[_PREFIX.size : self._start]
        if len(head) != length or zlib.crc32(head) != checksum:
            raise self._damaged("the checksum of its head does not fit")
        self._data = data
        self.checksum: int = checksum
        content = json.loads(head)
        self.record: dict[str, Any] = content["record"]
        self._parts: dict[str, _Part] = content["parts"]

    @classmethod
    def recent(cls, name: str) -> TileFile:
        """Open the file of a tile that this process may have read before: a tile is read by all of its neighbors.

        Its head is read again. It has the checksums of all parts, so that parts in memory are those of the same tile.
        """
        known = _recent.get(name)
        if known is not None:
            with open(name, "rb", buffering=0) as file:
                if file.read(known._start) == known._data[: known._start]:
                    return known
        found = cls(name)
        found._kept = {}
        _recent.add(found, len(found._data))
        return found

    @property
    def parts(self) -> list[str]:
        """The names of the parts."""
        return list(self._parts)

    def part(self, name: str, dtype: np.dtype[Any]) -> np.ndarray | None:
        """Return an array, or None if the file does not have it. It is read-only.

        Raises
        ------
        ValueError
            If the part is damaged.
        """
        if name not in self._parts:
            return None
        *_, itemsize, shape = self._parts[name]
        if itemsize != dtype.itemsize:
            raise self._damaged(f"{name}: it is not an array of {dtype}")
        return np.frombuffer(self._bytes_of(name), dtype).reshape(shape)

    def check(self) -> None:
        """Read all parts.

        Raises
        ------
        ValueError
            If one is damaged.
        """
        for name in self._parts:
            self._bytes_of(name)

    def _bytes_of(self, name: str) -> bytes:
        if self._kept is None:
            return self._read(name)
        if name not in self._kept:
            self._kept[name] = self._read(name)
            _recent.add(self, len(self._kept[name]))
        return self._kept[name]

    def _read(self, name: str) -> bytes:
        at, stored, checksum, itemsize, shape = self._parts[name]
        raw = itemsize * math.prod(shape)
        start = self._start + at
        data = self._data[start : start + stored]
        if len(data) < stored:
            with open(self.name, "rb", buffering=0) as file:
                file.seek(start)
                data = file.read(stored)
        if len(data) != stored or zlib.crc32(data) != checksum:
            raise self._damaged(f"{name}: the checksum does not fit")
        if stored == raw:
            return data
        from numcodecs import zstd

        content: bytes = zstd.decompress(data)
        if len(content) != raw:
            raise self._damaged(f"{name}: it has {len(content)} bytes instead of {raw}")
        return content

    def _damaged(self, why: str) -> ValueError:
        return ValueError(f"{self.name} is damaged: {why}")


class _Recent:
    """The files that this process has read last, by name, with all of their parts that were read."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._files: OrderedDict[str, tuple[TileFile, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, name: str) -> TileFile | None:
        with self._lock:
            if name not in self._files:
                return None
            self._files.move_to_end(name)
            return self._files[name][0]

    def add(self, file: TileFile, size: int) -> None:
        """Add a file, or more bytes of a file."""
        with self._lock:
            known, before = self._files.pop(file.name, (file, 0))
            self._bytes -= before
            size += before if known is file else 0
            self._files[file.name] = file, size
            self._bytes += size
            while self._bytes > self._limit:
                _, (_, forgotten) = self._files.popitem(last=False)
                self._bytes -= forgotten


_recent = _Recent(1 << 25)
