"""No network library is ever imported in the viewer's process."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

LIBRARIES = (
    "tensorflow",
    "keras",
    "csbdeep",
    "torch",
    "torchvision",
    "cellpose",
    "instanseg",
    "bioimageio",
    "stardist",
)
MODULES = ("stardist.models", "cellpose.models", "csbdeep.models", "bioimageio.core", "bioimageio.spec")


@pytest.fixture
def tripwires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Packages with the names of the network libraries, which record the process that imports them."""
    folder, notes = tmp_path / "libraries", tmp_path / "imported"
    notes.mkdir()
    note = f"import os\nopen(os.path.join({str(notes)!r}, f'{{__name__}}-{{os.getpid()}}'), 'w').close()\n"
    for name in (*LIBRARIES, *MODULES):
        place = folder.joinpath(*name.split("."))
        place.mkdir(parents=True, exist_ok=True)
        # As in the real library, the package bioimageio is a namespace.
        if name != "bioimageio":
            (place / "__init__.py").write_text(note)
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    yield notes
    for name in [m for m in sys.modules if m.partition(".")[0] in LIBRARIES]:
        del sys.modules[name]


def in_this_process() -> list[str]:
    return [m for m in sys.modules if m.partition(".")[0] in LIBRARIES and m != "bioimageio"]


def test_no_model_brings_its_library_into_the_viewer(
    tripwires: Path, open_dock: Any, until: Any, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("KERAS_HOME", "CELLPOSE_LOCAL_MODELS_PATH", "INSTANSEG_BIOIMAGEIO_PATH"):
        monkeypatch.setenv(variable, str(tmp_path / "weights"))
    network = tmp_path / "weights" / "mine" / "instanseg.pt"
    network.parent.mkdir(parents=True)
    network.write_bytes(b"no network")
    (tmp_path / "package.zip").write_bytes(b"no package")
    own = {"instanseg": str(network), "bioimageio": "https://127.0.0.1:9/none.zip"}
    before = in_this_process()
    _, widget = open_dock(pixels)
    names = [widget.model.choice.itemText(i) for i in range(widget.model.choice.count())]
    assert {"stardist", "cellpose", "instanseg", "bioimageio"} <= set(names)
    failures: list[str] = []
    widget.previews.failed.connect(failures.append)
    for name in names:
        widget.model.choice.setCurrentText(name)
        assert in_this_process() == before, name
        if name not in ("stardist", "cellpose", "instanseg", "bioimageio"):
            continue
        assert widget.model.settings is not None, widget.model.summary.plain
        if name in own:
            widget.model.settings.fields["weights"].value = own[name]
        # Steps of a run before its first tile: find, download and check the weights.
        widget.tiles.set_values((100, 100), (16, 16))
        said = len(failures)
        widget.preview_tile()
        until(lambda said=said: len(failures) > said)
        assert in_this_process() == before, (name, failures)
    imported = {path.name.rpartition("-")[0] for path in tripwires.iterdir()}
    assert {"stardist.models", "torch", "cellpose.models", "bioimageio.spec"} <= imported, failures
    assert not list(tripwires.glob(f"*-{os.getpid()}"))


def test_a_crash_of_the_other_process_is_an_error_and_not_a_crash() -> None:
    from napari_blockbuster.models.networks.child_process import run_in_child

    with pytest.raises(RuntimeError, match=r"_exit crashed \(exit code 3\)"):
        run_in_child(os._exit, 3)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run_in_child(os.listdir, "/nowhere")
    assert run_in_child(os.getpid) != os.getpid()
