"""Processors and memory of this process: the values of dask, without importing it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from napari_blockbuster.machine import limits


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree of control groups."""
    monkeypatch.setattr(limits, "GROUPS", tmp_path)
    for function in (limits.cpu_count, limits.memory_limit_bytes):
        monkeypatch.setattr(limits, function.__name__, function.__wrapped__)
    return tmp_path


def test_limits_are_those_of_dask() -> None:
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    assert limits.cpu_count() == CPU_COUNT
    assert limits.memory_limit_bytes() == MEMORY_LIMIT


@pytest.mark.parametrize(
    ("files", "memory"),
    [
        ({"memory.max": "123456\n"}, 123456),
        ({"memory.max": "max\n", "memory.high": "99999"}, 99999),
        ({"memory/memory.limit_in_bytes": "77777"}, 77777),
    ],
)
def test_memory_of_a_control_group(groups: Path, files: dict[str, str], memory: int) -> None:
    for name, text in files.items():
        (groups / name).parent.mkdir(exist_ok=True)
        (groups / name).write_text(text)
    assert limits.memory_limit_bytes() == memory


def test_processors_of_a_control_group(groups: Path) -> None:
    free = limits.cpu_count()
    (groups / "cpu.max").write_text("max 100000\n")
    assert limits.cpu_count() == free
    (groups / "cpu.max").write_text("50000 100000\n")
    assert limits.cpu_count() == 1
    (groups / "cpu.max").unlink()
    (groups / "cpu,cpuacct").mkdir()
    (groups / "cpu,cpuacct" / "cpu.cfs_quota_us").write_text("-1")
    (groups / "cpu,cpuacct" / "cpu.cfs_period_us").write_text("100000")
    assert limits.cpu_count() == free


def test_a_run_without_a_cluster_imports_no_library_of_clusters(tmp_path: Path) -> None:
    """Its import takes as long as the run of a small image."""
    code = (
        "import sys, numpy as np; from napari_blockbuster import segment\n"
        "image = np.zeros((40, 40), 'uint8'); image[5:9, 5:9] = 9\n"
        f"result = segment(image, 'threshold', {str(tmp_path / 'o.ome.zarr')!r}, tile_shape=20, halo=2, progress=False)\n"
        "assert result.n_objects == 1\n"
        "print(sorted({'distributed', 'rich', 'tifffile'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)
    assert done.stdout.strip() == "[]", done.stderr
