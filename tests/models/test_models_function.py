"""Functions as models: from Python, from a file, from a package; what travels, what is kept, what is refused."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from model_data import ArraySource

from napari_blockbuster.models import Model, as_model, model_from_settings
from napari_blockbuster.models.function.digest import function_digest
from napari_blockbuster.models.function.model import FunctionModel

TILE = np.arange(12, dtype=np.uint16).reshape(3, 4)
FLOOR = 4


def above(tile: np.ndarray, floor: int = 5) -> np.ndarray:
    return (tile > floor).astype(np.int32)


def uses_a_global(tile: np.ndarray) -> np.ndarray:
    return above(tile, FLOOR)


class Above:
    def __init__(self, floor: int) -> None:
        self.floor = floor

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        return above(tile, self.floor)


def make_closure(floor: Any) -> Any:
    return lambda tile: (tile > floor).astype(np.int32)


def in_fresh_process(model: Model, folder: Path, code: str = "print(model.load()(tile).sum())") -> str:
    """Run code on a model that cloudpickle carried into an interpreter that knows nothing of this one."""
    blob = folder / "model.pickle"
    for module in {__name__, "conftest"} & set(sys.modules):
        cloudpickle.register_pickle_by_value(sys.modules[module])
    try:
        blob.write_bytes(cloudpickle.dumps(model))
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
        if "conftest" in cloudpickle.list_registry_pickle_by_value():
            cloudpickle.unregister_pickle_by_value(sys.modules["conftest"])
    script = (
        "import pickle, numpy as np\n"
        f"model = pickle.load(open({str(blob)!r}, 'rb'))\n"
        "tile = np.arange(12, dtype=np.uint16).reshape(3, 4)\n"
    )
    run = subprocess.run([sys.executable, "-c", script + code], capture_output=True, text=True, check=False, cwd=folder)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.mark.parametrize(
    "function",
    [above, uses_a_global, Above(5), functools.partial(above, floor=5), make_closure(5), lambda tile: tile > 5],
    ids=["function", "global", "object", "partial", "closure", "lambda"],
)
def test_any_callable_travels_to_a_fresh_process(function: Any, tmp_path: Path) -> None:
    model = as_model(function)
    expected = function(TILE).sum()
    assert model.load()(TILE).sum() == expected
    # And its digest there is the one here: a job goes on with the same function.
    code = "from napari_blockbuster.models.function.digest import function_digest as digest\n"
    code += "print(model.load()(tile).sum(), digest(model.function))"
    assert in_fresh_process(model, tmp_path, code) == f"{expected} {model.settings()['sha256']}"


def test_a_notebook_function_travels(tmp_path: Path) -> None:
    # As IPython does it: code typed into __main__, with its own helper and global.
    script = textwrap.dedent(
        """
        import cloudpickle, pathlib, sys
        from napari_blockbuster.models import as_model
        scale = 2
        def helper(x):
            return x * scale
        def typed(tile):
            return (helper(tile) > 10).astype("int32")
        model = as_model(typed)
        pathlib.Path("notebook.pickle").write_bytes(cloudpickle.dumps(model))
        print(model.sha256)
        """
    )
    first, second = (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
        for _ in range(2)
    )
    assert first == second
    model = cloudpickle.loads((tmp_path / "notebook.pickle").read_bytes())
    np.testing.assert_array_equal(model.load()(TILE), TILE > 5)


def test_settings_of_a_python_function_ask_for_it_again() -> None:
    model = as_model(above)
    stored = json.loads(json.dumps(model.settings()))
    assert stored["source"] == f"{__name__}:above"
    with pytest.raises(ValueError, match=r"'.*:above' was defined in a Python session.*pass the function itself again"):
        model_from_settings(stored)
    with pytest.raises(ValueError, match="pass the function itself again"):
        FunctionModel(**{k: v for k, v in stored.items() if k != "model"}).load()
    assert as_model(above).settings() == model.settings()


def test_the_digest_sees_code_values_and_called_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert function_digest(make_closure(5)) == function_digest(make_closure(5))
    different = [
        above,
        uses_a_global,
        Above(5),
        Above(6),
        functools.partial(above, floor=5),
        functools.partial(above, floor=6),
        make_closure(5),
        make_closure(6),
        make_closure(np.arange(3)),
        make_closure(np.arange(4)),
        make_closure({"a": 1}),
        make_closure({"a", "b"}),
        lambda tile: tile > 5,
        lambda tile: tile > 6,
        np.sign,
        np.abs,
    ]
    assert len({function_digest(f) for f in different}) == len(different)
    before = function_digest(uses_a_global)
    monkeypatch.setattr(sys.modules[__name__], "FLOOR", 9)
    assert function_digest(uses_a_global) != before
    before = function_digest(uses_a_global)
    monkeypatch.setattr(sys.modules[__name__], "above", lambda tile, floor: tile < floor)
    assert function_digest(uses_a_global) != before


def test_recursive_functions_have_a_digest() -> None:
    def fall(n: int) -> int:
        return 0 if n == 0 else fall(n - 1)

    assert len(function_digest(fall)) == 64


def test_a_function_may_write_into_its_tile() -> None:
    def careless(tile: np.ndarray) -> np.ndarray:
        tile[tile < 5] = 0
        return tile

    tile = TILE.copy()
    labels = as_model(careless).load()(tile)
    np.testing.assert_array_equal(tile, TILE)
    assert (labels == 0).sum() == 5


def test_a_file_is_read_when_it_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    (tmp_path / "beside.py").write_text("OFFSET = 2\n")
    file.write_text("import beside\ndef labels(tile, floor=5):\n    return tile > floor + beside.OFFSET\n")
    first = as_model(f"{file}:labels")
    assert first.load()(TILE).sum() == 4
    assert model_from_settings(first.settings()).load()(TILE).sum() == 4
    assert FunctionModel.from_source(f"{file}:labels", floor=7).load()(TILE).sum() == 2

    file.write_text("def labels(tile):\n    return tile > 100\n")
    second = as_model(f"{file}:labels")
    assert second.load()(TILE).sum() == 0
    assert second.settings()["sha256"] != first.settings()["sha256"]
    # A run that began with the old text ends with it, here and in a worker that has no such file.
    assert first.load()(TILE).sum() == 4
    with pytest.raises(ValueError, match=r"mine\.py was changed since"):
        model_from_settings(first.settings())
    file.unlink()
    assert in_fresh_process(second, tmp_path) == "0"
    with pytest.raises(FileNotFoundError, match=r"no file .*mine\.py"):
        model_from_settings(second.settings())


def test_opening_settings_runs_nothing(tmp_path: Path) -> None:
    file = tmp_path / "loud.py"
    file.write_text(
        "import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\ndef f(tile):\n    return tile\n"
    )
    model = as_model(f"{file}:f")
    model_from_settings(model.settings())
    assert not file.with_suffix(".ran").exists()
    model.load()
    assert file.with_suffix(".ran").exists()


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("missing.py:f", FileNotFoundError, r"no file .*missing\.py"),
        ("two.py:three", ValueError, r"has no function 'three'. Functions in it: one, two"),
        ("two.py", ValueError, r"needs the name of a function, as file\.py:function. Functions in it: one, two"),
        ("bad.py:f", ValueError, r"not valid Python, line 2"),
        ("number.py:n", ValueError, r"holds a int, not a function 'n'"),
        ("no.such.module:f", ValueError, r"no module 'no\.such\.module'"),
        ("textwrap:nothing", ValueError, r"textwrap has no function 'nothing'. Functions in it: .*dedent"),
        (":f", ValueError, r"no module ''"),
    ],
)
def test_wrong_sources_say_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: type[Exception], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("two.py").write_text("def one(x): return x\ndef two(x): return x\n")
    Path("bad.py").write_text("def f(x):\nreturn x\n")
    Path("number.py").write_text("n = 3\n")
    with pytest.raises(error, match=message):
        as_model(name).load()


def test_an_installed_function(tmp_path: Path) -> None:
    model = as_model("scipy.ndimage:grey_erosion")
    again = FunctionModel.from_source("scipy.ndimage:grey_erosion", size=3)
    assert model.settings()["kind"] == "module"
    assert model_from_settings(again.settings()).load()(TILE).shape == TILE.shape
    assert in_fresh_process(again, tmp_path, "print(model.load()(tile).max())") == "6"


def test_options_must_be_json() -> None:
    with pytest.raises(ValueError, match=r"options must be JSON .*functools\.partial"):
        FunctionModel.of(above, floor=np.arange(3))


def test_the_halo_of_an_unknown_function_follows_the_voxels() -> None:
    model = as_model(above)
    assert model.suggest(ArraySource(np.zeros((5, 5, 5)), (2, 0.5, 0.5))).halo == (8, 32, 32)


def test_the_digest_does_not_look_into_this_package() -> None:
    """Installed to be edited, it lies among the user's files; what it keeps in memory is no part of a function."""
    from napari_blockbuster.models import loaded_model

    def segments(tile: np.ndarray) -> np.ndarray:
        return loaded_model.load_once(as_model("threshold"))(tile)

    load_once = loaded_model.load_once

    def closes_over(tile: np.ndarray) -> np.ndarray:
        return load_once(as_model("threshold"))(tile)

    before = [function_digest(f) for f in (segments, closes_over)]
    assert before[0] != before[1]
    loaded_model._loaded.append((as_model("threshold"), above))
    try:
        assert [function_digest(f) for f in (segments, closes_over)] == before
    finally:
        loaded_model._loaded.pop()


def test_a_function_names_the_packages_that_it_uses(tmp_path: Path) -> None:
    from scipy import ndimage

    def with_scipy(tile: np.ndarray) -> np.ndarray:
        return ndimage.label(above(tile))[0]

    assert as_model(above).depends_on() == ("numpy",)
    assert set(as_model(with_scipy).depends_on()) == {"numpy", "scipy"}
    (tmp_path / "mine.py").write_text(
        "import os, skimage.filters\nfrom . import other\ndef find(x):\n    from scipy import ndimage\n    return x\n"
    )
    assert as_model(f"{tmp_path}/mine.py:find").depends_on() == ("scikit-image", "scipy")
    assert as_model("scipy.ndimage:grey_erosion").depends_on() == ("scipy",)
