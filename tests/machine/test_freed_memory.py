"""What one tile frees is kept for the next one, and given back at the end."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from napari_blockbuster.machine.memory.freed_memory import keep_freed_memory

SCRIPT = """
import os, numpy as np, psutil
from napari_blockbuster.execution.queue import TileQueue
from napari_blockbuster.execution.run import run
from napari_blockbuster.execution.work import Work

def resident():
    return psutil.Process().memory_info().rss / 2**20

class Hungry(Work):
    # 200 MiB for each tile, freed before the next one
    def ahead(self, item):
        return None
    ship = ahead
    def __call__(self, item, payload):
        np.ones(200 * 2**20, np.uint8).sum()
        return lambda: resident()
    def lost(self, item, error):
        raise error

np.ones(2**26, np.uint8).sum()
before = resident()
during = [r for r in run(Hungry(), TileQueue(range(5)), None)]
print(before, max(during), resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has these switches")
def test_memory_is_kept_between_tiles_and_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    before, during, after = map(float, done.stdout.split())
    assert during > before + 150
    assert during < before + 300, "kept, but not more with each tile"
    assert after < before + 50


def test_it_can_be_nested_and_left_by_an_error() -> None:
    with pytest.raises(ZeroDivisionError), keep_freed_memory(), keep_freed_memory():
        _ = 1 / 0
    with keep_freed_memory():
        pass
