"""The one function that decides how large a voxel is."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest

from napari_blockbuster.images import ImageWarning
from napari_blockbuster.images.metadata.sizes import Sizes, level_factor, voxel_sizes

MICRO = dict.fromkeys("zyx", "micrometer")


def decide(
    sizes: dict[str, Any], units: dict[str, Any] = MICRO, extents: tuple[int, ...] = (9, 9, 9), **more: Any
) -> Sizes:
    return voxel_sizes("zyx", extents, sizes, units, "a.tif", **more)


def test_sound_sizes_are_taken_without_a_word() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decide({"z": 2, "y": "0.5", "x": np.float32(0.5)}) == Sizes((2, 0.5, 0.5), ("micrometer",) * 3)
        assert decide({}, {}) == Sizes((1, 1, 1), (None,) * 3)
        # One plane is no reason for a word.
        assert decide({"z": 0, "y": 0.5, "x": 0.5}, extents=(1, 9, 9)).scale == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("sizes", "units", "scale", "unit"),
    [
        ({"z": 1, "y": 100, "x": 100}, ("µm", "nm", "nm"), (1000, 100, 100), "nanometer"),
        ({"z": 500, "y": 0.1, "x": 0.1}, ("nm", "µm", "um"), (0.5, 0.1, 0.1), "micrometer"),
        ({"z": 3, "y": 1, "x": 1}, ("angstrom", "nm", "nm"), (0.3, 1, 1), "nanometer"),
        ({"z": 1, "y": 1, "x": 1}, ("thou", "thou", "thou"), (25.4, 25.4, 25.4), "micrometer"),
        ({"z": 2, "y": 0.5, "x": 0.5}, (None, "micron", "microns"), (2, 0.5, 0.5), "micrometer"),
        ({"z": 2, "y": 1, "x": 1}, ("pixel", "reference frame", ""), (2, 1, 1), None),
    ],
)
def test_units_of_space_become_one(
    sizes: Any, units: tuple[Any, ...], scale: tuple[float, ...], unit: str | None
) -> None:
    found = decide(sizes, dict(zip("zyx", units, strict=True)))
    assert found.scale == pytest.approx(scale)
    assert found.units == (unit,) * 3


@pytest.mark.parametrize("wrong", [None, 0, -0.6, "", "foo", float("nan"), float("inf"), 1e9, 1e-9, [], {}, True - 1])
def test_unknown_sizes_are_taken_from_x_and_said_once(wrong: Any) -> None:
    with pytest.warns(
        ImageWarning, match=r"a\.tif: voxel size unknown along z .* Used instead: 0\.5 micrometer"
    ) as told:
        found = decide({"z": wrong, "y": 0.5, "x": 0.5})
    assert len(told) == 1
    assert found == Sizes((0.5, 0.5, 0.5), (None, "micrometer", "micrometer"))


def test_nothing_known_is_not_a_size_of_one_of_something() -> None:
    with pytest.warns(ImageWarning, match="unknown along z, y, x"):
        assert decide(dict.fromkeys("zyx", 0)) == Sizes((1, 1, 1), (None,) * 3)


def test_times_have_units_of_their_own() -> None:
    found = voxel_sizes("tyx", (5, 9, 9), {"t": 200, "y": 1, "x": 1}, {"t": "ms", "y": "um", "x": "um"}, "a")
    assert found == Sizes((200, 1, 1), ("millisecond", "micrometer", "micrometer"))
    # A unit of the wrong kind is none.
    found = voxel_sizes("tyx", (5, 9, 9), {"t": 200, "y": 2, "x": 1}, {"t": "um", "y": "s", "x": "um"}, "a")
    assert found == Sizes((200, 2, 1), (None, "micrometer", "micrometer"))


@pytest.mark.parametrize(
    ("full", "here", "factor"), [(37, 19, 2), (37, 18, 2), (40, 10, 4), (5, 5, 1), (1, 1, 1), (100, 30, 3.0)]
)
def test_factors_of_levels(full: int, here: int, factor: float) -> None:
    assert level_factor(full, here) == pytest.approx(factor, rel=0.12)
    if full // here * here in (full, full - 1, full + 1):
        assert level_factor(full, here) == factor


def test_usual_units_do_not_load_pint() -> None:
    """It takes half a second, for each process that opens an image."""
    code = (
        "import sys; from napari_blockbuster.images.metadata.sizes import voxel_sizes; "
        "voxel_sizes('yx', (9, 9), {'y': 500, 'x': 0.5}, {'y': 'nm', 'x': 'µm'}, 'a'); assert 'pint' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
