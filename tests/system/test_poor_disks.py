"""Disks that lack calls, as network mounts do: the real libraries in a process whose calls answer an error."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jobs import chunks_of

from napari_blockbuster.machine.system import PORTABLE, exchange, replace, sync

SOURCE = Path(__file__).parents[1] / "shared" / "poor_disk.c"
SCRIPT = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from jobs import OPTIONS, components, finish
from napari_blockbuster import Job
from napari_blockbuster.merge.filters import ObjectFilter

image, output = Path(sys.argv[1]), Path(sys.argv[2])
job = Job.create(image, components, output, **OPTIONS)
finish(job, keep_stage=True)
# A tile without its marker, as a killed run leaves it: its chunks are there and are written again.
job.store.path("tiles", 1).unlink()
job = Job.open(output, model=components)
list(job.stage())
job.write(job.merge("touch", filter=ObjectFilter(fill_holes=True)), overwrite=True, keep_stage=True)
finish(job, overwrite=True, keep_stage=True)
print(json.dumps(sorted(p.name for p in output.parent.iterdir())))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The calls of `poor_disk.c` as a library that a process loads before the C library."""
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler")
    path = tmp_path_factory.mktemp("poor") / "poor_disk.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", path, SOURCE, "-ldl"], check=True)
    return path


@pytest.mark.parametrize(
    "lacks",
    [
        pytest.param({"SYNC": "EINVAL", "REPLACE": "EEXIST"}, id="fsync EINVAL, replace EEXIST"),
        pytest.param({"SYNC": "ENOSYS", "REPLACE": "EACCES"}, id="fsync ENOSYS, replace EACCES"),
        pytest.param({"REPLACE": "EINVAL", "LOCK": "ENOLCK", "LINK": "EPERM"}, id="replace EINVAL, no locks, no links"),
        pytest.param({"SYNC": "ENOTSUP", "REPLACE": "ENOTSUP", "LOCK": "EINVAL", "LINK": "ENOTSUP"}, id="nothing"),
    ],
)
def test_a_disk_that_lacks_calls_is_used_without_them(
    lacks: dict[str, str], library: Path, image: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "o.ome.zarr"
    environment = {f"POOR_DISK_{call}": str(getattr(errno, name)) for call, name in lacks.items()}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, image, output, SOURCE.parent],
        env={**os.environ, **environment, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["o.ome.zarr", "o.ome.zarr.job", "o.ome.zarr.table.parquet"]
    assert chunks_of(output) == expected


def test_the_same_disk_without_help_would_fail(library: Path, tmp_path: Path) -> None:
    """The preloaded library does what its name says; else the test above could not fail."""
    script = "import os, sys; f = open(sys.argv[1], 'w'); os.fsync(f.fileno())"
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "f"],
        env={**os.environ, "POOR_DISK_SYNC": str(errno.EINVAL), "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Errno 22" in done.stderr


def test_a_file_in_use_is_replaced_once_it_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("old")
    new.write_text("new")
    tries: list[int] = []
    real = os.replace

    def busy(source: Path, target: Path) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise PermissionError(errno.EACCES, "Permission denied")
        real(source, target)

    monkeypatch.setattr(os, "replace", busy)
    replace(new, old)
    assert (old.read_text(), len(tries), new.exists()) == ("new", 3, False)


def test_a_file_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("old")
    new.write_text("new")
    real = os.rename

    def refuse(source: Path, target: Path) -> None:
        if Path(source) == new:
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EEXIST, "File exists")))
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="Input/output"):
        replace(new, old)
    assert old.read_text() == "old"


def test_other_errors_of_the_disk_are_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with open(tmp_path / "f", "w") as file, pytest.raises(OSError, match="Input/output"):
        sync(file)


# ------------------------------------------------------------------------------------------------- without POSIX calls
def test_systems_without_posix_calls(
    image: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fallbacks alone, in this process and in workers: what runs on Windows, as far as Linux can show it."""
    monkeypatch.setenv(PORTABLE, "1")
    (tmp_path / "function.py").write_text((SOURCE.parent / "jobs.py").read_text())
    output = tmp_path / "o.ome.zarr"
    words = [sys.executable, "-m", "napari_blockbuster.cli", "segment", image, "-o", output, "--tile", "8", "12", "10"]
    words += ["--halo", "3", "--model", f"{tmp_path / 'function.py'}:components", "--merge", "touch"]
    for more in (["--workers", "2", "--tile-timeout", "60"], ["--workers", "0", "--overwrite"]):
        done = subprocess.run([*map(str, words), *more], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert chunks_of(output) == expected
    assert not exchange(output, tmp_path / "function.py")
    assert output.is_dir()


def test_a_c_library_that_cannot_be_had_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows ``ctypes.CDLL(None)`` raises TypeError: the result must get its name all the same."""
    import ctypes

    from napari_blockbuster.output.place import put_in_place

    def refuse(name: object, *_: object) -> None:
        raise TypeError("bad argument type for built-in operation")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    put_in_place(tmp_path / "new", tmp_path / "old", overwrite=True)
    assert [p.name for p in tmp_path.rglob("*")] == ["old", "new"]


def test_the_note_of_a_time_limit_is_closed_before_it_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows deletes no file that is open."""
    from napari_blockbuster.execution.time_limit import time_limit

    note, deleted = tmp_path / "note", []
    real = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        opened = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        deleted.append(str(path) not in opened)
        real(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    with time_limit(60, note):
        assert note.exists()
    assert deleted == [True]
    assert not note.exists()


def test_posix_calls_are_in_one_module() -> None:
    """Every other module uses them through `napari_blockbuster.machine.system`, which has the fallbacks."""
    only_there = (
        "fcntl",
        "CDLL(",
        "renameat2",
        "os.fsync",
        "os.fork",
        "geteuid",
        "getuid",
        "/proc/",
        "start_new_session",
    )
    source = Path(exchange.__code__.co_filename).parent.parent
    found = {
        f"{path.relative_to(source)}: {word}"
        for path in source.rglob("*.py")
        for word in only_there
        if path.name != "system.py" and word in path.read_text("utf-8")
    }
    assert found == set()


def test_memory_is_left_alone_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_blockbuster.machine.memory.freed_memory import keep_freed_memory
    from napari_blockbuster.machine.system import glibc

    monkeypatch.setenv(PORTABLE, "1")
    glibc.cache_clear()
    try:
        with keep_freed_memory():
            assert glibc() is None
            assert np.ones(10).sum() == 10
    finally:
        glibc.cache_clear()
