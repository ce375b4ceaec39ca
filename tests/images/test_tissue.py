"""The tissue of stained slides and of fluorescence, and a run that segments only there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from command_line import mistake, numbers, run
from scipy import ndimage

from napari_blockbuster import segment, tissue_mask
from napari_blockbuster.images import open_image


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    """Two pieces of tissue with a hole in one of them, and a speck."""
    y, x = np.indices((600, 800))
    tissue = ((y - 250) / 180) ** 2 + ((x - 280) / 220) ** 2 < 1
    tissue |= (y - 420) ** 2 + (x - 660) ** 2 < 90**2
    tissue[240:250, 270:280] = False
    return tissue


@pytest.fixture(scope="module")
def slide(truth: np.ndarray) -> np.ndarray:
    """Pink tissue with purple nuclei on a bright, uneven background with specks of dust."""
    rng = np.random.default_rng(0)
    image = np.full((*truth.shape, 3), 238.0) - np.linspace(0, 14, truth.shape[1])[None, :, None]
    nuclei = ndimage.gaussian_filter(rng.standard_normal(truth.shape), 3) > 0.07
    image[truth] = (222, 160, 190)
    image[truth & nuclei] = (120, 80, 150)
    image[20:24, 20:24] = 40
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def fluorescence(truth: np.ndarray) -> np.ndarray:
    """Nuclei of very different brightness in tissue that is hardly brighter than the background."""
    rng = np.random.default_rng(1)
    image = 100 + 60 * truth + rng.poisson(20, truth.shape)
    nuclei = ndimage.gaussian_filter(rng.standard_normal(truth.shape), 3)
    image = image + truth * np.clip(nuclei - 0.07, 0, None) * 40_000
    return image.clip(0, 65535).astype(np.uint16)


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    filled = ndimage.binary_fill_holes(truth)
    there = np.repeat(np.repeat(mask, truth.shape[0] // mask.shape[0], 0), truth.shape[1] // mask.shape[1], 1)
    return float((there & filled).sum() / (there | filled).sum())


@pytest.mark.parametrize("method", ["otsu", "triangle"])
def test_tissue_is_found_on_slides_and_in_fluorescence(
    truth: np.ndarray, slide: np.ndarray, fluorescence: np.ndarray, method: str
) -> None:
    for image in (slide, fluorescence):
        mask = tissue_mask(image, method=method)
        assert mask.shape == truth.shape
        assert overlap(mask, truth) > 0.9
        # The hole is filled, and the speck is gone.
        assert mask[245, 275]
        assert not mask[15:30, 15:30].any()
        assert ndimage.label(mask)[1] == 2


def test_large_images_are_averaged_and_levels_are_used(
    truth: np.ndarray, fluorescence: np.ndarray, tmp_path: Path
) -> None:
    from napari_blockbuster.images.content.tissue import coarse_pixels

    coarse = coarse_pixels(open_image(fluorescence), most=40_000)
    assert coarse.shape == (150, 200)
    np.testing.assert_allclose(coarse[10, 20], fluorescence[40:44, 80:84].mean(), rtol=1e-5)
    group = zarr.create_group(str(tmp_path / "image.zarr"), zarr_format=2)
    names = [{"name": name, "type": "space"} for name in "yx"]
    levels = [{"path": str(k), "coordinateTransformations": [{"type": "scale", "scale": [4.0**k] * 2}]} for k in (0, 1)]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": names, "datasets": levels}]
    group.create_array("0", data=fluorescence, chunks=(200, 200))
    group.create_array("1", data=fluorescence[::4, ::4], chunks=(200, 200))
    mask = tissue_mask(tmp_path / "image.zarr", level=1)
    assert mask.shape == (150, 200)
    assert overlap(mask, truth) > 0.85


def test_nothing_is_no_tissue_and_wrong_arguments_are_refused() -> None:
    assert not tissue_mask(np.full((40, 50), 9, np.uint8)).any()
    with pytest.raises(ValueError, match="otsu, triangle"):
        tissue_mask(np.zeros((9, 9)), method="mean")
    for smoothing in (-1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"smoothing is {smoothing}"):
            tissue_mask(np.zeros((9, 9)), smoothing=smoothing)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_pixels_that_are_no_numbers_are_no_tissue(truth: np.ndarray, fluorescence: np.ndarray, value: float) -> None:
    pixels = fluorescence.astype(np.float32)
    pixels[20:25, 300:306] = value
    mask = tissue_mask(pixels)
    assert overlap(mask, truth) > 0.9
    assert not mask[20:25, 300:306].any()


def test_the_mask_of_a_command_is_a_region_of_interest(
    truth: np.ndarray, fluorescence: np.ndarray, tmp_path: Path
) -> None:
    image, mask = tmp_path / "image.tif", tmp_path / "image.tissue.ome.zarr"
    tifffile.imwrite(image, fluorescence, tile=(128, 128), metadata={"axes": "YX"})
    said = numbers(run("tissue", image, "--smoothing", 3).stdout)
    assert said["output"] == str(mask)
    assert said["tissue"].startswith("3")
    assert open_image(mask).shape == truth.shape
    assert "exists" in mistake("tissue", image)
    result = segment(image, "threshold", tmp_path / "labels.zarr", tile_shape=100, halo=10, where=mask, progress=False)
    inside = truth.reshape(6, 100, 8, 100).any(axis=(1, 3))
    assert abs(48 - result.n_skipped - inside.sum()) <= 2
    assert result.n_objects > 10
