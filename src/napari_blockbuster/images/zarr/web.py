"""A zarr store at a web address, for arrays that only zarr-python can read."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Iterable
from typing import Any

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from napari_blockbuster.images.base import ImageReadError
from napari_blockbuster.images.places import join

__all__ = ["WebStore"]

TRIES = 4
TIMEOUT = 60.0
"""Seconds that a web server may take for one answer."""


@functools.lru_cache(maxsize=1)
def _pool() -> Any:
    import urllib3

    retries = urllib3.Retry(TRIES, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504))
    return urllib3.PoolManager(maxsize=16, retries=retries, timeout=TIMEOUT)


class WebStore(Store):
    """A read-only store at an address, for arrays that tensorstore refuses.

    A server may answer 403 for a key that does not exist. That counts as missing only while the metadata of the array
    itself can be read: an address whose signature has expired must not turn into blank pixels.
    """

    def __init__(self, location: str) -> None:
        super().__init__(read_only=True)
        self.location = location
        self._known: str | None = None
        self._lock = threading.Lock()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WebStore) and other.location == self.location

    def __hash__(self) -> int:
        return hash(self.location)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        data = await asyncio.to_thread(self._get, key, byte_range)
        return None if data is None else prototype.buffer.from_bytes(data)

    def _get(self, key: str, byte_range: ByteRequest | None) -> bytes | None:
        header, part = _range(byte_range)
        answer = _pool().request("GET", join(self.location, key), headers=header)
        if answer.status == 404 or (answer.status in (401, 403) and self._still_open(key)):
            return None
        if answer.status not in (200, 206):
            raise ImageReadError(f"{join(self.location, key)}: the server answers {answer.status} {answer.reason}")
        if self._known is None:
            self._known = key
        data: bytes = answer.data
        # A server without ranges sends all of it.
        return data[part] if answer.status == 200 else data

    def _still_open(self, key: str) -> bool:
        """Whether what was read before can be read now."""
        if self._known is None:
            return key.rsplit("/", 1)[-1] in ("zarr.json", ".zarray", ".zattrs", ".zgroup")
        answer = _pool().request("HEAD", join(self.location, self._known))
        if answer.status in (401, 403, 405, 501):
            answer = _pool().request("GET", join(self.location, self._known))
        return bool(answer.status == 200)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    async def exists(self, key: str) -> bool:
        return await asyncio.to_thread(self._get, key, None) is not None

    @property
    def supports_writes(self) -> bool:
        return False

    @property
    def supports_partial_writes(self) -> Any:
        return False

    @property
    def supports_deletes(self) -> bool:
        return False

    @property
    def supports_listing(self) -> bool:
        return False

    async def set(self, key: str, value: Buffer) -> None:
        raise NotImplementedError

    async def delete(self, key: str) -> None:
        raise NotImplementedError

    def list(self) -> AsyncIterator[str]:
        raise NotImplementedError

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        raise NotImplementedError

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        raise NotImplementedError


def _range(part: ByteRequest | None) -> tuple[dict[str, str], slice]:
    """The header that asks for a part of a file, and the part as a slice of all of it."""
    if isinstance(part, RangeByteRequest):
        return {"Range": f"bytes={part.start}-{part.end - 1}"}, slice(part.start, part.end)
    if isinstance(part, OffsetByteRequest):
        return {"Range": f"bytes={part.offset}-"}, slice(part.offset, None)
    if isinstance(part, SuffixByteRequest):
        return {"Range": f"bytes=-{part.suffix}"}, slice(-part.suffix, None)
    return {}, slice(None)
