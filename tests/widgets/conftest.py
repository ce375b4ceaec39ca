"""A real viewer, and a dock in it that is driven as a user would."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from clusters import remote_cluster
from scipy import ndimage

pytest.importorskip("napari")
# Setting a layer from a thread is a fault that shows up as a crash at random; like this it shows up as an error.
os.environ["NAPARI_ENSURE_PLUGIN_MAIN_THREAD"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _own_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["NAPARI_CONFIG"] = str(tmp_path_factory.mktemp("napari") / "settings.yaml")


def helpers() -> set[int]:
    """Processes of multiprocessing itself (`forked.command_line`), which end with this one."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if re.search("multiprocessing.(resource_tracker|forkserver) import main", " ".join(child.cmdline())):
                found.add(child.pid)
    return found


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """Whatever a test does, no cluster outlives its viewer."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before | helpers()]
    _, alive = psutil.wait_procs(left, timeout=20)
    assert not alive, f"processes left behind: {[' '.join(p.cmdline())[:200] for p in alive]}"


@pytest.fixture
def pixels() -> np.ndarray:
    """A 2D image of bright blobs: uint16, (200, 260)."""
    rng = np.random.default_rng(3)
    field = ndimage.gaussian_filter(rng.standard_normal((200, 260)), 4)
    field = (field - field.min()) / np.ptp(field)
    return (field**3 * 4000 + rng.random(field.shape) * 20).astype(np.uint16)


@pytest.fixture
def until(qtbot: Any) -> Callable[[Callable[[], bool]], None]:
    """Let the viewer work until something holds."""

    def wait(holds: Callable[[], bool], seconds: float = 120) -> None:
        qtbot.waitUntil(lambda: bool(holds()), timeout=int(seconds * 1000))

    return wait


@pytest.fixture
def viewer(make_napari_viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A napari on the screen as it is after its installation, whose home folder is empty."""
    from napari import settings

    monkeypatch.setattr(settings, "_CFG_PATH", str(tmp_path / "napari" / "settings.yaml"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return make_napari_viewer(show=True)


@pytest.fixture(scope="session")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster of two workers, for docks that do not test how a dock starts its own."""
    from napari_blockbuster.execution.cluster import connect

    with remote_cluster(tmp_path_factory.mktemp("cluster")) as (address, _, _):
        connect(address, n_workers=2).close()
        yield address


@pytest.fixture
def open_dock(
    make_napari_viewer: Any, until: Any, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Any, Any]]:
    """Open a viewer with the plugin's dock, from the menu's command. The home folder, where labels go at first, is empty."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()

    def make(
        image: np.ndarray | None = None, show: bool = False, own_cluster: bool = False, **options: Any
    ) -> tuple[Any, Any]:
        from napari_blockbuster.widgets.menu.commands import show_segment_widget

        viewer = make_napari_viewer(show=show)
        if image is not None:
            viewer.add_image(image, **options)
        widget = show_segment_widget(viewer)
        if image is not None:
            until(lambda: widget.image.source is not None)
        widget.running.cluster_fields.workers.setValue(2)
        widget.running.cluster_fields.address.setText("" if own_cluster else scheduler)
        return viewer, widget

    return make


@pytest.fixture
def write_function(tmp_path: Path) -> Callable[[str], str]:
    """Write a Python file with a function ``f(tile)``, and return its address for the form."""

    def write(body: str) -> str:
        path = tmp_path / "own.py"
        indented = body.replace("\n", "\n    ")
        path.write_text(
            f"import os, time\nimport numpy as np\nfrom scipy import ndimage\n\ndef f(tile):\n    {indented}\n"
        )
        return f"{path}:f"

    return write
