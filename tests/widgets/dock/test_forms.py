"""Forms of all models: defaults, a round trip of every setting, and messages for wrong values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog, QInputDialog, QPushButton

from napari_blockbuster.models import as_model, list_models, model_class
from napari_blockbuster.widgets.choices.forms import AxesForm, ModelForm

NAMES = [name for name, info in list_models().items() if info.usable and name != "function"]


@pytest.fixture(params=NAMES)
def form(request: Any, qtbot: Any) -> ModelForm:
    made = ModelForm(request.param)
    qtbot.addWidget(made)
    return made


def test_an_untouched_form_is_the_model_with_its_defaults(form: ModelForm) -> None:
    assert form.values() == {}
    assert form.model() == model_class(form.name)()


def test_every_setting_has_help_and_a_field(form: ModelForm) -> None:
    assert set(form.fields) == set(model_class(form.name).model_fields)
    for name, field in form.fields.items():
        assert len(field.tooltip) > 10, name


def test_settings_come_back(form: ModelForm) -> None:
    wanted: dict[str, Any] = {}
    for name, info in model_class(form.name).model_fields.items():
        default = info.get_default(call_default_factory=True)
        if isinstance(default, bool):
            wanted[name] = not default
        elif isinstance(default, float) and default:
            wanted[name] = default * 0.5
    form.set_values(wanted)
    assert form.values() == pytest.approx(wanted)


def test_a_wrong_text_is_refused_with_the_name_of_the_setting(qtbot: Any) -> None:
    form = ModelForm("voronoi-otsu")
    qtbot.addWidget(form)
    form.set_values({"threshold": "many"})
    with pytest.raises(ValueError, match="threshold"):
        form.model()
    form.set_values({"threshold": None})
    assert form.values() == {}
    form.set_values({"threshold": 120})
    assert form.model().threshold == 120


@pytest.fixture
def function_form(qtbot: Any) -> ModelForm:
    made = ModelForm("function")
    qtbot.addWidget(made)
    return made


def test_a_function_without_a_file_is_asked_for_one(function_form: ModelForm) -> None:
    assert function_form.fields["source"].native.text() == ""
    assert function_form.values() == {}
    with pytest.raises(ValueError, match=r"path/to/file\.py:function"):
        function_form.model()
    function_form.set_values({"source": "nonsense"})
    with pytest.raises(ValueError, match=r"path/to/file\.py:function"):
        function_form.model()


def test_a_function_is_the_one_that_its_file_holds_now(
    function_form: ModelForm, write_function: Any, tmp_path: Path
) -> None:
    source = write_function("return tile > 1")
    function_form.set_values({"source": source})
    model = function_form.model()
    assert model == as_model(source)
    # The settings of a job contain the digest of the file, the form only its path.
    function_form.set_values(model.model_dump())
    write_function("return tile > 2")
    assert function_form.model() == as_model(source)
    assert function_form.model() != model
    (tmp_path / "own.py").write_text("def f(tile, **options): ...\n")
    function_form.set_values({"options": {"least": 3}})
    assert function_form.model().options == {"least": 3}
    assert function_form.fields["options"].value == "least=3"
    field = function_form.fields["options"].native
    assert field.placeholderText() == "name=value, name=value"
    for text, options in (
        ('level=250, names=["a"], mode=fast', {"level": 250, "names": ["a"], "mode": "fast"}),
        ('{"level": 250}', {"level": 250}),
    ):
        field.setText(text)
        assert function_form.model().options == options
    for text in ("250", "level: 250"):
        field.setText(text)
        with pytest.raises(ValueError, match=rf"Options cannot be read: {text}. Write name=value, such as level=250"):
            function_form.model()


def test_a_function_is_chosen_from_a_file(
    function_form: ModelForm, write_function: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_function("return tile > 1")
    (tmp_path / "several.py").write_text(
        "raise RuntimeError('not run')\ndef _own(x): ...\ndef f(x): ...\ndef g(x): ...\n"
    )
    choose = next(b for b in function_form.findChildren(QPushButton) if b.text() == "…")
    asked: list[list[str]] = []

    def which(parent: Any, title: str, label: str, names: list[str], editable: bool) -> tuple[str, bool]:
        asked.append(names)
        return "g", True

    monkeypatch.setattr(QInputDialog, "getItem", which)
    for name, expected in (("own.py", "own.py:f"), ("several.py", "several.py:g")):
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, name=name: (str(tmp_path / name), ""))
        QTest.mouseClick(choose, Qt.LeftButton)
        assert function_form.fields["source"].value == str(tmp_path / expected)
    assert asked == [["f", "g"]]


def test_axes_form_keeps_its_numbers_and_tells_once(qtbot: Any) -> None:
    form = AxesForm("tile", "How much.", 1)
    qtbot.addWidget(form)
    form.set_axes("zyx")
    told: list[int] = []
    form.changed.connect(lambda: told.append(1))
    form.set_values((4, 64, 32))
    assert form.values == (4, 64, 32)
    assert len(told) == 1
    form.set_axes("zyx")
    assert form.values == (4, 64, 32)
    form.set_axes("yx")
    assert len(form.values) == 2
