"""The real StarDist: its loader, network, suppression, drawing and 3D, with the small networks and no download."""

from __future__ import annotations

import hashlib
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_data import Annotated, ArraySource, drawn, f1, ids, matches, real, tiled

pytest.importorskip("stardist")
tf = pytest.importorskip("tensorflow")

from small_stardist import FLAT, VOLUME  # noqa: E402
from small_stardist.family import SmallStarDist, loads  # noqa: E402

from napari_blockbuster import segment  # noqa: E402
from napari_blockbuster.models.stardist import weights  # noqa: E402
from napari_blockbuster.models.stardist.model import StarDist  # noqa: E402
from napari_blockbuster.models.stardist.network import read_network  # noqa: E402


def prepared(image: Annotated, **settings: Any) -> SmallStarDist:
    settings.setdefault("diameter", image.diameter)
    return SmallStarDist(**settings).prepare(ArraySource(image.pixels, image.spacing))


def ap50(labels: np.ndarray, truth: np.ndarray) -> float:
    """Average precision as StarDist counts it: true positives over all that is found or missed."""
    found = len(matches(labels, truth)[0])
    return found / (len(ids(labels)) + len(ids(truth)) - found)


def test_names_are_those_of_the_stardist_that_is_installed() -> None:
    from csbdeep.models.pretrained import get_registered_models

    models = weights.import_stardist()
    registered = [name for cls in (models.StarDist2D, models.StarDist3D) for name in get_registered_models(cls, False)]
    assert set(weights.BUILT_IN) <= set(registered)
    assert set(weights.DEFAULTS.values()) <= set(weights.BUILT_IN)


@pytest.mark.parametrize("folder", [FLAT, VOLUME])
def test_geometry_is_that_of_the_network(folder: Path) -> None:
    """What is read from the configuration, against what StarDist itself says and measures."""
    network = read_network(folder / "config.json")
    models = weights.import_stardist()
    cls = models.StarDist2D if network.ndim == 2 else models.StarDist3D
    model = cls(None, name=folder.name, basedir=str(folder.parent))
    assert network.divisor == tuple(model._axes_div_by("ZYX"[-network.ndim :]))
    measured = [max(side) for side in model._compute_receptive_field()]
    assert all(m <= r for m, r in zip(measured, network.reach, strict=True))
    # Not much farther, either: a halo has its price.
    assert all(r <= 1.7 * m + 8 for m, r in zip(measured, network.reach, strict=True))


def test_the_small_network_finds_real_nuclei() -> None:
    image = real("dsb")
    labels = prepared(image).load()(image.pixels)
    assert labels.shape == image.pixels.shape
    assert labels.dtype.kind in "iu"
    assert ap50(labels, image.truth) >= 0.7
    for folder in (FLAT, VOLUME):
        assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000


@pytest.fixture(scope="module")
def colored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network for three channels: it looks at the second one."""
    models = weights.import_stardist()
    folder = tmp_path_factory.mktemp("networks") / "colors"
    shutil.copytree(FLAT, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"n_channel_in": 3, "net_input_shape": [None, None, 3]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "weights_best.h5").unlink()
    small = models.StarDist2D(None, name=FLAT.name, basedir=str(FLAT.parent))
    made = models.StarDist2D(None, name=folder.name, basedir=str(folder.parent))
    for old, new in zip(small.keras_model.layers, made.keras_model.layers, strict=True):
        kept = old.get_weights()
        if kept and kept[0].shape != new.get_weights()[0].shape:
            kernel = np.zeros_like(new.get_weights()[0])
            kernel[:, :, 1:2] = kept[0]
            kept[0] = kernel
        new.set_weights(kept)
    made.keras_model.save_weights(str(folder / "weights_best.h5"))
    return folder


def test_a_network_for_colors_gets_three_channels(colored: Path, tmp_path: Path) -> None:
    image = real("dsb")
    pixels = image.pixels[:256, :256]
    colors = np.stack([pixels[::-1], pixels, pixels * 0], -1)
    model = SmallStarDist(weights=str(colored), diameter=image.diameter)
    assert model.channel_range() == (3, 3)
    ready = model.prepare(ArraySource(colors, n_channels=3))
    # Colors are measured together.
    assert len(set(ready.ranges)) == 1
    same = {"low": ready.low, "high": ready.high, "diameter": image.diameter}
    expected = SmallStarDist(**same).prepare(ArraySource(pixels)).load()(pixels)
    np.testing.assert_array_equal(ready.load()(colors), expected)
    scaled = ready.model_copy(update={"scale": 0.8}).load()(colors)
    assert f1(scaled, expected) > 0.6
    # An image of three channels leaves no choice.
    result = segment(colors, model, tmp_path / "out.zarr", axes="yxc", tile_shape=128, progress=False)
    assert f1(np.asarray(result.labels), expected) >= 0.97
    with pytest.raises(ValueError, match="1 channel was chosen, but the model 'stardist' takes exactly 3 channels"):
        segment(colors, model, tmp_path / "no.zarr", axes="yxc", channel=1, progress=False)


def test_one_plane_is_2d(tmp_path: Path) -> None:
    image = real("dsb")
    pixels = image.pixels[:256, :256]
    model = SmallStarDist(diameter=image.diameter)
    expected = prepared(image._replace(pixels=pixels)).load()(pixels)
    result = segment(pixels[None], model, tmp_path / "plane.zarr", progress=False)
    np.testing.assert_array_equal(np.asarray(result.labels)[0] > 0, expected > 0)


def test_tiled_equals_untiled() -> None:
    image = real("dsb")
    model = prepared(image)
    run = model.load()
    whole = run(image.pixels)
    halo = model.suggest(ArraySource(image.pixels)).halo
    parts = tiled(run, image.pixels, (256, 256), halo)
    assert f1(parts, whole) >= 0.99
    assert abs(f1(parts, image.truth) - f1(whole, image.truth)) <= 0.01


def test_on_a_cluster_each_worker_loads_once(client: Any, tmp_path: Path) -> None:
    image = real("dsb")
    before = client.run(loads)
    result = segment(
        image.pixels,
        SmallStarDist(diameter=image.diameter),
        tmp_path / "labels.ome.zarr",
        tile_shape=(128, 128),
        client=client,
        progress=False,
    )
    after = client.run(loads)
    assert not result.failed_tiles
    assert len(after) == 2
    assert all(after[worker] - before[worker] == 1 for worker in after)
    labels = np.asarray(result.labels)
    whole = prepared(image).load()(image.pixels)
    assert f1(labels, whole) >= 0.98
    assert ap50(labels, image.truth) >= 0.7
    assert abs(f1(labels, image.truth) - f1(whole, image.truth)) <= 0.01
    assert result.provenance["prepared"]["sha256"] == prepared(image).sha256


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64", "bool"])
def test_the_tile_is_left_as_it_is(dtype: str) -> None:
    image = drawn((96, 130), 20, 0.3, 31)
    pixels = (image.pixels > 300) if dtype == "bool" else (image.pixels / 16).astype(dtype)
    before = pixels.copy()
    pixels.flags.writeable = False
    run = prepared(image._replace(pixels=pixels)).load()
    first = run(pixels)
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(run(pixels), first)


def test_models_with_different_settings_do_not_leak_into_each_other() -> None:
    image = drawn((160, 160), 22, 0.35, 32)
    stack = drawn((16, 64, 64), 13, 0.2, 35, (2.0, 1.0, 1.0))
    jobs = [
        (prepared(image), image),
        (prepared(image, prob_threshold=0.6, scale=0.7), image),
        (prepared(stack, weights=str(VOLUME)), stack),
    ]
    runs = [(model.load(), picture.pixels) for model, picture in jobs]
    alone = [run(pixels) for run, pixels in runs]
    assert all(len(ids(labels)) > 3 for labels in alone)
    assert not np.array_equal(alone[0], alone[1])
    results: dict[int, list[np.ndarray]] = {i: [] for i in range(len(runs))}

    def repeat(which: int) -> None:
        run, pixels = runs[which]
        results[which] += [run(pixels) for _ in range(3)]

    threads = [threading.Thread(target=repeat, args=(i,)) for i in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for which, labels in results.items():
        assert len(labels) == 3
        for found in labels:
            np.testing.assert_array_equal(found, alone[which])


def test_a_tile_of_noise_beside_objects_stays_empty() -> None:
    image = drawn((128, 256), 22, 0.3, 33)
    rng = np.random.default_rng(0)
    pixels = image.pixels.copy()
    pixels[:, 128:] = rng.normal(100, 5, (128, 128))
    run = prepared(image._replace(pixels=pixels)).load()
    assert len(ids(run(pixels[:, :120]))) > 3
    assert len(ids(run(pixels[:, 140:]))) == 0


def test_objects_at_a_tiles_border_are_kept() -> None:
    """StarDist leaves out candidates near an image's border; a tile's border is none."""
    image = drawn((192, 192), 22, 0.35, 41)
    run = prepared(image).load()
    alone = run._stardist.predict_instances  # type: ignore[attr-defined]
    found, as_stardist = [], []
    for start in range(20, 120, 4):
        tile = image.pixels[start:, :]
        found.append(np.count_nonzero(run(tile)[0]))
        scaled = run._settings.scaled(tile)  # type: ignore[attr-defined]
        as_stardist.append(np.count_nonzero(alone(scaled)[0][0]))
    assert sum(found) > sum(as_stardist)
    truth = sum(np.count_nonzero(image.truth[start]) for start in range(20, 120, 4))
    assert sum(found) >= 0.6 * truth


# -------------------------------------------------------------------------------------------------------------- stacks
def test_stacks_and_their_anisotropy() -> None:
    image = real("small3d")
    model = prepared(image, weights=str(VOLUME))
    labels = model.load()(image.pixels)
    assert f1(labels, image.truth, forgive_cut=True) >= 0.58
    # The same objects with cubic voxels: the network is for steps of 2 in z, so z is halved for it.
    cubic = drawn((40, 72, 72), 14, 0.15, 36)
    labels = prepared(cubic, weights=str(VOLUME)).load()(cubic.pixels)
    assert labels.shape == cubic.pixels.shape
    good = f1(labels, cubic.truth)
    wrong = prepared(cubic, weights=str(VOLUME), spacing=(2, 1, 1)).load()(cubic.pixels)
    assert good >= 0.8
    assert good > f1(wrong, cubic.truth)


def test_tiled_equals_untiled_in_3d() -> None:
    image = drawn((32, 128, 96), 14, 0.15, 37, (2.0, 1.0, 1.0))
    model = prepared(image, weights=str(VOLUME))
    run = model.load()
    whole = run(image.pixels)
    halo = model.suggest(ArraySource(image.pixels, image.spacing)).halo
    parts = tiled(run, image.pixels, (32, 64, 48), halo)
    assert f1(parts, whole) >= 0.98
    assert abs(f1(parts, image.truth) - f1(whole, image.truth)) <= 0.01


def test_scale() -> None:
    image = drawn((400, 400), 60, 0.3, 42)
    large = prepared(image).load()(image.pixels)
    halved = prepared(image, scale=0.4).load()(image.pixels)
    assert halved.shape == image.pixels.shape
    assert f1(halved, image.truth) >= 0.85
    assert f1(halved, image.truth) > f1(large, image.truth)


@pytest.mark.parametrize("shape", [(1, 90), (90, 1), (3, 200), (1, 1), (9, 1, 40)])
def test_slivers_at_the_end_of_an_image(shape: tuple[int, ...]) -> None:
    image = drawn((200,) * len(shape) if len(shape) == 2 else (16, 48, 48), 14, 0.2, 38)
    run = prepared(image, weights=str(FLAT if len(shape) == 2 else VOLUME), spacing=None).load()
    tile = image.pixels[tuple(map(slice, shape))]
    assert run(tile).shape == tile.shape


def test_missing_pixels_and_blank_images() -> None:
    image = drawn((80, 80), 20, 0.3, 39)
    pixels = image.pixels.astype(np.float32)
    pixels[:12] = np.nan
    pixels[-1] = np.inf
    labels = prepared(image._replace(pixels=pixels)).load()(pixels)
    assert len(ids(labels)) > 2
    assert not labels[:4].any()
    blank = np.full((64, 64), 7, np.uint8)
    model = SmallStarDist().prepare(ArraySource(blank))
    assert (model.low, model.high) == (7, 8)
    assert not model.load()(blank).any()


def test_the_users_folder_is_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    shutil.copytree(FLAT, folder)
    before = {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.iterdir()}
    image = drawn((96, 96), 20, 0.3, 34)
    prepared(image, weights=str(folder)).load()(image.pixels)
    assert {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.iterdir()} == before


# -------------------------------------------------------------------------------------------------------------- memory
def test_tiles_are_cut_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    image = drawn((640, 384), 22, 0.3, 40)
    run = prepared(image).load()
    whole = run(image.pixels)
    network = run._stardist.keras_model  # type: ignore[attr-defined]
    predict, limit, sizes = network.predict, [400 * 400], []

    def limited(x: np.ndarray, **how: Any) -> Any:
        sizes.append(x[0].size)
        if x[0].size > limit[0]:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        return predict(x, **how)

    monkeypatch.setattr(network, "predict", limited)
    run._stardist._axes_tile_overlap("YX")  # type: ignore[attr-defined]
    assert f1(run(image.pixels), whole) >= 0.99
    assert max(sizes) > limit[0]
    sizes.clear()
    run(image.pixels)
    # What fits is remembered.
    assert max(sizes) <= limit[0]
    limit[0] = 0
    with pytest.raises(MemoryError, match=r"also in 64 pieces .*Use smaller tiles \(tile_shape\)"):
        run(image.pixels)


def test_other_errors_are_not_taken_for_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    image = drawn((64, 64), 20, 0.3, 34)
    run = prepared(image).load()

    def broken(x: np.ndarray, **how: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(run._stardist.keras_model, "predict", broken)  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(image.pixels)


# ------------------------------------------------------------------------------------------------------------ download
class Handler(http.server.BaseHTTPRequestHandler):
    """One archive; everything else is not there."""

    asked: list[str]
    content: bytes

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path != "/small.zip":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a server that has the small network as StarDist's servers would; Keras keeps downloads in a new folder."""
    from keras.src.utils import file_utils

    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    # Keras has read the variable when it was imported.
    monkeypatch.setattr(file_utils.config, "keras_home", lambda: str(tmp_path / "keras"))
    Handler.asked = []
    Handler.content = Path(shutil.make_archive(str(tmp_path / "small"), "zip", FLAT)).read_bytes()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}/"
        running.shutdown()


def register(monkeypatch: pytest.MonkeyPatch, name: str, url: str, content: bytes) -> None:
    """As users register networks of their own."""
    from csbdeep.models import pretrained

    known = pretrained._MODELS[weights.import_stardist().StarDist2D]
    monkeypatch.setitem(known, name, {"url": url, "hash": hashlib.sha256(content).hexdigest()})


@pytest.mark.parametrize("name", ["2D_demo", "of-our-lab"])
def test_a_download_happens_once_and_before_the_run(server: str, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    register(monkeypatch, name, server + "small.zip", Handler.content)
    image = drawn((96, 96), 20, 0.3, 34)
    for _ in range(2):
        model = StarDist(weights=name).prepare(ArraySource(image.pixels))
        assert Handler.asked == ["/small.zip"]
    # A name that StarDist itself registers stays; another one is known to this process only.
    assert model.weights is not None
    assert (model.weights == name) == (name in weights.BUILT_IN)
    np.testing.assert_array_equal(model.load()(image.pixels), prepared(image).load()(image.pixels))
    assert Handler.asked == ["/small.zip"]


@pytest.mark.parametrize("wrong", ["address", "content"])
def test_a_failed_download_says_what_to_do(
    server: str, monkeypatch: pytest.MonkeyPatch, wrong: str, tmp_path: Path
) -> None:
    url = server + ("none.zip" if wrong == "address" else "small.zip")
    register(monkeypatch, "2D_demo", url, b"others" if wrong == "content" else Handler.content)
    with pytest.raises(OSError, match=r"'2D_demo' could not be downloaded from http.*Unpack that archive into .*keras"):
        StarDist(weights="2D_demo").prepare(ArraySource(np.zeros((64, 64), np.uint8)))
    assert not list((tmp_path / "keras").rglob("config.json"))


def test_unknown_names_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"no network '2D_versatile_flou' \(did you mean '2D_versatile_fluo'\?\)"):
        StarDist(weights="2D_versatile_flou").prepare(ArraySource(np.zeros((64, 64), np.uint8)))
