"""What users pass instead of the path of an image: addresses, patterns, folders, zip files, arrays of xarray."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import tifffile
import zarr

from napari_blockbuster import segment
from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images import ImageReadError, ImageSource, open_image, source_from_description

STACK = np.random.default_rng(1).integers(0, 60000, (4, 30, 40), dtype=np.uint16)


def pixels(source: ImageSource) -> np.ndarray:
    return source.read(Box((0,) * source.ndim, source.shape))


def write(path: Path) -> Path:
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    steps = [{"type": "scale", "scale": [2, 0.5, 0.5]}]
    said = {"multiscales": [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}]}
    zarr.create_group(str(path), attributes={"ome": {"version": "0.5", **said}})
    zarr.create_array(str(path / "0"), data=STACK, chunks=(2, 16, 16))
    return path


def test_file_addresses_are_decoded(tmp_path: Path) -> None:
    path = write(tmp_path / "my image #1 [a].zarr")
    for address in (f"file://{quote(str(path))}", f"file://localhost{quote(str(path))}", path.as_uri(), str(path)):
        source = open_image(address)
        assert source.local_path == path
        np.testing.assert_array_equal(pixels(source), STACK)
    with pytest.raises(ValueError, match="is on another machine"):
        open_image("file://server/share/a.zarr")


def test_patterns_and_folders_end_in_one_sentence(tmp_path: Path) -> None:
    for i in range(6):
        tifffile.imwrite(tmp_path / f"f{i}.tif", STACK)
    with pytest.raises(
        ValueError, match=r"\*\.tif is a pattern. It matches 6 paths: f0\.tif, .* and 2 more\. Pass one"
    ):
        segment(tmp_path / "*.tif", "threshold", tmp_path / "o.zarr")
    with pytest.raises(ValueError, match=r"\*\.czi is a pattern. It matches nothing"):
        open_image(tmp_path / "*.czi")
    with pytest.raises(ImageReadError, match=r"but 6 other entries: f0\.tif, f1\.tif, f2\.tif, f3\.tif and 2 more"):
        open_image(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageReadError, match="is an empty folder"):
        open_image(tmp_path / "empty")
    with pytest.raises(ValueError, match="TIFF files are read from disk"):
        open_image("https://example.org/a.tif?sig=1")


def test_zip_files(tmp_path: Path) -> None:
    folder = write(tmp_path / "a.ome.zarr")
    flat = Path(shutil.make_archive(str(tmp_path / "flat"), "zip", folder))
    nested = Path(shutil.make_archive(str(tmp_path / "nested"), "zip", tmp_path, folder.name))
    for path in (flat, nested / folder.name):
        source = open_image(path)
        assert source.scale == (2, 0.5, 0.5)
        for image in (source, pickle.loads(pickle.dumps(source)), source_from_description(source.describe())):
            np.testing.assert_array_equal(pixels(image), STACK)
        assert source.shippable
        assert source.aliases(flat if path == flat else nested)
    with pytest.raises(ImageReadError, match=rf"The zip file holds {folder.name}: pass the path of an image in it"):
        open_image(nested)


# -------------------------------------------------------------------------------------------------------------- xarray
xarray = pytest.importorskip("xarray")


def test_dimensions_and_coordinates_of_xarray() -> None:
    coords = {
        "Z": np.arange(4) * 2.0,
        "Y": np.arange(30) * 0.5,
        "X": xarray.DataArray(np.arange(40) * 0.5 + 7, dims="X", attrs={"units": "um"}),
    }
    source = open_image(xarray.DataArray(STACK, dims=("Z", "Y", "X"), coords=coords))
    assert (source.axes, source.scale) == (("z", "y", "x"), (2.0, 0.5, 0.5))
    np.testing.assert_array_equal(pixels(source), STACK)
    four = xarray.DataArray(STACK, dims=("channel", "y", "x"), coords={"channel": ["a", "b", "GFP", "d"]})
    np.testing.assert_array_equal(pixels(open_image(four, channel="GFP")), STACK[2])
    with pytest.raises(ValueError, match=r"has 4 channels. .* 2 \(GFP\)"):
        open_image(four)
    film = xarray.DataArray(STACK, dims=("time", "y", "x"))
    assert open_image(film).axes == ("t", "y", "x")
    with pytest.raises(ValueError, match="has the dimensions band, y, x"):
        open_image(xarray.DataArray(STACK, dims=("band", "y", "x")))
    with pytest.raises(ValueError, match=r"this is an xarray Dataset\. Inside it are image: pass one DataArray"):
        open_image(xarray.Dataset({"image": film}))


def test_xarray_is_computed_box_by_box() -> None:
    import dask.array as da

    computed: list[int] = []

    def block(block_info: Any = None) -> np.ndarray:
        computed.append(1)
        return STACK[tuple(slice(*place) for place in block_info[None]["array-location"])]

    lazy = da.map_blocks(block, chunks=((2, 2), (30,), (40,)), dtype=STACK.dtype, meta=np.empty((0, 0, 0), STACK.dtype))
    source = open_image(xarray.DataArray(lazy, dims=("z", "y", "x")))
    assert not computed
    np.testing.assert_array_equal(source.read(Box((0, 0, 0), (1, 9, 9))), STACK[:1, :9, :9])
    assert len(computed) == 1


def test_xarray_in_a_zarr_store_is_read_lazily(tmp_path: Path) -> None:
    xarray.Dataset({"image": (("z", "y", "x"), STACK)}).to_zarr(tmp_path / "a.zarr", zarr_format=2, consolidated=False)
    opened = xarray.open_dataset(tmp_path / "a.zarr", engine="zarr", chunks=None, consolidated=False)["image"]
    source = open_image(opened)
    np.testing.assert_array_equal(source.read(Box((1, 2, 3), (3, 20, 30))), STACK[1:3, 2:20, 3:30])
    assert not opened.variable._in_memory
