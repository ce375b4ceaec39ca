"""The plan of a pyramid ends for every voxel size that a file may state."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from jobs import components

from napari_blockbuster import segment
from napari_blockbuster.output.ngff import plan_levels

LENGTHS = st.one_of(st.floats(), st.sampled_from([0.0, -1.0, math.nan, math.inf, -math.inf, 5e-324, 1.7e308, 1e-300]))
AXES = st.lists(st.tuples(st.integers(1, 10**7), LENGTHS), min_size=1, max_size=4)


@given(axes=AXES, time=st.booleans(), n_levels=st.one_of(st.none(), st.integers(1, 40)))
def test_a_plan_ends(axes: list[tuple[int, float]], time: bool, n_levels: int | None) -> None:
    shape, scale = zip(*axes, strict=True)
    separate = 1 if time and len(shape) > 1 else 0
    levels = plan_levels(shape, scale, separate, n_levels)
    # Each level halves at least one axis, and none has more than 24 halvings in it.
    assert len(levels) <= 1 + 24 * len(shape)
    for before, after in itertools.pairwise(levels):
        assert math.prod(after.shape) < math.prod(before.shape)
        assert after.shape[:separate] == shape[:separate]
    if n_levels is None:
        assert max(levels[-1].shape[separate:]) <= 256


def test_a_known_voxel_size_still_decides() -> None:
    """A stack of thin voxels: x and y are halved until voxels are about isotropic."""
    levels = plan_levels((64, 1024, 1024), (4.0, 1.0, 1.0), 0)
    assert [level.factors for level in levels] == [(1, 1, 1), (1, 2, 2), (1, 4, 4)]
    flipped = plan_levels((64, 1024, 1024), (4.0, -1.0, -1.0), 0)
    assert flipped == levels


@pytest.mark.parametrize("scale", [[0.5, -0.5], [0, 1], ["NaN", 1], ["Infinity", 1], [1e308, 1e308], [None, "a"]])
def test_an_image_with_any_scale_is_segmented(scale: list[object], tmp_path: Path) -> None:
    """From the file to the result, whose metadata every reader of JSON takes."""
    pixels = np.zeros((300, 600), np.uint16)
    pixels[20:40, 30:60] = 900
    axes = [{"name": name, "type": "space", "unit": " "} for name in "yx"]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}]
    group = zarr.create_group(
        str(tmp_path / "i.ome.zarr"),
        zarr_format=2,
        attributes={"multiscales": [{"version": "0.4", "axes": axes, "datasets": datasets}]},
    )
    group.create_array("0", data=pixels, chunks=(128, 128))
    output = tmp_path / "o.ome.zarr"
    result = segment(tmp_path / "i.ome.zarr", components, output, tile_shape=128, halo=8, progress=False)
    assert result.n_objects == 1
    written = json.loads((output / "zarr.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    transforms = [
        d["coordinateTransformations"][0]["scale"] for d in written["attributes"]["ome"]["multiscales"][0]["datasets"]
    ]
    assert len(transforms) > 1
    assert np.isfinite(transforms[0]).all()
    assert np.all(transforms[0])
