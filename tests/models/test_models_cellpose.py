"""Cellpose without Cellpose: settings, weights by name and path, downloads, tiles. Runs without the extra."""

from __future__ import annotations

import hashlib
import http.server
import importlib.util
import json
import math
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from model_data import ArraySource

from napari_blockbuster.models import get_model, list_models, model_from_settings
from napari_blockbuster.models.cellpose import weights
from napari_blockbuster.models.cellpose.imports import import_cellpose
from napari_blockbuster.models.cellpose.model import Cellpose
from napari_blockbuster.models.cellpose.tile import runs_of_network
from napari_blockbuster.models.networks.weights import digest

find_spec = importlib.util.find_spec


@pytest.fixture
def without_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that has neither cellpose nor torch."""

    def find(name: str, package: str | None = None) -> Any:
        return None if name in ("cellpose", "torch") else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of Cellpose's, and a working directory elsewhere."""
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "models"


@pytest.mark.usefixtures("without_extra")
def test_a_missing_extra_is_named() -> None:
    info = list_models()["cellpose"]
    assert not info.usable
    assert info.summary == "needs: pip install 'napari-blockbuster[cellpose]'"
    # A colleague's job can be opened without it.
    model = model_from_settings({"model": "cellpose", "diameter": 22})
    with pytest.raises(ImportError, match=r"needs: pip install 'napari-blockbuster\[cellpose\]'"):
        model.prepare(ArraySource(np.zeros((32, 32), np.uint8)))


def test_neither_torch_nor_cellpose_is_imported_before_its_time() -> None:
    code = (
        "import sys, numpy as np, napari_blockbuster as n; from napari_blockbuster.models import *\n"
        "list_models(); get_model('cellpose').settings()\n"
        "print(sorted({'torch', 'cellpose', 'cv2', 'torchvision'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_settings_explain_themselves_and_go_to_json_and_back() -> None:
    for name, field in Cellpose.model_fields.items():
        assert len(field.description or "") > 15, name
        assert isinstance(field.json_schema_extra, dict)
        assert "advanced" in field.json_schema_extra
    json.dumps(Cellpose.model_json_schema())
    model = Cellpose(diameter=17, mode="stitch", low=3.5, high=900, spacing=(2, 1, 1), niter=400, sha256="00")
    assert model_from_settings(json.loads(json.dumps(model.settings()))) == model


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"diameter": 1}, r"^cellpose: diameter is 1. It must be 2 to 2000$"),
        ({"mode": "2d"}, r"mode is '2d'. It should be '3d', 'stitch' or 'planes'"),
        ({"low": 5, "high": 5}, r"high is 5.0. It must be above low, which is 5.0"),
        ({"stitch_threshold": 0}, r"stitch_threshold is 0. It must be 0.01 to 1"),
        ({"channels": [0, 0]}, r"cellpose has no setting 'channels'"),
        ({"flow_treshold": 1}, r"did you mean 'flow_threshold'\?"),
    ],
)
def test_mistakes_are_one_clear_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_model("cellpose", **settings)


def test_weights_by_name_and_by_path(folder: Path) -> None:
    assert weights.models_folder() == folder
    assert weights.find_weights("cpsam_v2") == folder / "cpsam_v2"
    (folder / "mine").write_bytes(b"1")
    (folder / "gui_models.txt").write_text("mine\ngone\n")
    assert weights.find_weights("mine") == folder / "mine"
    Path("own.pt").write_bytes(b"2")
    assert weights.find_weights("own.pt") == Path("own.pt").absolute()
    assert weights.is_path("own.pt")
    assert not weights.is_path("cpdino-vitb")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("cpsam_v3", ValueError, r"no weights 'cpsam_v3' \(did you mean 'cpsam_v2'\?\). There are cpsam_v2, cpsam, "),
        ("gone", ValueError, r"no weights 'gone'.*. There are .*mine, or give the path of a file"),
        ("cyto3", ValueError, r"no weights 'cyto3'"),
        ("weights/none.pt", FileNotFoundError, r"there are no weights at .*weights.none\.pt"),
    ],
)
def test_missing_weights_are_refused(folder: Path, name: str, error: type[Exception], message: str) -> None:
    (folder / "mine").write_bytes(b"1")
    (folder / "gui_models.txt").write_text("mine\ngone\n")
    with pytest.raises(error, match=message):
        weights.obtain_weights(name)


def test_workers_never_download(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_blockbuster.models.cellpose.model.import_cellpose", lambda: None)
    monkeypatch.setitem(
        sys.modules, "napari_blockbuster.models.cellpose.segmenter", SimpleNamespace(CellposeSegmenter=None)
    )
    model = Cellpose(spacing=(1, 1), low=0, high=1, sha256="00")
    with pytest.raises(
        FileNotFoundError, match=r"weights 'cpsam_v2' are not on this worker's machine .*do not download"
    ):
        model.load()
    (folder / "cpsam_v2").write_bytes(b"others")
    with pytest.raises(ValueError, match="are not those of this run"):
        model.load()
    with pytest.raises(RuntimeError, match="is not prepared: spacing, low, high, sha256"):
        Cellpose().load()


# ------------------------------------------------------------------------------------------------------------ download
CONTENT = bytes(range(256)) * 9000


class Handler(http.server.BaseHTTPRequestHandler):
    """Two files: one that is sent whole, and one whose connection breaks."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path not in ("/cpsam", "/cpsam_v2"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if self.path == "/cpsam" else CONTENT[:1000])

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a server on this machine was asked for, in the place of Cellpose's."""
    pytest.importorskip("tqdm")
    Handler.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        monkeypatch.setattr(weights, "import_cellpose", lambda: SimpleNamespace(_MODEL_URL=url))
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield Handler.asked
        server.shutdown()


def test_a_download_happens_once(folder: Path, asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        assert weights.obtain_weights("cpsam") == folder / "cpsam"
    assert asked == ["/cpsam"]
    assert digest([folder / "cpsam"]) == hashlib.sha256(CONTENT).hexdigest()
    assert "weights cpsam" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "reason"), [("cpsam_v2", "connection broke after 1000|IncompleteRead"), ("cpdino", "404")]
)
def test_a_failed_download_leaves_nothing_and_says_what_to_do(
    folder: Path, asked: list[str], name: str, reason: str
) -> None:
    with pytest.raises(
        OSError, match=rf"could not be downloaded from .*({reason}).*Put the file at .*{name}, or name a "
    ):
        weights.obtain_weights(name)
    assert list(folder.iterdir()) == []


# --------------------------------------------------------------------------------------------------------------- tiles
@pytest.mark.parametrize(
    ("shape", "spacing", "settings"),
    [
        ((20_000, 20_000), (1, 1), {}),
        ((20_000, 20_000), (1, 1), {"diameter": 200}),
        ((300, 20_000), (1, 1), {"diameter": 10}),
        ((1000, 4000, 4000), (1, 1, 1), {}),
        ((1000, 4000, 4000), (4, 1, 1), {"diameter": 24}),
        ((1000, 4000, 4000), (1, 1, 1), {"mode": "planes"}),
        ((1000, 4000, 4000), (1, 1, 1), {"mode": "stitch", "weights": "cpdino"}),
        ((60, 256, 256), (1, 1, 1), {"diameter": 48}),
    ],
)
def test_suggested_tiles(shape: tuple[int, ...], spacing: tuple[float, ...], settings: dict[str, Any]) -> None:
    model = Cellpose(**settings)
    tile, halo = model.suggest(ArraySource(np.broadcast_to(np.uint8(0), shape), spacing))
    assert tile is not None
    for n, t, h, s in zip(shape, tile, halo, spacing, strict=True):
        assert 1 <= t <= n
        assert t >= min(h, n)
        assert t % 2 == 0 or t == n
        if not (settings.get("mode") == "planes" and s == spacing[0] and h == 1):
            assert h == np.ceil(2 * model.diameter / s)


@pytest.mark.parametrize("gibibytes", [1.5, 3, 4, 6, 9, 14, 32])
@pytest.mark.parametrize("shape", [(20_000, 20_000), (400, 4000, 4000)])
def test_suggested_tiles_fill_whole_batches(
    shape: tuple[int, ...], gibibytes: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the network tiles that a batch holds, few are missing, unless memory forces the tile to be small."""
    monkeypatch.setattr("napari_blockbuster.machine.limits.memory_limit_bytes", lambda: int(gibibytes * 2**30))
    monkeypatch.setattr("napari_blockbuster.machine.limits.cpu_count", lambda: 1)
    model = Cellpose(device="cpu")
    tile, halo = model.suggest(ArraySource(np.broadcast_to(np.uint8(0), shape)))
    assert tile is not None
    read = [t + 2 * h for t, h in zip(tile, halo, strict=True)]
    in_plane = [1 if n + 32 <= 256 else math.ceil(1.2 * (16 * math.ceil(n / 16) + 16) / 256) for n in read[-2:]]
    planes = read[0] if len(read) == 3 else 1
    runs = runs_of_network(read, 256, "planes")
    if in_plane[0] > 2 or planes > 1:
        assert math.prod(in_plane) * planes / (8 * runs) > 0.8, (in_plane, runs)


def test_runs_of_the_network_are_those_of_cellpose() -> None:
    if find_spec("cellpose") is None:
        pytest.skip("Cellpose is not installed")
    import_cellpose()
    from cellpose import transforms

    for extents in [(200, 240), (241, 1000), (700, 812), (1674, 1674), (3000, 300)]:
        (low, high), (left, right) = np.reshape(transforms.get_pad_yx(*extents), (2, 2))
        padded = np.zeros((1, extents[0] + low + high, extents[1] + left + right), np.float32)
        tiles = math.prod(transforms.make_tiles(padded, bsize=256, tile_overlap=0.1)[0].shape[:2])
        assert runs_of_network(extents, 256, "3d") == math.ceil(tiles / 8)


def test_one_tile_of_the_network_holds_what_one_network_tile_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    for_memory: Callable[[], int] = lambda: 1  # noqa: E731
    monkeypatch.setattr("napari_blockbuster.machine.limits.memory_limit_bytes", for_memory)
    tile, halo = Cellpose().suggest(ArraySource(np.broadcast_to(np.uint8(0), (9000, 9000))))
    assert tile == (112, 112)
    assert halo == (60, 60)
    assert 112 + 2 * 60 <= 240
