"""The plugin from outside: napari's menus, its dialogs and the mouse, in a fresh configuration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from front_door import choose, find_button, press, see_dock, type_number


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


SAMPLES = "File > Open Sample > Blockbuster"
PLUGIN = "Plugins > Segment large image (Blockbuster)"


@pytest.mark.parametrize(
    ("sample", "most"),
    [
        ("Nuclei in 3D (real, 4 MB)", 20),
        ("Slide of nuclei (synthetic, made on read, 0.5 GB)", 400),
        ("Light-sheet volume (synthetic, made on read, 250 GB)", 30_000),
    ],
)
@pytest.mark.parametrize("image_first", [True, False])
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
    choose(viewer, f"{SAMPLES} > Light-sheet volume (synthetic, made on read, 250 GB)")
    choose(viewer, PLUGIN)
    widget = see_dock(viewer).inner_widget()
    until(lambda: widget.image.source is not None)
    for axis, n in zip("zyx", (2, 100, 100), strict=True):
        type_number(widget.tiles.halo.spins[axis], 0)
        type_number(widget.tiles.tile.spins[axis], n)
    for axis in "yx":
        type_number(widget.tiles.tile.spins[axis], 8)
    assert "1,006,632,960 tiles" in widget.tiles.note.text()
    assert not widget.running.main.isEnabled()
