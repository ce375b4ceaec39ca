"""Images at an address: read over HTTP, with pixels, axes and refusals as from a disk."""

from __future__ import annotations

import functools
import pickle
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images import ImageReadError, open_image, source_from_description

DATA = np.random.default_rng(0).integers(0, 60000, (2, 20, 40, 40), dtype=np.uint16)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A server of this machine, of the test's folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_ome_zarr_over_http(tmp_path: Path, address: str, zarr_format: Any) -> None:
    axes = [{"name": "c", "type": "channel"}] + [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    steps = [{"type": "scale", "scale": [1, 2, 0.5, 0.5]}]
    multiscale = {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}
    said = {"multiscales": [multiscale], "omero": {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}}
    attributes = {"ome": said} if zarr_format == 3 else said
    zarr.create_group(str(tmp_path / "i.zarr"), zarr_format=zarr_format, attributes=attributes)
    options = {"dtype": DATA.dtype, "chunks": (1, 8, 16, 16), "zarr_format": zarr_format}
    zarr.create_array(str(tmp_path / "i.zarr" / "0"), shape=DATA.shape, **options)[...] = DATA
    source = open_image(f"{address}/i.zarr", channel="GFP")
    assert (source.shape, source.spacing, source.name) == ((20, 40, 40), (2, 0.5, 0.5), "i.zarr")
    box = Box((3, 5, 7), (19, 33, 40))
    for image in (source, pickle.loads(pickle.dumps(source)), source_from_description(source.describe())):
        np.testing.assert_array_equal(image.read(box), DATA[1][box.slices])
    assert source.shippable
    assert source.local_path is None
    assert not source.aliases(tmp_path / "i.zarr")


def test_nothing_at_an_address(tmp_path: Path, address: str) -> None:
    with pytest.raises(ImageReadError, match=r"missing\.zarr is not an image: it holds no zarr\.json"):
        open_image(f"{address}/missing.zarr")
    zarr.create_array(str(tmp_path / "a"), shape=(4, 4), dtype="c8")
    with pytest.raises(ValueError, match="/a has pixels of type complex64"):
        open_image(f"{address}/a")
