"""Stores of zarr data: folders, zip files and web addresses, for tensorstore and for zarr-python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from napari_blockbuster.images.base import ImageReadError
from napari_blockbuster.images.places import join, zip_file_of
from napari_blockbuster.machine.system import tensorstore_path

__all__ = ["kvstore", "python_store", "read_json", "says_forbidden"]

RETRIES = {"max_retries": 6, "initial_delay": "200ms", "max_delay": "8s"}
"""Of tensorstore's requests: about twenty seconds until a server counts as gone."""


def kvstore(location: str) -> dict[str, Any]:
    """The tensorstore key-value store of a folder, a zip file or an address."""
    scheme, separator, rest = location.partition("://")
    if not separator:
        zipped = zip_file_of(location)
        if zipped is not None:
            return {"driver": "zip", "base": {"driver": "file", "path": zipped[0]}, "path": _folder(zipped[1])}
        return {"driver": "file", "path": tensorstore_path(Path(location))}
    if scheme in ("http", "https"):
        # Before the query, which stays at the end of every address.
        path, mark, query = location.partition("?")
        return {"driver": "http", "base_url": f"{path.rstrip('/')}/{mark}{query}", "http_request_retries": RETRIES}
    if scheme in ("s3", "gs"):
        bucket, _, path = rest.partition("/")
        return {"driver": "s3" if scheme == "s3" else "gcs", "bucket": bucket, "path": _folder(path)}
    raise ValueError(
        f"{location}: images are read from folders, http(s)://, s3:// and gs:// addresses, not {scheme}://"
    )


def _folder(path: str) -> str:
    path = path.strip("/")
    return f"{path}/" if path else ""


def says_forbidden(error: BaseException) -> bool:
    """Whether an error is a server's 403, which some give for what does not exist."""
    return "PERMISSION_DENIED" in str(error)


def read_json(location: str, name: str) -> dict[str, Any] | None:
    """A JSON object in a folder, zip file or address; None if there is none.

    Raises
    ------
    ImageReadError
        If it cannot be read, or is no JSON object.
    """
    import tensorstore as ts

    where = join(location, name)
    store = kvstore(location)
    try:
        answer = ts.KvStore.open(store).result().read(name).result()
    except Exception as error:
        if says_forbidden(error):
            return None
        raise ImageReadError(f"{where} cannot be read ({str(error).splitlines()[0][:300]})") from error
    if answer.state == "missing":
        return None
    try:
        content = json.loads(answer.value)
    except ValueError:
        raise ImageReadError(f"{where} is damaged: it is not JSON") from None
    if not isinstance(content, dict):
        raise ImageReadError(f"{where} is damaged: it is not a JSON object")
    return content


def python_store(location: str) -> tuple[Any, str]:
    """The same for zarr-python: a store, and a path inside it."""
    if location.startswith(("http://", "https://")):
        from .web import WebStore

        return WebStore(location), ""
    zipped = zip_file_of(location)
    if zipped is not None:
        from zarr.storage import ZipStore

        return ZipStore(zipped[0], mode="r"), zipped[1].strip("/")
    return location, ""
