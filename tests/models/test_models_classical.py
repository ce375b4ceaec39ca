"""What the models without weights promise: same scale for all tiles, input untouched, anisotropy, clear refusals."""

from __future__ import annotations

import numpy as np
import pytest
from model_data import Annotated, ArraySource, drawn, f1, ids, real, segment, tiled, uneven
from scipy import ndimage

from napari_blockbuster.models import Model, get_model
from napari_blockbuster.models.classical.filters import difference_of_gaussians, smooth, smooth_at

CLASSICAL = ["voronoi-otsu", "dog-watershed", "distance-watershed", "threshold"]
BLOBS = CLASSICAL[:3]


def make(name: str, diameter: float = 16, **settings: object) -> Model:
    return get_model(name, **settings) if name == "threshold" else get_model(name, diameter=diameter, **settings)


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64, ">u2"])
def test_input_is_untouched_and_labels_fit(name: str, dtype: object) -> None:
    pixels = np.clip(drawn((96, 96), 16, 0.3, 1).pixels / 5, 0, 255).astype(dtype)
    before = pixels.copy()
    pixels.flags.writeable = False
    segmenter = make(name).prepare(ArraySource(pixels)).load()
    labels = segmenter(pixels)
    np.testing.assert_array_equal(pixels, before)
    assert labels.shape == pixels.shape
    assert labels.dtype == np.int32
    assert labels.min() == 0 < labels.max()
    np.testing.assert_array_equal(segmenter(pixels), labels)


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("shape", [(200,), (96, 96), (24, 40, 40)])
def test_any_rank(name: str, shape: tuple[int, ...]) -> None:
    image = drawn(shape, 12, 0.25, 2)
    labels = segment(make(name, 12), image)
    assert labels.shape == shape
    assert len(ids(labels)) > 0


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize(
    "pixels", [np.zeros((40, 40), np.uint16), np.full((40, 40), 7.0), np.full((40, 40), np.nan)], ids=["0", "7", "nan"]
)
def test_blank_images_have_no_objects(name: str, pixels: np.ndarray) -> None:
    labels = make(name).prepare(ArraySource(pixels)).load()(pixels)
    assert not labels.any()


@pytest.mark.parametrize("name", CLASSICAL)
def test_blank_tile_of_an_image_with_objects(name: str) -> None:
    image = drawn((96, 96), 16, 0.3, 1)
    segmenter = make(name).prepare(ArraySource(image.pixels)).load()
    assert not segmenter(np.full((50, 50), int(image.pixels.min()), np.uint16)).any()


@pytest.mark.parametrize("name", BLOBS)
def test_camera_offset_and_gain_change_nothing(name: str) -> None:
    image = drawn((128, 128), 16, 0.3, 3)
    brighter = image._replace(pixels=image.pixels * 7.5 - 4000.0)
    smaller = image._replace(pixels=((image.pixels - 50.0) / 4000).astype(np.float32))
    labels = segment(make(name), image)
    assert f1(segment(make(name), brighter), labels, 0.9) >= 0.98
    assert f1(segment(make(name), smaller), labels, 0.9) >= 0.98


@pytest.mark.parametrize("name", ["voronoi-otsu", "dog-watershed"])
def test_nan_and_infinity_stay_where_they_are(name: str) -> None:
    image = drawn((128, 128), 16, 0.3, 3)
    damaged = image.pixels.astype(np.float32)
    damaged[5, 5], damaged[5, 9] = np.nan, np.inf
    model = make(name).prepare(ArraySource(image.pixels))
    labels, whole = model.load()(damaged), model.load()(image.pixels)
    assert f1(labels[40:], whole[40:], 0.9) == 1


@pytest.mark.parametrize("name", BLOBS)
def test_anisotropic_equals_isotropic_rescaled(name: str) -> None:
    # Every second plane of an isotropic volume, with the spacing that says so, shows the same objects.
    image = drawn((64, 72, 72), 16, 0.2, 4)
    thin = Annotated(image.pixels[::2], image.truth[::2], 16, (2.0, 1.0, 1.0))
    whole = segment(make(name), image)[::2]
    assert f1(segment(make(name), thin), whole) >= 0.9


def test_spacing_in_micrometres_is_taken_relative_to_the_finest_axis() -> None:
    pixels = drawn((16, 40, 40), 10, 0.2, 5).pixels
    model = make("voronoi-otsu", 10).prepare(ArraySource(pixels, (0.5, 0.25, 0.25)))
    assert model.spacing == (2, 1, 1)
    assert model.suggest(ArraySource(pixels, (0.5, 0.25, 0.25))).halo == (10, 20, 20)
    own = make("voronoi-otsu", 10, spacing=(4, 1, 1)).prepare(ArraySource(pixels))
    assert own.spacing == (4, 1, 1)


@pytest.mark.parametrize("name", CLASSICAL)
def test_prepare_keeps_what_the_user_gave(name: str) -> None:
    pixels = drawn((96, 96), 16, 0.3, 1).pixels
    given = {"contrast": 0.1, "low": 90.0} if name == "dog-watershed" else {"threshold": 222.0}
    prepared = make(name, **given).prepare(ArraySource(pixels))
    assert {k: getattr(prepared, k) for k in given} == given
    assert None not in prepared.model_dump().values()
    assert prepared.prepare(ArraySource(pixels * 3)) == prepared


@pytest.mark.parametrize("name", CLASSICAL)
def test_thresholds_hardly_depend_on_how_the_image_is_sampled(name: str) -> None:
    pixels = drawn((128, 128), 16, 0.3, 6).pixels
    key = "contrast" if name == "dog-watershed" else "threshold"
    one, many = (getattr(make(name).prepare(ArraySource(pixels, blocks=n)), key) for n in (1, 4))
    assert many == pytest.approx(one, rel=0.1)


@pytest.mark.parametrize("name", CLASSICAL)
def test_unprepared_models_and_wrong_ranks_are_refused(name: str) -> None:
    with pytest.raises(RuntimeError, match=r"not prepared.*model\.prepare\(image\)"):
        make(name).load()
    pixels = drawn((96, 96), 16, 0.3, 1).pixels
    segmenter = make(name).prepare(ArraySource(pixels)).load()
    with pytest.raises(ValueError, match=r"2 axes.*\(4, 4, 4\)"):
        segmenter(np.zeros((4, 4, 4)))
    with pytest.raises(ValueError, match="spacing has 3 numbers"):
        make(name, spacing=(2, 1, 1)).prepare(ArraySource(pixels))


def test_threshold_is_exactly_connected_components() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 1000, (12, 20, 20)).astype(np.uint16)
    for connectivity in (1, 2, 3):
        model = get_model("threshold", threshold=700, sigma=0, connectivity=connectivity).prepare(ArraySource(pixels))
        expected = ndimage.label(pixels > 700, ndimage.generate_binary_structure(3, connectivity))[0]
        np.testing.assert_array_equal(model.load()(pixels), expected)


def test_every_object_is_connected() -> None:
    image = real("dsb")
    for name in ("voronoi-otsu", "dog-watershed"):
        labels = segment(make(name, image.diameter), image)
        boxes = ndimage.find_objects(labels)
        parts = [ndimage.label(labels[box] == i + 1, np.ones((3, 3)))[1] for i, box in enumerate(boxes) if box]
        assert max(parts) == 1


def test_outline_cuts_the_glow_of_bright_objects() -> None:
    y, x = np.mgrid[:80, :160]
    discs = 4000.0 * ((y - 40) ** 2 + (x - 40) ** 2 < 144) + 300.0 * ((y - 40) ** 2 + (x - 110) ** 2 < 144)
    pixels = ndimage.gaussian_filter(discs, 2) + 100
    model = get_model("voronoi-otsu", diameter=24, threshold=180)
    areas = {}
    for outline in (0, 0.5):
        labels = segment(model.model_copy(update={"outline": outline}), Annotated(pixels, pixels, 24, (1, 1)))
        areas[outline] = (labels == labels[40, 40]).sum()
    assert areas[0] > 1.4 * np.pi * 144
    assert areas[0.5] == pytest.approx(np.pi * 144, rel=0.12)


@pytest.mark.parametrize("sigma", [0.7, 2.9, 3.1, 5.5, 12.0])
def test_smoothing_has_the_width_it_says_and_no_more_reach(sigma: float) -> None:
    point = np.zeros(301, np.float32)
    point[150] = 1
    spread = smooth(point, [sigma]).astype(float)
    place = np.arange(301) - 150
    assert spread.sum() == pytest.approx(1, abs=1e-4)
    assert np.sqrt((spread * place**2).sum()) == pytest.approx(sigma, rel=0.05)
    assert np.abs(place[spread > 1e-9]).max() <= np.ceil(3 * sigma + 2)


def test_difference_of_gaussians_is_highest_on_blobs_of_four_sigma() -> None:
    heights = []
    for radius in (4, 6, 8, 12, 16, 24):
        y, x = np.mgrid[:129, :129] - 64
        heights.append(difference_of_gaussians((x**2 + y**2 <= radius**2).astype(float), [6, 6])[64, 64])
    assert np.argmax(heights) in (2, 3)


@pytest.mark.parametrize("name", BLOBS)
def test_tiles_agree_with_the_whole_image(name: str) -> None:
    image = real("dsb")
    model = make(name, image.diameter).prepare(ArraySource(image.pixels))
    whole = model.load()(image.pixels)
    parts = tiled(model.load(), image.pixels, (128, 128), model.suggest(ArraySource(image.pixels)).halo)
    assert f1(parts, whole, 0.5) >= 0.98
    assert f1(parts, whole, 0.95) >= 0.97


def test_tiles_agree_with_the_whole_volume() -> None:
    image = real("cells3d")
    source = ArraySource(image.pixels, image.spacing)
    model = make("voronoi-otsu", image.diameter).prepare(source)
    whole = model.load()(image.pixels)
    # Half the suggested halo: at the whole of it each quarter would see nearly all of this small volume.
    halo = tuple(h // 2 for h in model.suggest(source).halo)
    parts = tiled(model.load(), image.pixels, (60, 128, 128), halo)
    assert f1(parts, whole) >= 0.98
    assert abs(f1(parts, image.truth) - f1(whole, image.truth)) <= 0.01


def test_uneven_light_is_what_the_dog_watershed_is_for() -> None:
    image = uneven(drawn((40, 96, 96), 16, 0.25, 7))
    assert f1(segment(make("dog-watershed"), image), image.truth) >= 0.9
    assert f1(segment(make("voronoi-otsu"), image), image.truth) < 0.7


@pytest.mark.parametrize(("shape", "sigma"), [((50,), (2.0,)), ((50, 60), (1.2, 2.4)), ((12, 30, 30), (0, 2, 2.9))])
def test_smoothing_at_points_is_smoothing_of_the_image_there(shape: tuple[int, ...], sigma: tuple[float, ...]) -> None:
    image = np.random.default_rng(3).random(shape, dtype=np.float32)
    points = np.nonzero(np.random.default_rng(4).random(shape) < 0.1)
    np.testing.assert_allclose(smooth_at(image, points, sigma), smooth(image, sigma)[points], atol=0.002)
    assert len(smooth_at(image, [p[:0] for p in points], sigma)) == 0
