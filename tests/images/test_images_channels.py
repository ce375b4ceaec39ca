"""Several channels of an image at once: read, described, told apart, sent to workers, refused where a model takes one."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from scipy import ndimage

from napari_blockbuster import segment
from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images import open_image, source_from_description
from napari_blockbuster.job.job import Job
from napari_blockbuster.job.preview import preview_tile
from napari_blockbuster.job.setup.suggestion import make_grid
from napari_blockbuster.models import Model, get_model
from napari_blockbuster.models.base import Segmenter

CELLS = np.random.default_rng(3).integers(0, 60_000, (3, 4, 20, 24), np.uint16)
"""Channels, z, y, x."""
BOX = Box((1, 2, 3), (3, 20, 11))


def as_array(folder: Path) -> Any:
    return CELLS


def as_dask(folder: Path) -> Any:
    return da.from_array(CELLS, chunks=(1, 2, 16, 16))


def as_zarr(folder: Path) -> Any:
    array = zarr.create_array(
        folder / "i.zarr", shape=CELLS.shape, chunks=(1, 2, 8, 8), dtype=CELLS.dtype, dimension_names=list("czyx")
    )
    array[...] = CELLS
    return folder / "i.zarr"


def as_tiff(folder: Path) -> Any:
    tifffile.imwrite(
        folder / "i.ome.tif", CELLS, metadata={"axes": "CZYX", "Channel": {"Name": ["DNA", "actin", "ER"]}}
    )
    return folder / "i.ome.tif"


@pytest.mark.parametrize("make", [as_array, as_dask, as_zarr, as_tiff])
def test_channels_come_last_in_the_order_asked_for(make: Callable[[Path], Any], tmp_path: Path) -> None:
    source = open_image(make(tmp_path), channel=(2, 0), axes="czyx")
    expected = np.moveaxis(CELLS[[2, 0]], 0, -1)
    assert source.shape == CELLS.shape[1:]
    assert source.n_channels == 2
    for pixels in (source.read(BOX), source.prefetch(BOX).result(), source.part(BOX).read()):
        np.testing.assert_array_equal(pixels, expected[BOX.slices])
    np.testing.assert_array_equal(source.sample_blocks()[0], expected)
    sent = pickle.loads(pickle.dumps(source.part(BOX)))
    np.testing.assert_array_equal(sent.read(), expected[BOX.slices])
    np.testing.assert_array_equal(source.shown.read(BOX), CELLS[2][BOX.slices])


@pytest.mark.parametrize("make", [as_zarr, as_tiff])
def test_a_stored_image_is_found_again_with_its_channels(make: Callable[[Path], Any], tmp_path: Path) -> None:
    source = open_image(make(tmp_path), channel=[0, 2])
    again = source_from_description(source.describe())
    assert source.describe()["channel"] == [0, 2]
    assert again.identity() == source.identity()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read(BOX), again.read(BOX))
    assert source.shippable
    assert source.aliases(Path(source.describe()["path"]))


def test_channels_and_their_order_are_part_of_what_an_image_is() -> None:
    said = [open_image(CELLS, axes="czyx", channel=c).identity() for c in (0, (0, 1), (1, 0), (0, 1, 2))]
    assert len({repr(identity) for identity in said}) == 4
    assert (
        open_image(CELLS, axes="czyx", channel=[1]).identity() == open_image(CELLS, axes="czyx", channel=1).identity()
    )


def test_channels_by_name(tmp_path: Path) -> None:
    source = open_image(as_tiff(tmp_path), channel=("actin", "DNA"))
    np.testing.assert_array_equal(source.read(BOX), np.moveaxis(CELLS[[1, 0]], 0, -1)[BOX.slices])


@pytest.mark.parametrize(
    ("channel", "message"),
    [
        ((), "channel is an empty list. Give one channel or more"),
        ((1, 1), r"channel is \[1, 1\], which names a channel twice"),
        ((0, 3), "there is no channel 3 in this array. Its channels are 0, 1, 2"),
    ],
)
def test_mistakes(channel: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_image(CELLS, axes="czyx", channel=channel)


def test_a_model_of_one_channel_refuses_several(tmp_path: Path) -> None:
    source = open_image(CELLS, axes="czyx", channel=(0, 1))
    message = "2 channels were chosen, but the model 'threshold' takes one channel at most"
    with pytest.raises(ValueError, match=message):
        Job.create(source, "threshold", tmp_path / "labels.ome.zarr")
    assert not list(tmp_path.iterdir())
    model = get_model("threshold").prepare(source.shown)
    with pytest.raises(ValueError, match=message):
        preview_tile(source, model, make_grid(source, (4, 20, 24), (0, 0, 0)), 0)


class Both(Model):
    """What is bright in one channel and dark in the other."""

    family: ClassVar[str] = "both"
    summary: ClassVar[str] = "Bright here, dark there"
    most_channels: ClassVar[int] = 2

    def load(self) -> Segmenter:
        """Components of voxels where the first channel exceeds the second."""

        def run(tile: np.ndarray) -> np.ndarray:
            labels: np.ndarray = ndimage.label(tile[..., 0] > tile[..., 1])[0]
            return labels

        return run


@pytest.mark.parametrize("frames", [False, True])
def test_a_model_of_two_channels_sees_them_in_every_tile(frames: bool, tmp_path: Path) -> None:
    pixels = CELLS[:, None] if frames else CELLS
    axes = "ctzyx" if frames else "czyx"
    result = segment(
        pixels,
        Both(),
        tmp_path / "labels.ome.zarr",
        axes=axes,
        channel=(2, 1),
        tile_shape=(4, 8, 8),
        halo=0,
        merge="touch",
        progress=False,
    )
    expected, n = ndimage.label(CELLS[2] > CELLS[1])
    assert not result.failed_tiles
    assert result.n_objects == n
    labels = np.asarray(result.labels).reshape(expected.shape)
    np.testing.assert_array_equal(labels > 0, expected > 0)
    pairs = np.unique(np.stack([labels.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == n + 1


def test_a_preview_of_two_channels() -> None:
    source = open_image(CELLS, axes="czyx", channel=(0, 1))
    found = preview_tile(source, Both(), make_grid(source, (4, 10, 12), (0, 2, 2)), 0)
    assert found is not None
    np.testing.assert_array_equal(found.core > 0, (CELLS[0] > CELLS[1])[:, :10, :12])
