"""Cellpose with two and three channels: each with its own brightness, in the order asked for, on the way to the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_data import ArraySource, drawn, f1

pytest.importorskip("cellpose")
torch = pytest.importorskip("torch")

from small_cellpose.family import SmallCellpose  # noqa: E402
from small_cellpose.network import SmallNetwork  # noqa: E402

from napari_blockbuster import segment  # noqa: E402

NUCLEI = drawn((200, 200), 30, 0.3, 51)
REST = (60_000 - 3 * np.minimum(NUCLEI.pixels.astype(np.int64)[::-1], 15_000)).astype(np.uint16)
BOTH = np.stack([NUCLEI.pixels, REST], axis=-1)


@pytest.fixture
def inputs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the network gets."""
    seen: list[Any] = []
    forward = SmallNetwork.forward

    def watched(self: SmallNetwork, images: Any) -> Any:
        seen.append(images.clone())
        return forward(self, images)

    monkeypatch.setattr(SmallNetwork, "forward", watched)
    return seen


def test_each_channel_is_measured_on_its_own() -> None:
    model = SmallCellpose().prepare(ArraySource(BOTH, n_channels=2))
    alone = [SmallCellpose().prepare(ArraySource(BOTH[..., i])).ranges[0] for i in (0, 1)]
    assert model.ranges == alone
    given = SmallCellpose(low=1, high=9, more_lows=(2,)).prepare(ArraySource(BOTH, n_channels=2))
    assert given.ranges == [(1, 9), (2, alone[1][1])]


def test_the_network_gets_them_in_order(inputs: list[Any]) -> None:
    model = SmallCellpose(diameter=30).prepare(ArraySource(BOTH, n_channels=2))
    run = model.load()
    inputs.clear()
    before = BOTH.copy()
    labels = run(BOTH)
    np.testing.assert_array_equal(BOTH, before)
    assert labels.shape == (200, 200)
    (images,) = inputs
    assert images.shape == (1, 2, 256, 256)
    at = 28  # (256 - 16 - 200) / 2 + 8: the middle of the network's tile.
    for i, (low, high) in enumerate(model.ranges):
        expected = (BOTH[..., i] - np.float32(low)) / np.float32(high - low)
        np.testing.assert_allclose(images[0, i, at : at + 200, at : at + 200], expected, atol=1e-4)
    # This network looks at the first channel alone.
    alone = SmallCellpose(diameter=30).prepare(ArraySource(NUCLEI.pixels)).load()(NUCLEI.pixels)
    np.testing.assert_array_equal(labels, alone)


@pytest.mark.parametrize("mode", ["3d", "planes"])
def test_stacks_of_three_channels(mode: str, inputs: list[Any]) -> None:
    stack = drawn((8, 40, 40), 20, 0.2, 52)
    pixels = np.stack([stack.pixels, stack.pixels[::-1], stack.pixels[:, ::-1]], axis=-1)
    run = SmallCellpose(diameter=20, mode=mode).prepare(ArraySource(pixels, n_channels=3)).load()
    assert run(pixels).shape == stack.pixels.shape
    assert {images.shape[1] for images in inputs} == {3}


def test_a_tile_of_another_number_of_channels_is_refused() -> None:
    run = SmallCellpose(diameter=30).prepare(ArraySource(BOTH, n_channels=2)).load()
    with pytest.raises(ValueError, match=r"prepared for 2 channels but the tile has shape \(200, 200, 3\)"):
        run(np.concatenate([BOTH, BOTH[..., :1]], axis=-1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"more_lows": (1, 2)}, r"more_lows is \(1.0, 2.0\). The image has 1 channels after the first"),
        ({"more_lows": (1,), "more_highs": (1,)}, r"more_highs is \(1.0,\). Each must be above its low of \(1.0,\)"),
        ({"more_lows": (1,), "more_highs": (2, 3)}, "Give a number each for every channel after the first"),
    ],
)
def test_wrong_ranges_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SmallCellpose(**settings).prepare(ArraySource(BOTH, n_channels=2))


def test_a_run_with_two_channels(tmp_path: Path) -> None:
    pixels = np.moveaxis(BOTH[..., ::-1], -1, 0)
    options: dict[str, Any] = {"axes": "cyx", "tile_shape": (104, 104), "halo": 60, "progress": False}
    result = segment(pixels, SmallCellpose(diameter=30), tmp_path / "a.ome.zarr", channel=(1, 0), **options)
    assert not result.failed_tiles
    assert result.provenance["image"]["channel"] == [1, 0]
    assert f1(np.asarray(result.labels), NUCLEI.truth) >= 0.7
    with pytest.raises(ValueError, match="4 channels were chosen, but the model 'cellpose' takes 3 channels at most"):
        segment(
            np.concatenate([pixels, pixels]),
            SmallCellpose(diameter=30),
            tmp_path / "b.ome.zarr",
            channel=(0, 1, 2, 3),
            **options,
        )
