"""Synthetic images: the same pixels however they are read."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_blockbuster.images.examples.synthetic import SyntheticNuclei, nuclei_levels, nuclei_pyramid
from napari_blockbuster.models import get_model


@given(st.tuples(st.integers(0, 40), st.integers(0, 60), st.integers(0, 50)), st.integers(1, 30))
def test_a_part_is_cut_from_the_whole(corner: tuple[int, int, int], size: int) -> None:
    image = SyntheticNuclei((70, 90, 80))
    around = tuple(slice(max(c - 9, 0), c + size + 9) for c in corner)
    inside = tuple(slice(c, c + size) for c in corner)
    within = tuple(slice(i.start - a.start, i.stop - a.start) for i, a in zip(inside, around, strict=True))
    np.testing.assert_array_equal(image[inside], image[around][within])


def test_levels_are_lazy_and_alike() -> None:
    levels = nuclei_levels((4096, 4096), chunks=512)
    assert [level.shape[0] for level in levels] == [4096, 2048]
    np.testing.assert_array_equal(levels[0][:200:2, :100:2].compute(), levels[1][:100, :50].compute())
    huge = nuclei_levels((2048, 8192, 7680), pitch=40, chunks=(128, 256, 256))
    assert huge[0].nbytes > 250e9
    assert huge[0][1000, :128, :128].compute().max() > 500
    # Coarse levels leave out little.
    # Napari shows a plane of a level: only its voxels are computed.
    began = time.perf_counter()
    for level in nuclei_pyramid((2048, 8192, 7680), pitch=40):
        n = [min(1000, n) for n in level.shape[1:]]
        assert level[level.shape[0] // 2, : n[0], : n[1]].shape == tuple(n)
    assert time.perf_counter() - began < 6, "1 s on an idle machine; 45 s if whole chunks are computed"
    fine, coarse = SyntheticNuclei((96, 96, 96), 40)[::8, ::8, ::8], SyntheticNuclei((96, 96, 96), 40, 8)[:]
    assert np.mean(np.abs(fine.astype(int) - coarse) > 100) < 0.05


@pytest.mark.parametrize("shape", [(512, 512), (96, 128, 128)])
def test_nuclei_can_be_found(shape: tuple[int, ...]) -> None:
    from napari_blockbuster.images import open_image

    pixels = SyntheticNuclei(shape)[tuple(slice(None) for _ in shape)]
    model = get_model("voronoi-otsu", diameter=16).prepare(open_image(pixels))
    expected = np.prod([n / 24 for n in shape])
    assert 0.85 * expected < model.load()(pixels).max() < 1.25 * expected
