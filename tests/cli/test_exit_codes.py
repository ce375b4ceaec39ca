"""Exit codes of the command line: 2 for what the user can solve, 70 for the unexpected, each with one line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from forked import command_line
from jobs import components, write_image

from napari_blockbuster import segment

DOCS = Path(__file__).parents[2]


def run(*words: object, code: int) -> str:
    done = command_line(*words)
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stderr


def ome_zarr(path: Path, multiscale: dict[str, Any] | None = None, **attributes: Any) -> Path:
    """An image with one channel, with some of its metadata replaced."""
    entry: dict[str, Any] = {
        "version": "0.4",
        "axes": [{"name": "c"}, {"name": "y", "unit": "micrometer"}, {"name": "x", "unit": "micrometer"}],
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 0.5, 0.5]}]}],
    }
    attributes = {"multiscales": [{**entry, **(multiscale or {})}], **attributes}
    group = zarr.create_group(str(path), zarr_format=2, attributes=attributes)
    pixels = np.zeros((1, 64, 64), np.uint16)
    pixels[:, 10:30, 10:40] = 900
    group.create_array("0", data=pixels, chunks=(1, 32, 32))
    return path


def steps(*transforms: Any) -> dict[str, Any]:
    return {"datasets": [{"path": "0", "coordinateTransformations": list(transforms)}]}


@pytest.mark.parametrize(
    "metadata",
    [
        {"omero": None},
        {"omero": []},
        {"omero": {"channels": None}},
        {"omero": {"channels": ["a"]}},
        {"omero": {"channels": [{"label": None}]}},
        {"ome": None},
        {"multiscale": {"axes": [{"name": "c"}, {"name": "y", "unit": " "}, {"name": "x", "unit": 5}]}},
        {"multiscale": {"axes": "cyx"}},
        {"multiscale": steps("scale")},
        {"multiscale": steps({"type": "scale", "scale": None})},
        {"multiscale": steps({"type": "scale", "scale": [1, "a", None]})},
        {"multiscale": steps({"type": "scale", "scale": [1, 0, -1]})},
        {"multiscale": steps({"type": "translation", "translation": None})},
    ],
)
def test_metadata_that_is_not_needed_may_be_damaged(metadata: dict[str, Any], tmp_path: Path) -> None:
    image = ome_zarr(tmp_path / "i.ome.zarr", **metadata)
    assert segment(image, components, tile_shape=32, halo=4, merge="touch", progress=False).n_objects == 1


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"multiscales": {"datasets": []}}, "no list of images"),
        ({"multiscale": {"datasets": None}}, "no datasets"),
        ({"multiscale": {"axes": [None, None, None]}}, ""),
        ({"multiscale": {"axes": {"a": 1}}}, ""),
    ],
)
def test_metadata_that_is_needed_is_named(metadata: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = tmp_path / "i.ome.zarr"
    if "multiscales" in metadata:
        zarr.create_group(str(path), zarr_format=2, attributes=metadata)
    else:
        ome_zarr(path, **metadata)
    done = command_line("info", path)
    # Where axes say nothing, three of them are z, y and x.
    assert done.returncode in ((2,) if says else (0, 2)), done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") == (1 if done.returncode else 0)


def test_mistakes_have_code_2_and_one_line(tmp_path: Path) -> None:
    image = write_image(tmp_path / "i.zarr")
    tifffile.imwrite(tmp_path / "complex.tif", np.zeros((64, 64), np.complex64))
    (tmp_path / "junk.tif").write_bytes(b"II*\0junkjunkjunk")
    calls = {
        ("segment", tmp_path / "complex.tif"): "complex64",
        ("segment", tmp_path / "junk.tif"): "cannot be read as TIFF",
        ("segment", image, "-o", "/"): "no name of a file",
        ("segment", image, "--set", "diameter=null"): "diameter is None",
        ("segment", image, "--tile", "0"): "tile size is 0 along z",
        ("resume", tmp_path): "is not a job folder",
    }
    for words, says in calls.items():
        error = run(*words, code=2)
        assert says in error
        assert error.count("\n") == 1
        assert error.startswith("error: ")


def test_the_unexpected_has_code_70_one_line_and_a_log_file(tmp_path: Path) -> None:
    """A bug, here one that a test puts into the program."""
    script = """
import sys
from napari_blockbuster.cli import main
from napari_blockbuster.cli.info import models
def broken():
    return None.nothing
models.describe_models = broken
sys.exit(main.main(["models"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 70
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("unexpected error: AttributeError: 'NoneType' object has no attribute 'nothing'")
    log = Path(re.search(r"log file (\S+)", done.stderr).group(1))
    text = log.read_text("utf-8")
    log.unlink()
    assert "Traceback" in text
    assert "napari-blockbuster models" in text
    assert re.search(r"^numpy \d", text, re.MULTILINE)


def test_an_error_out_of_a_library_is_not_blamed_on_the_user(tmp_path: Path) -> None:
    script = """
import sys, numpy
from napari_blockbuster.cli import main
from napari_blockbuster.cli.info import models
models.describe_models = lambda: numpy.zeros(3).reshape(2)
sys.exit(main.main(["models"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (70, 1)
    Path(re.search(r"log file (\S+)", done.stderr).group(1)).unlink()


def test_clients_that_cannot_be_used_are_named(image: Path, tmp_path: Path) -> None:
    import asyncio

    async def asynchronous() -> None:
        from distributed import Client, LocalCluster

        async with (
            LocalCluster(n_workers=1, processes=False, asynchronous=True, dashboard_address=None) as cluster,
            Client(cluster, asynchronous=True) as client,
        ):
            with pytest.raises(ValueError, match="The client is asynchronous"):
                segment(image, components, tmp_path / "o.zarr", client=client, progress=False)

    asyncio.run(asynchronous())
    with pytest.raises(TypeError, match=r"client is a str\. Pass a distributed\.Client"):
        segment(image, components, tmp_path / "p.zarr", client="tcp://127.0.0.1:8786", progress=False)


@pytest.mark.parametrize("page", ["README.md", "docs/reliability.md"])
def test_the_exit_codes_are_documented(page: str) -> None:
    text = (DOCS / page).read_text("utf-8")
    for code in (0, 1, 2, 70, 130, 143):
        assert re.search(rf"^\| {code} \|", text, re.MULTILINE), code
