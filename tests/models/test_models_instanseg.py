"""InstanSeg: settings without the extra; with it, its own inference on a small network, and no download."""

from __future__ import annotations

import http.server
import importlib.util
import io
import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_data import Annotated, ArraySource, drawn, f1, ids, matches, real, tiled
from small_instanseg import WEIGHTS
from small_instanseg.family import SmallInstanSeg, loads

from napari_blockbuster import segment
from napari_blockbuster.models import get_model, list_models, model_from_settings
from napari_blockbuster.models.instanseg import weights
from napari_blockbuster.models.instanseg.model import InstanSeg
from napari_blockbuster.models.networks.weights import digest

find_spec = importlib.util.find_spec
needs_extra = pytest.mark.skipif(
    find_spec("instanseg") is None or find_spec("torch") is None, reason="needs the extra instanseg"
)


def prepared(image: Annotated, **settings: Any) -> SmallInstanSeg:
    settings.setdefault("diameter", image.diameter)
    return SmallInstanSeg(**settings).prepare(ArraySource(image.pixels, image.spacing))


def ap50(labels: np.ndarray, truth: np.ndarray) -> float:
    """Average precision: true positives over all that is found or missed."""
    found = len(matches(labels, truth)[0])
    return found / (len(ids(labels)) + len(ids(truth)) - found)


# ------------------------------------------------------------------------------------------------- without the package
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str, package: str | None = None) -> Any:
        return None if name in ("instanseg", "torch") else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    info = list_models()["instanseg"]
    assert not info.usable
    assert info.summary == "needs: pip install 'napari-blockbuster[instanseg]'"
    # A colleague's job can be opened without it.
    model = model_from_settings({"model": "instanseg", "diameter": 22})
    with pytest.raises(ImportError, match=r"needs: pip install 'napari-blockbuster\[instanseg\]'"):
        model.prepare(ArraySource(np.zeros((64, 64), np.uint8)))


def test_torch_is_not_imported_before_its_time() -> None:
    code = (
        "import sys, numpy as np, napari_blockbuster as n; from napari_blockbuster.models import *\n"
        "from model_data import ArraySource\n"
        "list_models(); m = get_model('instanseg'); m.settings(); m.suggest(ArraySource(np.zeros((64, 64))))\n"
        "print(sorted({'torch', 'instanseg'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    assert run.stdout.strip() == "[]"


def test_settings_explain_themselves_and_go_to_json_and_back() -> None:
    for name, field in InstanSeg.model_fields.items():
        assert len(field.description or "") > 15, name
        assert isinstance(field.json_schema_extra, dict)
        assert "advanced" in field.json_schema_extra
    json.dumps(InstanSeg.model_json_schema())
    model = InstanSeg(diameter=17, pixel_size=0.3, low=3.5, high=900, spacing=(1, 1), seed_threshold=0.4, sha256="00")
    assert model_from_settings(json.loads(json.dumps(model.settings()))) == model


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"diameter": 1}, r"^instanseg: diameter is 1. It must be 2 to 2000$"),
        ({"pixel_size": 0}, r"^instanseg: pixel_size is 0. It must be 0 to 100$"),
        ({"target": "all"}, r"target is 'all'. It should be 'nuclei' or 'cells'"),
        ({"low": 5, "high": 5}, r"high is 5.0. It must be above low, which is 5.0"),
        ({"seed_treshold": 0.5}, r"did you mean 'seed_threshold'\?"),
    ],
)
def test_mistakes_are_one_clear_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_model("instanseg", **settings)


class InMicrometres(ArraySource):
    """An image that says how wide its pixels are."""

    units = ("micrometer", "micrometer")


@pytest.mark.parametrize("width", [None, 0.25, 2.0])
def test_suggested_tiles(width: float | None) -> None:
    pixels = np.broadcast_to(np.uint8(0), (9000, 700))
    image = ArraySource(pixels) if width is None else InMicrometres(pixels, (width, width))
    for diameter in (20, 300):
        tile, halo = InstanSeg(diameter=diameter).suggest(image)
        assert tile is not None
        # As far as the network looks, in the image's pixels.
        assert all(h >= max(2 * diameter, 96 * 0.5 / (width or 0.5)) for h in halo)
        assert all(h % 16 == 0 for h in halo)
        assert all(min(h, n) <= t <= n for t, h, n in zip(tile, halo, pixels.shape, strict=True))
        assert all(t % 16 == 0 or t == n for t, n in zip(tile, pixels.shape, strict=True))


# --------------------------------------------------------------------------------------------------- with the package
@needs_extra
def test_networks_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTANSEG_BIOIMAGEIO_PATH", str(tmp_path))
    named = weights.find_network("single_channel_nuclei")
    assert named.parts[-3:-2] == ("single_channel_nuclei",)
    assert named.is_relative_to(tmp_path)
    # All names of the help are InstanSeg's.
    help_text = InstanSeg.model_fields["weights"].description or ""
    assert all(name in weights._index() for name in ("single_channel_nuclei", "fluorescence_nuclei_and_cells"))
    assert all(name in help_text for name in ("single_channel_nuclei", "fluorescence_nuclei_and_cells"))
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "instanseg.pt").write_bytes(WEIGHTS.read_bytes())
    assert weights.find_network("ours") == tmp_path / "ours" / "instanseg.pt"
    monkeypatch.chdir(WEIGHTS.parent)
    assert InstanSeg(weights="instanseg.pt").prepare(ArraySource(np.zeros((64, 64)))).weights == str(WEIGHTS)
    with pytest.raises(ValueError, match=r"no network 'single_chanel_nuclei' \(did you mean 'single_channel_nuclei'\?"):
        weights.obtain_network("single_chanel_nuclei")
    with pytest.raises(FileNotFoundError, match=r"there is no InstanSeg network at .*none\.pt"):
        InstanSeg(weights=str(tmp_path / "none.pt")).prepare(ArraySource(np.zeros((64, 64))))


@needs_extra
def test_the_small_network_finds_real_nuclei() -> None:
    image = real("dsb")
    labels = prepared(image).load()(image.pixels)
    assert labels.shape == image.pixels.shape
    assert labels.dtype.kind in "iu"
    assert ap50(labels, image.truth) >= 0.7
    assert WEIGHTS.stat().st_size < 1_000_000


@needs_extra
def test_tiled_equals_untiled() -> None:
    image = real("dsb")
    model = prepared(image)
    run = model.load()
    whole = run(image.pixels)
    halo = model.suggest(ArraySource(image.pixels)).halo
    parts = tiled(run, image.pixels, (256, 256), halo)
    assert f1(parts, whole) >= 0.98
    assert abs(f1(parts, image.truth) - f1(whole, image.truth)) <= 0.01


@needs_extra
def test_on_a_cluster_each_worker_loads_once(client: Any, tmp_path: Path) -> None:
    image = real("dsb")
    before = client.run(loads)
    result = segment(
        image.pixels,
        SmallInstanSeg(diameter=image.diameter),
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
    assert f1(labels, whole) >= 0.95
    assert abs(f1(labels, image.truth) - f1(whole, image.truth)) <= 0.02
    assert result.provenance["prepared"]["sha256"] == digest([WEIGHTS])


@needs_extra
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


@needs_extra
def test_models_with_different_settings_do_not_leak_into_each_other() -> None:
    image = drawn((300, 300), 22, 0.35, 32)
    jobs = [prepared(image), prepared(image, seed_threshold=0.9, pixel_size=0.6, high=2000)]
    runs = [model.load() for model in jobs]
    alone = [run(image.pixels) for run in runs]
    assert len(ids(alone[0])) > 5
    assert not np.array_equal(alone[0], alone[1])
    results: dict[int, list[np.ndarray]] = {0: [], 1: []}

    def repeat(which: int) -> None:
        results[which] += [runs[which](image.pixels) for _ in range(2)]

    threads = [threading.Thread(target=repeat, args=(i,)) for i in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for which, labels in results.items():
        assert len(labels) == 2
        for found in labels:
            np.testing.assert_array_equal(found, alone[which])


@needs_extra
def test_a_tile_of_noise_beside_objects_stays_empty() -> None:
    image = drawn((128, 256), 22, 0.3, 33)
    rng = np.random.default_rng(0)
    pixels = image.pixels.copy()
    pixels[:, 128:] = rng.normal(100, 5, (128, 128))
    run = prepared(image._replace(pixels=pixels)).load()
    assert len(ids(run(pixels[:, :120]))) > 3
    assert len(ids(run(pixels[:, 140:]))) == 0


@needs_extra
def test_the_size_of_pixels_decides_on_the_scale() -> None:
    image = drawn((500, 500), 60, 0.25, 42)
    # Objects of 60 pixels that are 0.2 micrometres wide are those of 24 pixels of the network.
    source = InMicrometres(image.pixels, (0.2, 0.2))
    model = SmallInstanSeg(diameter=60).prepare(source)
    assert model.pixel_size == 0.2
    good = model.load()(image.pixels)
    assert good.shape == image.pixels.shape
    # Without a unit, pixels are taken for the network's own.
    plain = prepared(image)
    assert plain.pixel_size == 0.5
    assert f1(good, image.truth) >= 0.6
    assert f1(good, image.truth) > f1(plain.load()(image.pixels), image.truth)
    given = SmallInstanSeg(pixel_size=0.3).prepare(source)
    assert given.pixel_size == 0.3


@needs_extra
@pytest.mark.parametrize("shape", [(1, 90), (90, 1), (3, 200), (1, 1), (65, 127)])
def test_slivers_at_the_end_of_an_image(shape: tuple[int, int]) -> None:
    image = drawn((200, 200), 20, 0.3, 37)
    run = prepared(image).load()
    assert run(image.pixels[: shape[0], : shape[1]]).shape == shape


@needs_extra
def test_missing_pixels_and_blank_images() -> None:
    image = drawn((80, 80), 20, 0.3, 39)
    pixels = image.pixels.astype(np.float32)
    pixels[:12] = np.nan
    pixels[-1] = np.inf
    labels = prepared(image._replace(pixels=pixels)).load()(pixels)
    assert len(ids(labels)) > 2
    assert not labels[:4].any()
    blank = np.full((64, 64), 7, np.uint8)
    assert not SmallInstanSeg().prepare(ArraySource(blank)).load()(blank).any()


@needs_extra
def test_lack_of_memory_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    image = drawn((64, 64), 20, 0.3, 34)
    run = prepared(image).load()
    failure = ["CUDA out of memory. Tried to allocate 2 TiB"]

    def broken(*args: Any, **how: Any) -> Any:
        raise RuntimeError(failure[0])

    monkeypatch.setattr(run._instanseg, "eval_small_image", broken)  # type: ignore[attr-defined]
    with pytest.raises(MemoryError, match=r"with a tile of \(64, 64\) pixels .*Use smaller tiles \(tile_shape\)"):
        run(image.pixels)
    failure[0] = "shapes do not match"
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(image.pixels)


@needs_extra
def test_wrong_networks_and_images_are_refused(tmp_path: Path) -> None:
    import torch

    source = ArraySource(np.zeros((64, 64), np.uint8))
    text, other = tmp_path / "text.pt", tmp_path / "other.pt"
    text.write_text("not a network")
    torch.jit.save(torch.jit.script(torch.nn.Conv2d(1, 1, 3)), other)
    for path in (text, other):
        with pytest.raises(ValueError, match=r"is not a network that InstanSeg can read .*Give its instanseg\.pt"):
            InstanSeg(weights=str(path)).prepare(source)

    class Stained(torch.nn.Module):
        """Takes three channels, as networks for stained sections do."""

        def __init__(self) -> None:
            super().__init__()
            self.pixel_size, self.cells_and_nuclei = 0.5, False
            self.layer = torch.nn.Conv2d(3, 1, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x)

    stained = tmp_path / "stained.pt"
    torch.jit.save(torch.jit.trace(Stained(), torch.zeros(1, 3, 32, 32)), stained)
    scripted = torch.jit.load(stained)
    if hasattr(scripted, "pixel_size"):
        with pytest.raises(ValueError, match="cannot be used with 1 channel"):
            InstanSeg(weights=str(stained)).prepare(source)
    with pytest.raises(ValueError, match=r"needs images of 2 spatial axes\. This one has 3"):
        SmallInstanSeg().prepare(ArraySource(np.zeros((8, 64, 64), np.uint8)))
    with pytest.raises(ValueError, match="are not those of this run"):
        SmallInstanSeg(sha256="00").prepare(source)
    with pytest.raises(RuntimeError, match="is not prepared: spacing, low, high, sha256, pixel_size"):
        SmallInstanSeg().load()


# ------------------------------------------------------------------------------------------------------------ download
class Handler(http.server.BaseHTTPRequestHandler):
    """Archives by name; everything else is not there."""

    asked: list[str]
    files: dict[str, bytes]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path not in self.files:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.files[self.path])))
        self.end_headers()
        self.wfile.write(self.files[self.path])

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def archive(**files: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return content.getvalue()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of networks, empty; and a server on this machine in the place of InstanSeg's."""
    Handler.asked = []
    Handler.files = {
        "/nuclei.zip": archive(**{"instanseg.pt": WEIGHTS.read_bytes(), "rdf.yaml": b"name: small"}),
        "/empty.zip": archive(readme=b"nothing"),
        "/text.zip": b"not an archive",
    }
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INSTANSEG_BIOIMAGEIO_PATH", str(tmp_path / "networks"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{running.server_address[1]}/"
        names = ("nuclei", "empty", "text", "none")
        index = {name: {"name": name, "url": f"{url}{name}.zip", "version": "1"} for name in names}
        monkeypatch.setattr(weights, "_index", lambda: index)
        yield tmp_path / "networks"
        running.shutdown()


@needs_extra
def test_a_download_happens_once_and_before_the_run(server: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = drawn((96, 96), 20, 0.3, 34)
    waiting = InstanSeg(weights="nuclei", spacing=(1, 1), low=0, high=1, sha256="00", pixel_size=0.5)
    with pytest.raises(FileNotFoundError, match=r"'nuclei' is not on this worker's machine .*do not download"):
        waiting.load()
    assert Handler.asked == []
    for _ in range(2):
        model = InstanSeg(weights="nuclei").prepare(ArraySource(image.pixels))
        assert Handler.asked == ["/nuclei.zip"]
    assert "network nuclei" in capsys.readouterr().err
    assert sorted(path.name for path in (server / "nuclei" / "1").iterdir()) == ["instanseg.pt", "rdf.yaml"]
    np.testing.assert_array_equal(model.load()(image.pixels), prepared(image).load()(image.pixels))


@needs_extra
@pytest.mark.parametrize(
    ("name", "reason"), [("none", "404"), ("empty", "has no instanseg.pt"), ("text", "not a zip file")]
)
def test_a_failed_download_leaves_nothing_and_says_what_to_do(server: Path, name: str, reason: str) -> None:
    with pytest.raises(OSError, match=rf"'{name}' could not be downloaded from http.*{reason}.*Put its instanseg.pt"):
        weights.obtain_network(name)
    assert [path for path in server.rglob("*") if path.is_file()] == []


# ------------------------------------------------------------------------------------------------------------- channels
@pytest.fixture(scope="module")
def colored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network for three channels: it looks at the second one."""
    import torch

    class Colors(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner, self.pixel_size, self.cells_and_nuclei = inner, float(inner.pixel_size), False

        def forward(
            self,
            x: torch.Tensor,
            target_segmentation: torch.Tensor = torch.tensor([1, 1]),  # noqa: B008
            min_size: int = 0,
        ) -> torch.Tensor:
            return self.inner(x[:, 1:2], None, target_segmentation, min_size)

    path = tmp_path_factory.mktemp("networks") / "colors.pt"
    # torch compiles a class only from a file that says what its annotations are.
    Colors.forward.__annotations__ = {
        "x": torch.Tensor, "target_segmentation": torch.Tensor, "min_size": int, "return": torch.Tensor
    }  # fmt: skip
    torch.jit.save(torch.jit.script(Colors(torch.jit.load(WEIGHTS, map_location="cpu"))), path)
    return path


@needs_extra
def test_a_network_for_colors_gets_three_channels(colored: Path, tmp_path: Path) -> None:
    image = drawn((300, 320), 24, 0.3, 5)
    other = np.random.default_rng(1).integers(0, 9000, image.pixels.shape).astype(image.pixels.dtype)
    colors = np.stack([other, image.pixels, other[::-1]], -1)
    model = SmallInstanSeg(weights=str(colored), diameter=image.diameter)
    expected = prepared(image).load()(image.pixels)
    ready = model.prepare(ArraySource(colors, n_channels=3))
    assert len(ready.ranges) == 3
    np.testing.assert_array_equal(ready.load()(colors), expected)
    result = segment(colors, model, tmp_path / "out.zarr", axes="yxc", channel=(0, 1, 2), progress=False)
    assert f1(np.asarray(result.labels), expected) >= 0.97
    with pytest.raises(ValueError, match="cannot be used with 1 channel"):
        model.prepare(ArraySource(image.pixels))
    assert InstanSeg(weights="brightfield_nuclei").channel_range() == (3, 3)


@needs_extra
def test_one_plane_is_2d(tmp_path: Path) -> None:
    image = drawn((300, 320), 24, 0.3, 6)
    expected = prepared(image).load()(image.pixels)
    model = SmallInstanSeg(diameter=image.diameter)
    result = segment(image.pixels[None], model, tmp_path / "plane.zarr", progress=False)
    np.testing.assert_array_equal(np.asarray(result.labels)[0] > 0, expected > 0)
