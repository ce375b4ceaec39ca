"""Code of a job needs permission, given by a button that names the function and its file."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from forked import command_line
from front_door import unfold
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QMessageBox

from napari_blockbuster import Job
from napari_blockbuster.widgets.choices import consent as consents
from napari_blockbuster.widgets.choices.consent import module_file

SOURCE = """
import os
open(os.path.join({notes!r}, str(os.getpid())), "w").close()
from scipy import ndimage
import numpy as np

def find(tile):
    return ndimage.label(tile > 800)[0]
"""


@pytest.fixture(autouse=True)
def _nothing_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each test without permissions."""
    for name, value in vars(consents.Consent()).items():
        monkeypatch.setattr(consents.consent, name, value)


class Stranger:
    """A job folder whose model names code that records when it runs."""

    def __init__(self, folder: Path, pixels: np.ndarray, kind: str) -> None:
        self.notes = folder / "ran"
        self.notes.mkdir()
        self.file = folder / "code" / "strange_module.py"
        self.file.parent.mkdir()
        self.file.write_text(SOURCE.format(notes=str(self.notes)))
        self.source = f"{self.file}:find" if kind == "file" else "strange_module:find"
        tifffile.imwrite(folder / "blobs.tif", pixels, tile=(64, 64))
        self.job = Job.create(
            folder / "blobs.tif", self.source, folder / "out.ome.zarr", tile_shape=(100, 100), halo=(16, 16)
        )
        sys.modules.pop("strange_module", None)
        self.forget()

    def forget(self) -> None:
        for note in self.notes.iterdir():
            note.unlink()

    @property
    def ran(self) -> list[str]:
        return sorted(note.name for note in self.notes.iterdir())


@pytest.fixture(params=["module", "file"])
def stranger(request: Any, tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Stranger:
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "code"), prepend=os.pathsep)
    return Stranger(tmp_path, pixels, request.param)


def press(qtbot: Any, button: Any) -> None:
    unfold(button)
    assert button.isVisible() or button.isVisibleTo(button.window())
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.LeftButton)


def test_nothing_runs_before_it_is_allowed(stranger: Stranger, open_dock: Any, until: Any, qtbot: Any) -> None:
    viewer, widget = open_dock(own_cluster=True)
    viewer.open(str(stranger.job.folder), plugin="napari-blockbuster")
    until(lambda: widget.control.state == "paused" and widget.image.source is not None)
    assert stranger.ran == []
    assert widget.model.model is None
    button = widget.model.settings.code
    for shown in (widget.model.note.plain, button.toolTip(), button.text()):
        assert "find" in shown
        assert str(stranger.file) in shown

    # Every way in which a user may try to run it.
    assert not widget.preview.tile.isEnabled()
    widget.preview_tile()
    widget.preview.again.setChecked(True)
    widget.model.settings.changed.emit()
    assert widget.copy_script("python") == ""
    press(qtbot, widget.running.main)
    box = QApplication.activeModalWidget() or widget.findChild(QMessageBox)
    assert isinstance(box, QMessageBox)
    assert str(stranger.file) in box.text()
    assert "find" in box.text()
    qtbot.mouseClick(box.button(QMessageBox.Cancel), Qt.LeftButton)
    widget.control.resume()
    until(lambda: not widget.control.is_busy)
    assert "Nothing was run" in widget.running.problem.plain
    assert stranger.ran == []
    widget.preview.again.setChecked(False)

    # After permission in the form the model can be used, and this process still imports nothing.
    press(qtbot, button)
    until(lambda: widget.model.model is not None)
    assert str(os.getpid()) not in stranger.ran
    press(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    assert widget.control.merged.n_objects > 3
    assert stranger.ran
    assert str(os.getpid()) not in stranger.ran
    assert "strange_module" not in sys.modules


def test_a_job_is_resumed_after_a_yes(stranger: Stranger, open_dock: Any, until: Any, qtbot: Any) -> None:
    _, widget = open_dock(own_cluster=True)
    widget.open_job(stranger.job.folder)
    until(lambda: widget.control.state == "paused")
    press(qtbot, widget.running.main)
    box = widget.findChild(QMessageBox)
    yes = next(b for b in box.buttons() if box.buttonRole(b) == QMessageBox.AcceptRole)
    assert "find" in yes.text()
    qtbot.mouseClick(yes, Qt.LeftButton)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    assert str(os.getpid()) not in stranger.ran


def test_looking_at_a_job_runs_nothing(stranger: Stranger) -> None:
    job = Job.open(stranger.job.folder)
    assert job.model is not None
    assert job.failed() == {}
    for more in ([], ["--check"], ["--check", "--repair"]):
        done = command_line("info", *more, stranger.job.folder)
        assert done.returncode == 0, done.stderr
        assert "find" in done.stdout or more
    assert stranger.ran == []


def test_a_typed_module_is_imported_by_the_button_only_and_its_faults_are_said(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "typed_module.py").write_text("raise ValueError('broken on purpose')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    _, widget = open_dock(pixels)
    widget.model.choice.setCurrentText("function")
    form = widget.model.settings
    form.fields["source"].native.setText("typed_module:find")
    assert "typed_module.py" in widget.model.note.plain
    press(qtbot, form.code)
    until(lambda: "broken on purpose" in widget.model.note.plain)
    (tmp_path / "typed_module.py").write_text("def find(tile):\n    return tile > 1\n")
    press(qtbot, form.code)
    until(lambda: widget.model.model is not None)
    assert "typed_module" not in sys.modules
    # A file that the user names needs no permission.
    (tmp_path / "own.py").write_text("def find(tile):\n    return tile > 1\n")
    form.fields["source"].native.setText(f"{tmp_path}/own.py:find")
    assert widget.model.model is not None
    assert form.code.isHidden()


def test_the_file_of_a_module_is_found_without_importing_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "outer_package" / "inner"
    inner.mkdir(parents=True)
    (inner.parent / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (inner / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (inner / "deep.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert module_file("outer_package.inner.deep") == str(inner / "deep.py")
    for nowhere in ("outer_package.none", "no_such_package", "", "..x", "a b"):
        assert module_file(nowhere) is None


def test_options_belong_to_what_is_allowed() -> None:
    settings = json.loads('{"model": "function", "source": "os:system", "options": {"command": "true"}}')
    code = consents.code_of(settings)
    assert code is not None
    assert "true" in str(code)
    session = consents.Consent()
    session.allow(code)
    assert not session.needs(code)
    assert session.needs(consents.code_of(settings | {"options": {"command": "false"}}))
