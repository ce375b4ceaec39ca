"""StarDist without StarDist: settings, networks by name and path, tiles. Runs without the extra."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_data import ArraySource
from small_stardist import FLAT, VOLUME

from napari_blockbuster.models import get_model, list_models, model_from_settings
from napari_blockbuster.models.networks.weights import digest
from napari_blockbuster.models.stardist import weights
from napari_blockbuster.models.stardist.model import StarDist
from napari_blockbuster.models.stardist.network import read_network

find_spec = importlib.util.find_spec


@pytest.fixture
def without_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that has neither stardist nor tensorflow."""

    def find(name: str, package: str | None = None) -> Any:
        return None if name in ("stardist", "tensorflow") else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)


@pytest.fixture
def keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of Keras's, and a working directory elsewhere."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "keras"


def flat(size: int = 64) -> ArraySource:
    return ArraySource(np.zeros((size, size), np.uint8))


def altered(target: Path, **config: Any) -> Path:
    """A copy of the small network with another configuration."""
    shutil.copytree(FLAT, target)
    path = target / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return target


@pytest.mark.usefixtures("without_extra")
def test_a_missing_extra_is_named(keras: Path) -> None:
    info = list_models()["stardist"]
    assert not info.usable
    assert info.summary == "needs: pip install 'napari-blockbuster[stardist]'"
    # A colleague's job can be opened without it.
    model = model_from_settings({"model": "stardist", "diameter": 22})
    with pytest.raises(ImportError, match=r"needs: pip install 'napari-blockbuster\[stardist\]'"):
        model.prepare(flat())
    with pytest.raises(ImportError, match=r"needs: pip install 'napari-blockbuster\[stardist\]'"):
        StarDist(weights=str(FLAT)).prepare(flat()).load()


def test_tensorflow_is_not_imported_before_its_time() -> None:
    code = (
        "import sys, numpy as np, napari_blockbuster as n; from napari_blockbuster.models import *\n"
        "from model_data import ArraySource; from small_stardist import FLAT\n"
        "list_models(); m = get_model('stardist', weights=str(FLAT)); m.settings()\n"
        "image = ArraySource(np.zeros((64, 64))); m.suggest(image)\n"
        "if 'stardist' in list_models() and list_models()['stardist'].usable: m.prepare(image)\n"
        "print(sorted({'tensorflow', 'keras', 'stardist', 'csbdeep'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    assert run.stdout.strip() == "[]"


def test_settings_explain_themselves_and_go_to_json_and_back() -> None:
    for name, field in StarDist.model_fields.items():
        assert len(field.description or "") > 15, name
        assert isinstance(field.json_schema_extra, dict)
        assert "advanced" in field.json_schema_extra
    json.dumps(StarDist.model_json_schema())
    model = StarDist(diameter=17, scale=0.5, low=3.5, high=900, spacing=(2, 1, 1), prob_threshold=0.4, sha256="00")
    assert model_from_settings(json.loads(json.dumps(model.settings()))) == model


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"diameter": 1}, r"^stardist: diameter is 1. It must be 2 to 2000$"),
        ({"scale": 0}, r"^stardist: scale is 0. It must be 0.05 to 20$"),
        ({"prob_threshold": 1}, r"^stardist: prob_threshold is 1. It must be 0 to 1$"),
        ({"low": 5, "high": 5}, r"high is 5.0. It must be above low, which is 5.0"),
        ({"prob_thresh": 0.5}, r"did you mean 'prob_threshold'\?"),
    ],
)
def test_mistakes_are_one_clear_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_model("stardist", **settings)


# ------------------------------------------------------------------------------------------------------------- networks
def test_networks_by_name_and_by_path(keras: Path) -> None:
    place = keras / "models" / "StarDist2D" / "2D_demo" / "2D_demo"
    assert weights.find_network("2D_demo") == place
    # Keras before 3.6 and since unpacks into different folders.
    for found in (place, place.with_name("2D_demo_extracted"), place.parent):
        shutil.copytree(FLAT, found, dirs_exist_ok=True)
        assert weights.find_network("2D_demo") == found
        shutil.rmtree(found)
    shutil.copytree(FLAT, "own")
    assert weights.find_network("own") == Path("own").absolute()
    assert weights.find_network("own/weights_best.h5") == Path("own").absolute()
    assert not weights.is_path("3D_demo")
    prepared = StarDist(weights="own").prepare(flat())
    assert prepared.weights == str(Path("own").absolute())
    assert prepared.sha256 == digest(weights.files_of("own", Path("own").absolute()))


def test_a_network_of_several_files(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    shutil.copytree(FLAT, folder)
    best = StarDist(weights=str(folder)).prepare(flat()).sha256
    shutil.copy(folder / "weights_best.h5", folder / "weights_last.h5")
    with open(folder / "weights_last.h5", "ab") as file:
        file.write(b"more")
    # The newer file is not preferred, whatever its time.
    assert StarDist(weights=str(folder)).prepare(flat()).sha256 == best
    chosen = StarDist(weights=str(folder / "weights_last.h5")).prepare(flat())
    assert chosen.sha256 != best
    for old, new in (("weights_best.h5", "a.h5"), ("weights_last.h5", "b.h5")):
        (folder / old).rename(folder / new)
    with pytest.raises(ValueError, match=r"several files of weights \(a\.h5, b\.h5\). Give the path of one"):
        StarDist(weights=str(folder)).prepare(flat())
    # Thresholds are part of a network.
    shutil.copy(FLAT / "weights_best.h5", folder)
    (folder / "thresholds.json").write_text('{"prob": 0.9, "nms": 0.3}')
    with pytest.raises(ValueError, match="are not those of this run: their sha256 begins with"):
        StarDist(weights=str(folder), sha256=best).prepare(flat())


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    text = altered(tmp_path / "text")
    (text / "weights_best.h5").write_text("not weights")
    bare = altered(tmp_path / "bare")
    (bare / "weights_best.h5").unlink()
    for name, error, message in [
        ("none", FileNotFoundError, "there is no StarDist network at .*none"),
        ("empty", FileNotFoundError, "it has no config.json. Give the folder that StarDist saved"),
        ("text", ValueError, "is not a file of weights that StarDist can read"),
        ("bare", FileNotFoundError, r"has no weights \(\*\.h5\)"),
    ]:
        with pytest.raises(error, match=message):
            StarDist(weights=str(tmp_path / name)).prepare(flat())
    (bare / "config.json").write_text('{"axes": "YXC"}')
    with pytest.raises(ValueError, match="is not the configuration of a StarDist network"):
        StarDist(weights=str(bare)).prepare(flat())


def test_images_that_do_not_suit_the_network_are_refused(tmp_path: Path) -> None:
    stack = ArraySource(np.zeros((16, 64, 64), np.uint8))
    with pytest.raises(ValueError, match=r"is for images of 2 axes, and this one has 3. Set weights to one .*3D_demo"):
        StarDist(weights=str(FLAT)).prepare(stack)
    with pytest.raises(ValueError, match=r"is for images of 3 axes, and this one has 2"):
        StarDist(weights=str(VOLUME)).prepare(flat())
    with pytest.raises(ValueError, match=r"needs images of 2 or 3 spatial axes\. This one has 1"):
        StarDist().prepare(ArraySource(np.zeros(64, np.uint8)))
    stained = altered(tmp_path / "stained", n_channel_in=3)
    with pytest.raises(ValueError, match="is for images of 3 channels, and 1 was chosen"):
        StarDist(weights=str(stained)).prepare(flat())


@pytest.mark.skipif(find_spec("stardist") is None or find_spec("tensorflow") is None, reason="needs the extra stardist")
def test_workers_never_download(keras: Path) -> None:
    model = StarDist(weights="2D_demo", spacing=(1, 1), low=0, high=1, sha256="00")
    with pytest.raises(FileNotFoundError, match=r"'2D_demo' is not on this worker's machine .* Let KERAS_HOME name"):
        model.load()
    shutil.copytree(FLAT, keras / "models" / "StarDist2D" / "2D_demo" / "2D_demo")
    with pytest.raises(ValueError, match="are not those of this run"):
        model.load()
    with pytest.raises(RuntimeError, match="is not prepared: spacing, weights, low, high, sha256"):
        StarDist().load()


# --------------------------------------------------------------------------------------------------------------- tiles
@pytest.mark.parametrize(
    ("shape", "spacing", "settings"),
    [
        ((20_000, 20_000), (1, 1), {"weights": str(FLAT)}),
        ((20_000, 20_000), (1, 1), {}),
        ((20_000, 20_000), (1, 1), {"scale": 0.3, "diameter": 90}),
        ((300, 20_000), (1, 1), {"weights": str(FLAT), "diameter": 300}),
        ((1000, 4000, 4000), (2, 1, 1), {"weights": str(VOLUME), "diameter": 14}),
        ((1000, 4000, 4000), (1, 1, 1), {"weights": str(VOLUME)}),
        ((1000, 4000, 4000), (4, 1, 1), {"weights": str(VOLUME)}),
        ((1000, 4000, 4000), (1, 1, 1), {}),
        ((20, 256, 256), (1, 1, 1), {"weights": str(VOLUME), "diameter": 48}),
    ],
)
def test_suggested_tiles(
    shape: tuple[int, ...], spacing: tuple[float, ...], settings: dict[str, Any], keras: Path
) -> None:
    model = StarDist(**settings)
    tile, halo = model.suggest(ArraySource(np.broadcast_to(np.uint8(0), shape), spacing))
    assert tile is not None
    for n, t, h, s in zip(shape, tile, halo, spacing, strict=True):
        assert 1 <= t <= n
        assert t >= min(h, n)
        assert h >= 2 * model.diameter / s
    if "weights" in settings and spacing != (1, 1, 1) and spacing != (4, 1, 1):
        divisor = read_network(Path(settings["weights"]) / "config.json").divisor
        # Where the image is not resampled, the network halves all tiles at the same voxels.
        for n, t, h, d in zip(shape, tile, halo, divisor, strict=True):
            assert h % d == 0
            assert t % d == 0 or t == n


def test_little_memory_makes_small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    source = ArraySource(np.broadcast_to(np.uint8(0), (9000, 9000)))
    model = StarDist(weights=str(FLAT), diameter=20)
    wide, halo = model.suggest(source)
    assert wide == (1024, 1024)
    monkeypatch.setattr("napari_blockbuster.machine.limits.memory_limit_bytes", lambda: 1)
    tile, same = model.suggest(source)
    assert same == halo
    assert tile == halo
