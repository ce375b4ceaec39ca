"""Options of a function are checked before any worker starts."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import tifffile
from command_line import run

from napari_blockbuster.models import as_model, get_model

CODE = """
import numpy as np

def bright(pixels, level=100, *, invert=False):
    return (pixels > level) ^ invert

def demanding(pixels, level):
    return pixels > level

def free(pixels, **options):
    return pixels > options["level"]

def alone():
    return None
"""


def test_a_misspelled_option_ends_a_run_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CODE)
    image = tmp_path / "image.tif"
    tifffile.imwrite(image, np.zeros((64, 64), np.uint16))
    model = f"{tmp_path / 'mine.py'}:bright"
    ended = run("segment", image, "--model", model, "--set", "levl=3", "-o", tmp_path / "out.zarr", code=2)
    assert "has no option 'levl' (did you mean 'level'?). Its options: level, invert." in ended.stderr
    assert not (tmp_path / "out.zarr.job").exists()


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("bright", {"level": 3, "invert": True}, None),
        ("free", {"anything": 1}, None),
        ("demanding", {"level": 2}, None),
        ("demanding", {}, "missing a required argument: 'level'"),
        ("bright", {"pixels": 1}, "no option 'pixels'"),
        ("alone", {}, "too many positional arguments"),
    ],
)
def test_a_function_of_a_file_without_running_it(tmp_path: Path, name: str, options: dict, says: str | None) -> None:
    file = tmp_path / "mine.py"
    file.write_text("raise SystemExit('this file was run')\n" + CODE)
    source = f"{file}:{name}"
    if says is None:
        assert get_model("function", source=source, options=options).options == options
        return
    with pytest.raises(ValueError, match=says):
        get_model("function", source=source, options=options)


def test_functions_in_python_and_in_packages() -> None:
    assert as_model(functools.partial(np.isclose, b=3, atol=0.1)) is not None
    assert as_model(np.sqrt) is not None, "a function that does not say its parameters"
    assert as_model(lambda tile, *more: tile > 3) is not None
    with pytest.raises(ValueError, match=r"no option 'rtoll' \(did you mean 'rtol'\?\)"):
        get_model("function", source="numpy:isclose", options={"rtoll": 3})
    with pytest.raises(ValueError, match="cannot be called with the pixels of a tile"):
        as_model(lambda: None)
