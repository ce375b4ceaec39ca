"""Terminals that cannot show every character, and names that are long or no text: the command line as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import zarr
from forked import COMMAND, command_line
from jobs import OPTIONS, SHAPE, components, write_image

from napari_blockbuster import Job, segment
from napari_blockbuster.output.table_files import table_file

ENCODINGS = [
    pytest.param({"PYTHONIOENCODING": "ascii"}, 0, id="ascii"),
    pytest.param({"PYTHONIOENCODING": "cp1252"}, 0, id="cp1252"),
    pytest.param({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, 2, id="C"),
]
posix = pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX systems only")


@pytest.fixture
def function(tmp_path: Path) -> str:
    (tmp_path / "function.py").write_text((Path(__file__).parents[1] / "shared" / "jobs.py").read_text())
    return f"{tmp_path / 'function.py'}:components"


def run(*words: object, code: int = 0, **environment: str) -> subprocess.CompletedProcess[bytes]:
    known = {k: v for k, v in os.environ.items() if k not in ("LANG", "LC_ALL", "PYTHONUTF8")}
    done = subprocess.run(
        [*COMMAND, *(word if isinstance(word, bytes) else str(word) for word in words)],
        env={**known, **environment},
        capture_output=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


@pytest.mark.parametrize(("environment", "workers"), ENCODINGS)
def test_a_terminal_that_cannot_show_a_name(
    environment: dict[str, str], workers: int, function: str, tmp_path: Path
) -> None:
    image = write_image(tmp_path / "日本 µ.zarr")
    words = ["--tile", "8", "12", "10", "--halo", "3", "--merge", "touch", "--model", function]
    done = run("segment", image, *words, "--workers", workers, **environment)
    assert b"objects" in done.stdout
    output = tmp_path / "日本 µ.labels.ome.zarr"
    assert zarr.open_array(output / "0", mode="r").shape == SHAPE
    if workers:
        # The same job in another locale.
        run("resume", output, PYTHONUTF8="1")
        assert run("info", image, **environment).stdout
    assert b"um" in run("models", "instanseg", **environment).stdout.replace("µ".encode("cp1252"), b"u")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_standard_output_that_cannot_be_written_is_no_failure_of_the_run(function: str, tmp_path: Path) -> None:
    image = write_image(tmp_path / "i.zarr")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "segment", image, "--tile", "12", "--halo", "3", "--model", function, "--workers", "0"],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    assert b"Standard output cannot be written" in done.stderr
    assert (tmp_path / "i.labels.ome.zarr").exists()


# -------------------------------------------------------------------------------------------------------------- names
@posix
@pytest.mark.parametrize("name", [b"caf\xe9", b"\xff\xfe", b"back\\slash", b"two\\\\slashes", b"new\nline", b"-o"])
def test_names_that_are_no_text(name: bytes, function: str, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    folder.mkdir()
    image = write_image(folder / os.fsdecode(name + b".zarr"))
    output = folder / os.fsdecode(name + b".labels.ome.zarr")
    words = ["--tile", "8", "12", "10", "--halo", "3", "--merge", "touch", "--model", function]
    if name == b"caf\xe9":
        run("segment", os.fsencode(image), *words, "--workers", "2", "--keep-stage")
    else:
        done = command_line("segment", image, *words, "--workers", "0", "--keep-stage")
        assert done.returncode == 0, done.stderr
    done = command_line("merge", output, "--merge", "none", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert zarr.open_array(output / "0", mode="r").shape == SHAPE
    # Other readers take no text but UTF-8: their parsers refuse half a surrogate.
    (output / "zarr.json").read_bytes().decode("utf-8")
    json.dumps(json.loads((output / "zarr.json").read_bytes()), ensure_ascii=False).encode()
    job = Job.open(output)
    assert Path(job.spec.output) == output
    assert len(job.staged()) == job.n_tiles
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


@posix
def test_a_path_with_dots_is_followed(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    result = segment(os.path.relpath(image), components, "../o.ome.zarr", progress=False, merge="touch", **OPTIONS)
    assert (tmp_path / "o.ome.zarr" / "zarr.json").exists()
    assert result.n_objects > 0


@pytest.mark.parametrize("letter", ["a", "é"])
@pytest.mark.parametrize("length", [200, 241, 250, 251])
def test_long_names(letter: str, length: int, image: Path, tmp_path: Path) -> None:
    room = length - len(".zarr")
    stem = letter * (room // len(letter.encode()))
    output = tmp_path / f"{stem}{'x' * (room - len(stem.encode()))}.zarr"
    assert len(output.name.encode()) == length
    for overwrite in (False, True):
        result = segment(image, components, output, overwrite=overwrite, progress=False, merge="touch", **OPTIONS)
        assert result.n_objects > 0
    made = [output, output.with_name(f"{output.name}.job"), table_file(output)]
    assert sorted(tmp_path.iterdir()) == sorted(made)
    assert len(result.table) == result.n_objects


@pytest.mark.parametrize("length", [252, 255, 256, 400])
def test_names_that_are_too_long_are_refused_before_work(
    length: int, image: Path, tmp_path: Path, function: str
) -> None:
    output = tmp_path / ("a" * (length - 5) + ".zarr")
    done = command_line("segment", image, "-o", output, "--model", function, "--workers", "0")
    assert done.returncode == 2
    assert "a name of the output is too long" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["function.py"]
