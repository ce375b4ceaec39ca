"""Images as the engine uses them: halos, caches, what travels to a worker, identity, places."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import dask.array as da
import numcodecs
import numcodecs.abc
import numpy as np
import pytest
import tensorstore as ts
import tifffile
import tifffile.zarr
import zarr

from napari_blockbuster.geometry.tiles import Box, TileGrid
from napari_blockbuster.images import ImageReadError, ImageSource, open_image
from napari_blockbuster.images.chunks import CACHE, CachedReader, ChunkCache
from napari_blockbuster.images.zarr import source as stored

SIDE, CHUNK = 96, 24
LAYER = SIDE * SIDE * CHUNK
"""Bytes of one layer of chunks, which are SIDE / CHUNK in number along each axis."""
N_CHUNKS = (SIDE // CHUNK) ** 3
CUBE = np.random.default_rng(0).integers(0, 255, (SIDE,) * 3, dtype=np.uint8)
GRID = TileGrid(CUBE.shape, CHUNK, halo=CHUNK // 4)
"""Tiles that are chunks: with a halo, one in the middle reads 27 of them."""


class Counted(numcodecs.abc.Codec):
    """A codec that tensorstore does not know, and that counts what it decodes."""

    codec_id = "counted"
    decoded = 0

    def encode(self, buf: Any) -> Any:
        return buf

    def decode(self, buf: Any, out: Any = None) -> Any:
        type(self).decoded += 1
        return numcodecs.compat.ndarray_copy(buf, out)


numcodecs.register_codec(Counted)


def fill(path: Path | None = None, data: np.ndarray = CUBE, chunk: int = CHUNK, **options: Any) -> zarr.Array:
    array = zarr.create_array(
        {} if path is None else str(path), shape=data.shape, dtype=data.dtype, chunks=(chunk,) * data.ndim, **options
    )
    array[...] = data
    return array


def bytes_read() -> int:
    """Bytes that tensorstore read from files in this process."""
    found = ts.experimental_collect_matching_metrics("/tensorstore/kvstore/file/bytes_read")
    return sum(int(entry["value"]) for metric in found for entry in metric["values"])


def size_on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def read_tiles(source: ImageSource) -> int:
    """Read all tiles with their halos in grid order; how many chunks they touch, one tile at a time."""
    touched = 0
    for index in GRID.order():
        box = GRID[index].read
        np.testing.assert_array_equal(source.read(box), CUBE[box.slices])
        touched += np.prod([-(-b // CHUNK) - a // CHUNK for a, b in zip(box.start, box.stop, strict=True)])
    return int(touched)


@pytest.fixture
def cache_of() -> Iterator[Any]:
    """Gives both caches of decoded chunks a limit, for one test."""
    patch = pytest.MonkeyPatch()

    def limit(size: int) -> None:
        patch.setenv("NAPARI_BLOCKBUSTER_CACHE_BYTES", str(size))
        stored.decoded_chunks.cache_clear()
        patch.setattr(CACHE, "_limit", size)

    yield limit
    patch.undo()
    stored.decoded_chunks.cache_clear()


# -------------------------------------------------------------------------------------------------------------- caches
# A cache of a little more than three layers of chunks: of the image's four, and of a large image's many.
ENOUGH = int(3.3 * LAYER)


@pytest.mark.parametrize("options", [{}, {"zarr_format": 2}, {"shards": (2 * CHUNK,) * 3}], ids=["v3", "v2", "sharded"])
def test_halos_read_each_chunk_about_once(tmp_path: Path, cache_of: Any, options: dict[str, Any]) -> None:
    cache_of(ENOUGH)
    fill(tmp_path / "i.zarr", **options)
    source = open_image(tmp_path / "i.zarr")
    before = bytes_read()
    assert read_tiles(source) > 12 * N_CHUNKS
    assert bytes_read() - before < 1.25 * size_on_disk(tmp_path)


@pytest.mark.parametrize("folder", [True, False], ids=["on disk", "in memory"])
def test_halos_decode_each_chunk_about_once_with_zarr_python(tmp_path: Path, cache_of: Any, folder: bool) -> None:
    cache_of(ENOUGH)
    array = fill(tmp_path / "i.zarr" if folder else None, zarr_format=2, compressors=Counted())
    source = open_image(tmp_path / "i.zarr" if folder else array)
    Counted.decoded = 0
    read_tiles(source)
    assert N_CHUNKS <= Counted.decoded < 1.25 * N_CHUNKS
    assert CACHE.held <= ENOUGH


def test_halos_decode_each_page_of_a_tiff_about_once(
    tmp_path: Path, cache_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_of(ENOUGH)
    tifffile.imwrite(tmp_path / "i.tif", CUBE, photometric="minisblack", tile=(48, 48), compression="zlib")
    source = open_image(tmp_path / "i.tif")
    decoded = []
    get = tifffile.zarr.ZarrTiffStore.get

    def counted(self: Any, key: str, *args: Any, **options: Any) -> Any:
        if not key.startswith(".z"):
            decoded.append(key)
        return get(self, key, *args, **options)

    monkeypatch.setattr(tifffile.zarr.ZarrTiffStore, "get", counted)
    read_tiles(source)
    assert len(set(decoded)) == SIDE * 4
    assert len(decoded) < 1.25 * SIDE * 4


@pytest.mark.parametrize("byteorder", "<>")
def test_a_corner_of_a_large_uncompressed_page_is_read_alone(tmp_path: Path, byteorder: str) -> None:
    """Pages of 18 MB, as from a slide scanner: a small box brings neither one page into memory nor the file."""
    pages = np.arange(2 * 3000 * 3000, dtype=np.uint32).reshape(2, 3000, 3000).astype(np.uint16)
    options = {"photometric": "minisblack", "byteorder": byteorder, "rowsperstrip": 3000}
    tifffile.imwrite(tmp_path / "i.tif", pages, **options)
    source = pickle.loads(pickle.dumps(open_image(tmp_path / "i.tif")))
    box = Box((1, 2900, 1000), (2, 3000, 1100))
    source.read(box)
    tracemalloc.start()
    pixels = source.read(box)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(pixels, pages[box.slices])
    assert pixels.dtype == np.uint16
    assert peak < 500_000
    whole = source.read(Box((0, 0, 0), pages.shape))
    np.testing.assert_array_equal(whole, pages)
    assert whole.flags.writeable


def test_without_room_every_read_goes_to_the_disk(tmp_path: Path, cache_of: Any) -> None:
    """What shows that the tests above measure the cache, and that its limit is heeded."""
    cache_of(1)
    fill(tmp_path / "i.zarr")
    fill(tmp_path / "j.zarr", zarr_format=2, compressors=Counted())
    before = bytes_read()
    touched = read_tiles(open_image(tmp_path / "i.zarr"))
    assert bytes_read() - before > 0.9 * touched * CHUNK**3
    source = open_image(tmp_path / "j.zarr")
    Counted.decoded = 0
    assert read_tiles(source) == Counted.decoded


def test_the_cache_never_holds_more_than_its_limit() -> None:
    cache = ChunkCache(10_000)
    for i in range(200):
        cache.put(i, np.zeros(i * 7, np.uint8))
        assert cache.held <= 10_000
    cache.put("larger than the cache", np.zeros(10_001, np.uint8))
    assert cache.get("larger than the cache") is None
    assert cache.get(199) is not None
    assert cache.get(1) is None


def test_threads_share_a_reader() -> None:
    reader = CachedReader(fill(), (CHUNK,) * 3, ChunkCache(3 * CHUNK**3))
    wrong: list[int] = []

    def read(indices: list[int]) -> None:
        for i in indices:
            slices = GRID[i].read.slices
            if not np.array_equal(reader[slices], CUBE[slices]):
                wrong.append(i)

    threads = [threading.Thread(target=read, args=(GRID.order()[start::3],)) for start in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_pixels_that_were_read_are_the_callers(tmp_path: Path) -> None:
    """Changing what was read changes neither the image nor what others read."""
    for image in (CUBE, fill(), da.from_array(CUBE, chunks=CHUNK), fill(tmp_path / "i.zarr").store.root):
        source = open_image(image)
        box = GRID[21].read
        source.read(box)[:] = 0
        np.testing.assert_array_equal(source.read(box), CUBE[box.slices])


WORKER = """
import pickle, sys
for line in sys.stdin:
    source, box, back = pickle.load(open(line.strip(), "rb"))
    source.read(box).tofile(back)
    print("read", flush=True)
"""


def test_another_image_at_the_same_path_is_read_anew(tmp_path: Path) -> None:
    """A worker that read a path for one run must not see those pixels when it is sent a source for the next run."""
    worker = subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    box = Box((0, 0, 0), CUBE.shape)
    try:
        for data in (CUBE, 255 - CUBE):
            fill(tmp_path / "i.zarr", data, overwrite=True)
            tifffile.imwrite(tmp_path / "i.tif", data)
            for name in ("i.zarr", "i.tif"):
                work = (open_image(tmp_path / name), box, tmp_path / "back")
                (tmp_path / "sent").write_bytes(pickle.dumps(work))
                assert worker.stdin
                assert worker.stdout
                print(tmp_path / "sent", file=worker.stdin, flush=True)
                assert worker.stdout.readline() == "read\n"
                np.testing.assert_array_equal(np.fromfile(tmp_path / "back", "u1").reshape(CUBE.shape), data)
    finally:
        worker.kill()
        worker.communicate()


def test_opening_reads_no_pixel(tmp_path: Path) -> None:
    fill(tmp_path / "i.zarr")
    before = bytes_read()
    open_image(tmp_path / "i.zarr").describe()
    assert bytes_read() - before < 20_000


# ------------------------------------------------------------------------------------------------ what workers are sent
def in_memory() -> dict[str, Any]:
    noise = np.random.default_rng(1).random((SIDE,) * 3)
    return {
        "numpy": CUBE,
        "numpy, transposed": CUBE.T,
        "zarr in memory": fill(),
        "dask, small chunks": da.from_array(CUBE, chunks=CHUNK),
        "dask, one chunk": da.from_array(CUBE, chunks=-1),
        "dask of zarr in memory": da.from_array(fill(), chunks=CHUNK),
        "dask, with a large constant": da.zeros((SIDE,) * 3, "u1", chunks=CHUNK).map_blocks(
            lambda x, k: x + np.uint8(k[0, 0, 0]), noise, dtype="u1"
        ),
        "dask, long graph": da.stack([da.from_array(plane, chunks=CHUNK) for plane in CUBE]),
        "dask, computed": da.random.default_rng(1).integers(0, 255, (SIDE,) * 3, dtype="u1", chunks=12),
    }


@pytest.mark.parametrize("kind", in_memory())
def test_a_tile_of_an_image_in_memory_travels_alone(kind: str) -> None:
    """A payload is bounded by its tile: not the image, not the graph of the image."""
    source = open_image(in_memory()[kind])
    assert not source.shippable
    box = GRID[21].read
    wire = cloudpickle.dumps(source.part(box).read)
    assert len(wire) < max(4 * box.size, 2**16) + 2000
    assert len(wire) < CUBE.nbytes / 2
    np.testing.assert_array_equal(cloudpickle.loads(wire)(), source.read(box))


def test_a_dask_graph_travels_where_it_is_small() -> None:
    """Computing is left to the worker: what is sent holds no pixels."""
    image = da.random.default_rng(1).integers(0, 60000, (512, 512), dtype="u2", chunks=128)
    assert len(cloudpickle.dumps(open_image(image).part(Box((0, 0), (256, 256))).read)) < 20_000


def test_a_dask_array_of_something_that_cannot_leave_the_process() -> None:
    """As of an open HDF5 file: this process reads, the pixels travel."""

    class Open:
        shape, dtype, ndim = CUBE.shape, CUBE.dtype, 3
        lock = threading.Lock()

        def __init__(self) -> None:
            self.handle = threading.Lock()

        def __getitem__(self, index: Any) -> np.ndarray:
            return CUBE[index]

    source = open_image(da.from_array(Open(), chunks=CHUNK))
    box = GRID[0].read
    part = cloudpickle.loads(cloudpickle.dumps(source.part(box)))
    np.testing.assert_array_equal(part.read(), CUBE[box.slices])


# ------------------------------------------------------------------------------------------------------------ identity
def test_identity_is_that_of_the_pixels(tmp_path: Path) -> None:
    """The same for the same pixels, wherever they are and however stored; another for a single changed voxel."""
    fill(tmp_path / "i.zarr")
    fill(tmp_path / "elsewhere.zarr", chunk=32, zarr_format=2)
    tifffile.imwrite(tmp_path / "i.tif", CUBE)
    identity = open_image(CUBE).identity()
    for image in (tmp_path / "i.zarr", tmp_path / "elsewhere.zarr", tmp_path / "i.tif", CUBE.copy()):
        assert open_image(image).identity() == identity
    # A few blocks stand for a dask array: all of it would have to be computed.
    lazy = [open_image(da.from_array(x, chunks=CHUNK)).identity() for x in (CUBE, CUBE.copy(), 255 - CUBE)]
    assert lazy[0] == lazy[1] != lazy[2]
    zarr.open_array(tmp_path / "i.zarr")[50, 60, 70] ^= 1
    assert open_image(tmp_path / "i.zarr").identity() != identity


def test_identity_tells_shape_type_channel_axes_and_level(tmp_path: Path) -> None:
    film = np.random.default_rng(0).integers(0, 255, (2, 8, 16, 16), dtype=np.uint8)
    sources = [
        open_image(film, axes="czyx", channel=0),
        open_image(film, axes="czyx", channel=1),
        open_image(film[0]),
        open_image(film[0], axes="tyx"),
        open_image(film[0, ::2, ::2, ::2]),
        open_image(film[0].astype("u2")),
        open_image(film[0].reshape(8, 8, 32)),
    ]
    identities = [str(source.identity()) for source in sources]
    assert identities[0] == identities[2]
    assert len(set(identities)) == len(sources) - 1


def test_identity_of_a_large_image_reads_little(tmp_path: Path) -> None:
    """A terabyte, most of it never written: a change in what is looked at is seen, in bounded time and memory."""
    path = tmp_path / "large.zarr"
    array = zarr.create_array(str(path), shape=(8192,) * 3, chunks=(128,) * 3, shards=(1024,) * 3, dtype="u2")
    tracemalloc.start()
    first = open_image(path).identity()
    assert tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()
    assert open_image(path).identity() == first
    place = open_image(path)._digest_boxes()[3].start
    array[place] = 1
    assert open_image(path).identity() != first


def test_sampled_blocks_are_bounded_and_spread(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "i.zarr"), shape=(3, 2048, 2048, 2048), chunks=(1, 512, 512, 512), dtype="u1")
    source = open_image(tmp_path / "i.zarr", axes="tzyx")
    blocks = source.sample_blocks(2**20)
    assert len(blocks) >= 3
    assert all(block.ndim == 3 for block in blocks)
    assert sum(block.size for block in blocks) <= 2**23
    whole = open_image(CUBE[:3], axes="tyx").sample_blocks()
    np.testing.assert_array_equal(np.stack(whole), CUBE[:3])


# -------------------------------------------------------------------------------------------------------------- places
def test_an_output_that_would_hit_the_image(tmp_path: Path) -> None:
    group = zarr.create_group(str(tmp_path / "i.ome.zarr"))
    axes = [{"name": n, "type": "space"} for n in "zyx"]
    said = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": []}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [said]}
    fill(tmp_path / "i.ome.zarr" / "0")
    tifffile.imwrite(tmp_path / "i.tif", CUBE)
    (tmp_path / "link").symlink_to(tmp_path / "i.ome.zarr")
    source, file = open_image(tmp_path / "i.ome.zarr"), open_image(tmp_path / "i.tif")
    for hit in ("i.ome.zarr", ".", "i.ome.zarr/0", "i.ome.zarr/0/c", "i.ome.zarr/labels", "link", "link/0"):
        assert source.aliases(tmp_path / hit), hit
    for free in ("i.ome.zarr/labels/cells", "link/labels/cells", "o.zarr", "i.ome.zarr2"):
        assert not source.aliases(tmp_path / free), free
    assert file.aliases(tmp_path / "i.tif")
    assert not file.aliases(tmp_path / "i.tif.labels")
    assert not open_image(CUBE).aliases(tmp_path)
    assert source.local_path == tmp_path / "i.ome.zarr"


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "i.zarr")
    (tmp_path / "i.zarr" / "c" / "0" / "0" / "1").write_bytes(os.urandom(100))
    source = open_image(tmp_path / "i.zarr")
    source.read(Box((0, 0, 0), (CHUNK,) * 3))
    box = Box((0, 0, CHUNK), (CHUNK, CHUNK, 2 * CHUNK))
    for read in (lambda: source.read(box), lambda: source.prefetch(box).result()):
        with pytest.raises(ImageReadError, match=r"i\.zarr: the pixels at \[0:24, 0:24, 24:48\] cannot be read"):
            read()
    with pytest.raises(IndexError, match=r"the box \[0:97, 0:1, 0:1\] leaves the image of shape \(96, 96, 96\)"):
        source.read(Box((0, 0, 0), (97, 1, 1)))
