"""Finished labels get their name: never over something unasked, and whole whenever the process is killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.machine.errors import TakenOverError
from napari_blockbuster.machine.ownership import Owner
from napari_blockbuster.output import place
from napari_blockbuster.output.label_image import labels_info, open_labels
from napari_blockbuster.output.occupant import Occupant
from napari_blockbuster.output.place import clear_parts, part_of, put_in_place, take_back_part
from napari_blockbuster.output.writer import LabelsWriter

GRID = TileGrid((60, 70), (32, 32))


def labels(path: Path, value: int, version: str = "0.5") -> Path:
    """A finished label image of one object."""
    more: dict[str, Any] = {"axes": "yx", "scale": (1, 1), "units": (None, None), "name": "cells", "version": version}
    writer = LabelsWriter.create(path, grid=GRID, dtype=np.uint32, **more)
    for tile in GRID:
        writer.write_tile(tile, np.full(tile.core.shape, value, np.uint32)).result()
    writer.finish({"napari-blockbuster": {"value": value}})
    return path


def value_of(path: Path) -> int:
    """The object of a label image, which must be whole."""
    pixels = open_labels(path).compute(scheduler="sync")
    assert pixels.shape == GRID.shape
    assert len(np.unique(pixels)) == 1
    assert labels_info(path)["provenance"] == {"value": pixels[0, 0]}
    return int(pixels[0, 0])


@pytest.fixture(params=[True, False], ids=["one step", "two steps"])
def exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With and without a file system that can swap two names in one step."""
    if not request.param:
        monkeypatch.setattr(place, "_exchange", lambda one, other: False)
    return bool(request.param)


# --------------------------------------------------------------------------------------------------------- undisturbed
def test_a_free_place(tmp_path: Path) -> None:
    put_in_place(labels(tmp_path / ".o.part", 1), tmp_path / "o.zarr", overwrite=False)
    assert value_of(tmp_path / "o.zarr") == 1
    assert os.listdir(tmp_path) == ["o.zarr"]


def test_a_taken_place_is_refused(tmp_path: Path) -> None:
    labels(tmp_path / "o.zarr", 1)
    part = labels(tmp_path / ".o.part", 2)
    wanted = r"o\.zarr exists. Pass overwrite=True \(--overwrite\) to replace it"
    with pytest.raises(FileExistsError, match=wanted):
        put_in_place(part, tmp_path / "o.zarr", overwrite=False)
    assert value_of(tmp_path / "o.zarr") == 1
    assert value_of(part) == 2
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match=r"link exists\. Pass overwrite=True"):
        put_in_place(part, tmp_path / "link", overwrite=False)


def test_overwriting(tmp_path: Path, exchange: bool) -> None:
    labels(tmp_path / "o.zarr", 1)
    seen = open_labels(tmp_path / "o.zarr")
    put_in_place(labels(tmp_path / ".o.part", 2), tmp_path / "o.zarr", overwrite=True)
    assert value_of(tmp_path / "o.zarr") == 2
    assert os.listdir(tmp_path) == ["o.zarr"]
    assert seen.shape == GRID.shape


def test_overwriting_a_link_spares_what_it_leads_to(tmp_path: Path, exchange: bool) -> None:
    labels(tmp_path / "theirs.zarr", 1)
    (tmp_path / "o.zarr").symlink_to(tmp_path / "theirs.zarr")
    put_in_place(labels(tmp_path / ".o.part", 2), tmp_path / "o.zarr", overwrite=True)
    assert value_of(tmp_path / "o.zarr") == 2
    assert value_of(tmp_path / "theirs.zarr") == 1
    assert not (tmp_path / "o.zarr").is_symlink()


def test_only_what_may_be_replaced_is(tmp_path: Path, exchange: bool) -> None:
    """Another one came in its place, at the last moment or before."""
    final, part = labels(tmp_path / "o.zarr", 1), labels(tmp_path / ".o.part", 2)
    seen = Occupant.of(final)
    final.rename(tmp_path / "away.zarr")
    labels(final, 3)
    for allowed in (seen, Occupant()):
        with pytest.raises(FileExistsError, match=r"o\.zarr"):
            put_in_place(part, final, overwrite=allowed)
        assert (value_of(final), value_of(part)) == (3, 2)
    put_in_place(part, final, overwrite=Occupant.of(final))
    assert value_of(final) == 2
    assert value_of(tmp_path / "away.zarr") == 1


def test_what_comes_between_the_look_and_the_swap_is_left_alone(
    tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    final, part = labels(tmp_path / "o.zarr", 1), labels(tmp_path / ".o.part", 2)
    seen, swap = Occupant.of(final), place._exchange

    def somebody_comes(one: Path, other: Path) -> bool:
        monkeypatch.setattr(place, "_exchange", swap)
        final.rename(tmp_path / "away.zarr")
        labels(final, 3)
        return swap(one, other)

    monkeypatch.setattr(place, "_exchange", somebody_comes)
    with pytest.raises(FileExistsError, match=r"o\.zarr is not what overwrite=True was meant for"):
        put_in_place(part, final, overwrite=seen)
    assert (value_of(final), value_of(part), value_of(tmp_path / "away.zarr")) == (3, 2, 1)
    assert {path.name for path in tmp_path.iterdir()} == {"o.zarr", ".o.part", "away.zarr"}


def test_overwriting_a_file(tmp_path: Path, exchange: bool) -> None:
    (tmp_path / "o.zarr").write_text("a file")
    put_in_place(labels(tmp_path / ".o.part", 2), tmp_path / "o.zarr", overwrite=True)
    assert value_of(tmp_path / "o.zarr") == 2
    assert os.listdir(tmp_path) == ["o.zarr"]


def test_nothing_is_lost_when_the_new_one_is_not_there(tmp_path: Path, exchange: bool) -> None:
    labels(tmp_path / "o.zarr", 1)
    with pytest.raises(OSError, match=r"\.o\.part"):
        put_in_place(tmp_path / ".o.part", tmp_path / "o.zarr", overwrite=True)
    assert value_of(tmp_path / "o.zarr") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="what this file system can is known on Linux")
def test_swapping_is_one_step(tmp_path: Path) -> None:
    one, other = labels(tmp_path / "one", 1), labels(tmp_path / "other", 2)
    if not place._exchange(one, other):
        pytest.skip("this file system cannot swap two names")
    assert (value_of(one), value_of(other)) == (2, 1)
    assert not place._exchange(one, tmp_path / "missing")


# -------------------------------------------------------------------------------------------------------------- killed
# Puts labels in place, and dies without a word just before its n-th change to the folder. The swap of two names is a
# call of a C function: looking that up goes just before it.
KILLED = """
import os, sys
from pathlib import Path
from napari_blockbuster.output import place

part, final, fatal, one_step = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "True"
if not one_step:
    place._exchange = lambda one, other: False
events = []

def hook(event, args):
    if event in ("os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "ctypes.dlsym"):
        events.append(event)
        if len(events) == fatal:
            print(*events, flush=True)
            os._exit(9)

sys.addaudithook(hook)
place.put_in_place(part, final, overwrite=True)
"""


def put_and_die(part: Path, final: Path, fatal: int, one_step: bool) -> list[str]:
    """Put labels in place in a process that dies at a change; the changes up to that one, which is not made."""
    command = [sys.executable, "-c", KILLED, part, final, str(fatal), str(one_step)]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    return done.stdout.split()


TOKEN = "0123456789abcdef"
STEPS = [
    # In one step or two, the change before which the process dies, that change, and what then has which name.
    (True, 1, "ctypes.dlsym", {"final": 1, "part": 2}),
    (True, 2, "shutil.rmtree", {"final": 2, "part": 1}),
    (True, 5, "os.remove", {"final": 2}),
    (False, 1, "os.rename", {"final": 1, "part": 2}),
    # The one moment without the name: both results are whole, under other names.
    (False, 2, "os.rename", {"aside": 1, "part": 2}),
    (False, 3, "os.rename", {"final": 2, "aside": 1}),
    (False, 4, "shutil.rmtree", {"final": 2, "part": 1}),
    (False, 7, "os.remove", {"final": 2}),
]


@pytest.mark.parametrize(("one_step", "fatal", "event", "left"), STEPS)
def test_killed_at_any_step(tmp_path: Path, one_step: bool, fatal: int, event: str, left: dict[str, int]) -> None:
    """Old or new is there, whole; what is left behind is in nobody's way."""
    if one_step and sys.platform != "linux":
        pytest.skip("the steps are those of Linux")
    final = labels(tmp_path / "o.zarr", 1)
    part = labels(part_of(final, TOKEN), 2)
    places = {"final": final, "part": part, "aside": part.with_name("labels.old")}
    assert put_and_die(part, final, fatal, one_step)[-1] == event
    for name, value in left.items():
        assert value_of(places[name]) == value
    assert {name for name in ("final", "aside") if places[name].exists()} == left.keys() - {"part"}
    # The next run is refused unasked, even then, and the old output is back under its name.
    third = labels(tmp_path / ".third.part", 3)
    with pytest.raises(FileExistsError):
        put_in_place(third, final, overwrite=False)
    assert value_of(final) == left.get("final", 1)
    put_in_place(third, final, overwrite=True)
    assert value_of(final) == 3
    clear_parts(final, lambda: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.zarr"]


def test_parts_that_appear_while_the_owner_is_asleep_are_not_cleared(tmp_path: Path) -> None:
    """Another process may take the job over, and write, before the check or after it."""
    final = tmp_path / "o.zarr"
    labels(part_of(final, TOKEN), 1)
    theirs = labels(part_of(final, "f" * 32), 2)
    theirs.parent.rename(tmp_path / "later")
    clear_parts(final, lambda: (tmp_path / "later").rename(theirs.parent) and None)
    assert sorted(path.name for path in tmp_path.iterdir()) == [theirs.parent.name]
    with pytest.raises(TakenOverError):
        clear_parts(final, Owner(tmp_path / "lock.json", "gone").check)
    assert value_of(theirs) == 2


@pytest.mark.parametrize("fatal", range(1, 5))
def test_a_part_that_was_taken_back_changes_nothing_any_more(tmp_path: Path, exchange: bool, fatal: int) -> None:
    """Another process takes the job over before the n-th rename: what was there stays, whole, and the new labels are gone."""
    final, part = labels(tmp_path / "o.zarr", 1), labels(part_of(tmp_path / "o.zarr", TOKEN), 2)
    labels(tmp_path / "theirs", 3)
    steps, watched = 0, True

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal steps, watched
        if watched and event in ("os.rename", "ctypes.dlsym"):
            steps += 1
            if steps == fatal:
                watched = False
                take_back_part(final, TOKEN)
                place._remove(final)
                (tmp_path / "theirs").rename(final)

    sys.addaudithook(hook)
    with contextlib.suppress(OSError):
        put_in_place(part, final, overwrite=True)
    is_taken, watched = steps == fatal, False
    assert value_of(final) == (3 if is_taken else 2)
    assert is_taken or fatal > 1


def test_a_leftover_is_no_output(tmp_path: Path) -> None:
    """What a killed process had begun to remove does not come back when the user removes the output."""
    final = labels(tmp_path / "o.zarr", 1)
    put_and_die(labels(part_of(final, TOKEN), 2), final, 7, one_step=False)
    shutil.rmtree(final)
    put_in_place(labels(tmp_path / ".third.part", 3), final, overwrite=False)
    assert value_of(final) == 3


# ---------------------------------------------------------------------------------------------------- inside an image
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_labels_in_an_image_are_listed(tmp_path: Path, zarr_format: Any) -> None:
    image = tmp_path / "i.zarr"
    version = "0.5" if zarr_format == 3 else "0.4"
    zarr.create_group(str(image), zarr_format=zarr_format, attributes={"ours": 1})
    for name, value in (("cells", 1), ("nuclei", 2), ("cells", 3)):
        part = labels(image / "labels" / f".{name}.part", value, version)
        put_in_place(part, image / "labels" / name, overwrite=True)
        assert value_of(image / "labels" / name) == value
    group = zarr.open_group(image / "labels", mode="r")
    assert group.metadata.zarr_format == zarr_format
    said = group.attrs.asdict()
    assert (said["ome"] if zarr_format == 3 else said)["labels"] == ["cells", "nuclei"]
    assert zarr_format == 2 or said["ome"]["version"] == "0.5"
    assert zarr.open_group(image, mode="r").attrs["ours"] == 1


def test_labels_of_the_other_version_leave_an_image_of_one_format(tmp_path: Path) -> None:
    """The list is where readers of the image look for it; there is no second group in the same folder."""
    zarr.create_group(str(tmp_path / "i.zarr"), zarr_format=2)
    folder = tmp_path / "i.zarr" / "labels"
    put_in_place(labels(folder / ".cells.part", 1, "0.5"), folder / "cells", overwrite=False)
    assert zarr.open_group(folder, mode="r", zarr_format=2).attrs["labels"] == ["cells"]
    assert not (folder / "zarr.json").exists()


def test_a_folder_that_happens_to_be_called_labels(tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    put_in_place(labels(folder / ".cells.part", 1), folder / "cells.zarr", overwrite=False)
    assert os.listdir(folder) == ["cells.zarr"]
