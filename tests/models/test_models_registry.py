"""Models by name: names, settings there and back, mistakes, other packages' families, and the page about them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_data import ArraySource, drawn

from napari_blockbuster.images.examples.samples import write_nuclei
from napari_blockbuster.models import (
    Model,
    Segmenter,
    as_model,
    get_model,
    list_models,
    model_class,
    model_from_settings,
)
from napari_blockbuster.models.registry import upgraded_settings

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
NAMES = ["voronoi-otsu", "dog-watershed", "distance-watershed", "threshold", "function"]


class Brightest(Model):
    """Stands for another package's family."""

    family = "brightest"
    summary = "Everything above a grey value is one object"
    floor: int = 10

    def load(self) -> Segmenter:
        return lambda tile: (tile > self.floor).astype(np.uint8)


def register(monkeypatch: pytest.MonkeyPatch, **addresses: str) -> None:
    group = "napari_blockbuster.models"
    points = [metadata.EntryPoint(name, value, group) for name, value in addresses.items()]
    monkeypatch.setattr(metadata, "entry_points", lambda *, group: points)


def test_every_listed_model_can_be_used() -> None:
    listed = list_models()
    assert next(iter(listed)) == "voronoi-otsu"
    assert set(NAMES) <= set(listed)
    for name in NAMES:
        assert listed[name].usable
        assert model_class(name).family == name
        assert listed[name].summary == model_class(name).summary


def test_every_setting_explains_itself() -> None:
    for name in NAMES:
        for field_name, field in model_class(name).model_fields.items():
            assert len(field.description or "") > 15, (name, field_name)
            assert isinstance(field.json_schema_extra, dict)
            assert "advanced" in field.json_schema_extra
        json.dumps(model_class(name).model_json_schema())


def test_importing_the_registry_is_light() -> None:
    code = (
        "import sys, napari_blockbuster.models as m; m.list_models()\n"
        "print(sorted({'torch', 'napari', 'qtpy', 'scipy.ndimage', 'skimage', 'distributed'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "napari", "qtpy", "skimage"} & set(re.findall(r"'(.*?)'", run.stdout))


def test_built_in_models_are_found_without_a_list_of_all_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list takes a tenth of a second, and a job that is opened asks for its model several times."""

    def listed(**_: object) -> None:
        raise AssertionError("entry points of all packages were listed")

    monkeypatch.setattr(metadata, "entry_points", listed)
    assert get_model("threshold").settings()["model"] == "threshold"


@pytest.mark.parametrize("name", NAMES[:4])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_settings_go_to_json_and_back(name: str, data: st.DataObject) -> None:
    number = st.floats(2, 100)
    strategies = {
        "diameter": number,
        "threshold": st.none() | st.floats(-1e6, 1e6),
        "sigma": number,
        "connectivity": st.integers(1, 3),
        "outline": st.floats(0, 0.9),
        "height_scale": st.floats(0.05, 0.25),
        "contrast": st.none() | st.floats(0, 10),
        "background": st.none() | number,
        "low": st.none() | st.floats(-10, 1),
        "high": st.none() | st.floats(2, 10),
        "spacing": st.none() | st.lists(st.floats(0.1, 10), min_size=1, max_size=3).map(tuple),
    }
    chosen = {key: data.draw(strategies[key], label=key) for key in model_class(name).model_fields}
    model = get_model(name, **chosen)
    assert model_from_settings(json.loads(json.dumps(model.settings()))) == model
    assert as_model(model.settings()) == model


def test_prepared_settings_go_to_json_and_back() -> None:
    pixels = drawn((64, 64), 12, 0.3, 1).pixels
    for name in NAMES[:4]:
        model = get_model(name).prepare(ArraySource(pixels))
        back = model_from_settings(json.loads(json.dumps(model.settings())))
        assert back == model
        np.testing.assert_array_equal(back.load()(pixels), model.load()(pixels))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: get_model("voroni-otsu"),
            r"no model 'voroni-otsu' \(did you mean 'voronoi-otsu'\?\). Models: voronoi-otsu, ",
        ),
        (lambda: get_model("nonsense"), r"no model 'nonsense'. Models: "),
        (lambda: get_model(diametr=3), r"no setting 'diametr' \(did you mean 'diameter'\?\). Its settings: "),
        (lambda: get_model(diameter=-3), r"^voronoi-otsu: diameter is -3. It must be 2 to 2000$"),
        (lambda: get_model("threshold", connectivity=4), r"^threshold: connectivity is 4. It must be 1 to 3$"),
        (lambda: get_model(diameter="wide"), r"diameter is 'wide'. It should be a valid number"),
        (lambda: get_model(diameter=float("nan")), r"diameter is nan"),
        (lambda: get_model(low=5, high=2), r"high is 2.0. It must be above low, which is 5.0"),
        (lambda: get_model(spacing=(0, 1)), r"spacing is \(0.0, 1.0\). Each of its numbers must be above 0"),
        (lambda: get_model("function"), r"function needs the setting 'source'"),
        (lambda: model_from_settings({"diameter": 3}), r"no name under 'model'"),
    ],
)
def test_mistakes_are_one_clear_sentence(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_as_model_takes_what_a_user_may_call_a_model() -> None:
    model = get_model(diameter=9)
    assert as_model(model) is model
    assert as_model("threshold") == get_model("threshold")
    assert as_model(Brightest) == Brightest()
    assert as_model(lambda tile: tile).family == "function"
    for wrong in (3, None, np.zeros(3)):
        with pytest.raises(TypeError, match="a model is a name"):
            as_model(wrong)  # type: ignore[arg-type]


def test_other_packages_add_families(monkeypatch: pytest.MonkeyPatch) -> None:
    here = f"{__name__}:Brightest"
    register(
        monkeypatch,
        brightest=here,
        broken="no_such_package_at_all:Model",
        wrong="napari_blockbuster.geometry.tiles:TileGrid",
        threshold=here,
    )
    listed = list_models()
    assert listed["brightest"].usable
    assert not listed["broken"].usable
    assert "no_such_package_at_all" in listed["broken"].summary
    assert "not a subclass of Model" in listed["wrong"].summary
    assert get_model("brightest", floor=3) == Brightest(floor=3)
    assert model_from_settings({"model": "brightest", "floor": 4}) == Brightest(floor=4)
    # A built-in name stays what it is.
    assert model_class("threshold").__module__ == "napari_blockbuster.models.classical.threshold"


@pytest.mark.parametrize(
    "number", range(len(re.findall(r"```python\n", PAGE.read_text("utf-8"))) if PAGE.exists() else 0)
)
def test_snippets_of_the_page_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    image = drawn((64, 64), 12, 0.3, 1).pixels
    # The image that the demo leaves, made small.
    (tmp_path / "demo-output").mkdir()
    write_nuclei(tmp_path / "demo-output" / "nuclei.ome.zarr", drawn((24, 64, 64), 12, 0.3, 1).pixels)
    snippet = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[number]
    exec(
        compile(snippet, f"{PAGE.name}:{number}", "exec"),
        {"__name__": "snippet", "pixels": image, "source": ArraySource(image)},
    )


def test_settings_stored_before_a_setting_existed_keep_its_old_rule() -> None:
    stored = get_model("voronoi-otsu", diameter=18).settings()
    assert stored.pop("height_scale") == 0.1
    assert upgraded_settings(stored) == {**stored, "height_scale": 0.05}
    assert model_from_settings(stored) == get_model("voronoi-otsu", diameter=18, height_scale=0.05)
    # Written by hand.
    assert model_from_settings({"model": "voronoi-otsu", "diameter": 18}) == get_model("voronoi-otsu", diameter=18)
    for other in ({"model": "not-installed", "x": 1}, {"model": None}, {"model": "threshold", "sigma": 2.0}):
        assert upgraded_settings(other) == other
