"""The compiled sums where their cache cannot be written."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import napari_blockbuster

SUMS = """
import os
import numpy as np
from napari_blockbuster.stage.sums import kernels
from napari_blockbuster.stage.sums.label_sums import tile_sums
print(kernels.__file__, tile_sums(np.ones((2, 3), np.uint32), 1, np.ones((2, 3))).place[0, 0])
print("writable" if os.access(os.path.dirname(kernels.__file__), os.W_OK) else "no")
"""
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1


def obey_permissions() -> None:
    """Let the permissions of files hold for the superuser, too: in a program that this process becomes."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities of Linux")
def test_a_package_in_a_folder_that_is_read_only_sums_without_a_cache(tmp_path: Path) -> None:
    package, home = tmp_path / "installed" / "napari_blockbuster", tmp_path / "home"
    shutil.copytree(Path(napari_blockbuster.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    home.mkdir()
    paths = [home, package, *package.rglob("*")]
    for path in paths:
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(package.parent), "HOME": str(home)}
    try:
        done = subprocess.run(
            [sys.executable, "-c", SUMS],
            env=environment,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=200,
            preexec_fn=obey_permissions,
        )
    finally:
        for path in paths:
            path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(package / "stage" / "sums" / "kernels.py"), "6", "no"]
    assert not list(package.rglob("*.nbi"))
    assert not list(home.iterdir())
