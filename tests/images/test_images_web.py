"""Web servers as they are: signed addresses, 403 for what is missing, no ranges, codecs that only zarr-python has."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numcodecs
import numpy as np
import pytest
import zarr

from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images import ImageReadError, open_image, source_from_description

DATA = np.random.default_rng(0).integers(1, 60000, (64, 64), dtype=np.uint16)
DATA[:32, :32] = 0
WHOLE = Box((0, 0), DATA.shape)


class Server(ThreadingHTTPServer):
    """A folder over http.

    Attributes
    ----------
    missing : int
        Status of what does not exist.
    signature : str or None
        Without ``?sig=`` and this, everything is forbidden.
    ranges : bool
        Whether parts of files can be asked for.
    """

    folder: Path
    missing, signature, ranges = 404, None, True

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        path = self.server.folder / unquote(asked.path).lstrip("/")
        if self.server.signature and parse_qs(asked.query).get("sig") != [self.server.signature]:
            return self.answer(403, b"signature")
        if not path.is_file():
            return self.answer(self.server.missing, b"")
        data, part = path.read_bytes(), self.headers.get("Range")
        if not part or not self.server.ranges:
            return self.answer(200, data)
        first, _, last = part.removeprefix("bytes=").partition("-")
        start = int(first) if first else len(data) - int(last)
        stop = min(int(last) + 1, len(data)) if first and last else len(data)
        return self.answer(206, data[start:stop], f"bytes {start}-{stop - 1}/{len(data)}")

    def answer(self, status: int, data: bytes, part: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if part:
            self.send_header("Content-Range", part)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(("127.0.0.1", 0), Handler)
    running.folder = tmp_path
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def write(path: Path, zarr_format: Any = 2, **options: Any) -> None:
    """An OME-Zarr image whose first chunk was never written."""
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "yx"]
    steps = [{"type": "scale", "scale": [0.5, 0.5]}]
    said = {"multiscales": [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}]}
    zarr.create_group(str(path), zarr_format=zarr_format, attributes={"ome": said} if zarr_format == 3 else said)
    options = {"chunks": (32, 32), "zarr_format": zarr_format, **options}
    array = zarr.create_array(str(path / "0"), shape=DATA.shape, dtype=DATA.dtype, **options)
    array[...] = DATA
    assert "shards" in options or not list((path / "0").rglob("0.0")) + list((path / "0").glob("c/0/0"))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("missing", [403, 404])
def test_what_is_missing_is_missing_also_where_a_server_calls_it_forbidden(
    tmp_path: Path, server: Server, zarr_format: Any, missing: int
) -> None:
    write(tmp_path / "i.zarr", zarr_format)
    server.missing = missing
    source = open_image(f"{server.address}/i.zarr")
    np.testing.assert_array_equal(source.read(WHOLE), DATA)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).prefetch(WHOLE).result(), DATA)


def test_a_signature_goes_with_every_request(tmp_path: Path, server: Server) -> None:
    write(tmp_path / "my image.zarr")
    server.signature, server.missing = "abc", 403
    source = open_image(f"{server.address}/my%20image.zarr?sig=abc&v=2")
    assert source.name == "my%20image.zarr"
    for image in (source, source_from_description(source.describe())):
        np.testing.assert_array_equal(image.read(WHOLE), DATA)
    with pytest.raises(ImageReadError, match="is not an image"):
        open_image(f"{server.address}/my%20image.zarr?sig=wrong")


def test_pixels_are_never_blank_because_a_signature_expired(tmp_path: Path, server: Server) -> None:
    write(tmp_path / "i.zarr")
    server.signature, server.missing = "abc", 403
    source = open_image(f"{server.address}/i.zarr?sig=abc")
    server.signature = "another"
    with pytest.raises(ImageReadError, match="403"):
        source.read(WHOLE)


def test_a_server_without_ranges(tmp_path: Path, server: Server) -> None:
    write(tmp_path / "i.zarr", 3, chunks=(16, 16), shards=(32, 32))
    server.ranges = False
    source = open_image(f"{server.address}/i.zarr")
    np.testing.assert_array_equal(source.read(WHOLE), DATA)
    np.testing.assert_array_equal(source.read(Box((40, 33), (50, 40))), DATA[40:50, 33:40])


@pytest.mark.parametrize("missing", [403, 404])
@pytest.mark.parametrize("ranges", [True, False])
def test_codecs_that_only_zarr_python_has(tmp_path: Path, server: Server, missing: int, ranges: bool) -> None:
    codecs = {"filters": [numcodecs.Delta(dtype="<u2")], "compressors": numcodecs.Zstd(level=1)}
    write(tmp_path / "delta.zarr", 2, **codecs)
    write(tmp_path / "checksum.zarr", 2, compressors=numcodecs.Zstd(level=1))
    metadata = json.loads((tmp_path / "checksum.zarr" / "0" / ".zarray").read_text())
    metadata["compressor"]["checksum"] = False
    (tmp_path / "checksum.zarr" / "0" / ".zarray").write_text(json.dumps(metadata))
    server.missing, server.ranges, server.signature = missing, ranges, "abc"
    for name in ("delta.zarr", "checksum.zarr"):
        np.testing.assert_array_equal(open_image(f"{server.address}/{name}?sig=abc").read(WHOLE), DATA)


def test_a_server_that_fails_is_an_error_not_blank_pixels(tmp_path: Path, server: Server) -> None:
    write(tmp_path / "i.zarr", 2, filters=[numcodecs.Delta(dtype="<u2")])
    source = open_image(f"{server.address}/i.zarr")
    server.missing = 400
    with pytest.raises(ImageReadError, match="400"):
        source.read(WHOLE)
