"""Runs that are killed anywhere, many times over: what comes out is what an undisturbed run gives, bit for bit.

The soak, a thousand seeds, is ``tox -e tests -- -s -m soak tests/system/test_faults.py``.
"""

from __future__ import annotations

import shutil
import sys
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from faults import Undisturbed, survive, undisturbed

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
SEEDS, SOAK = 20, 1000


@pytest.fixture(scope="module")
def peace(context: ForkServerContext, place: Path) -> Undisturbed:
    return undisturbed(context, place / "peace")


@pytest.mark.parametrize("decade", range(SEEDS // 10))
def test_a_run_killed_anywhere_goes_on(
    context: ForkServerContext, peace: Undisturbed, place: Path, decade: int
) -> None:
    for seed in range(10 * decade, 10 * decade + 10):
        survive(context, place / str(seed), seed, peace)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_soak(context: ForkServerContext, peace: Undisturbed, place: Path) -> None:
    began = time.monotonic()
    for seed in range(1_000, 1_000 + SOAK):
        print(f"{time.monotonic() - began:7.1f} s  {survive(context, place / str(seed), seed, peace)}", flush=True)
        shutil.rmtree(place / str(seed))


def test_killing_reaches_every_step(peace: Undisturbed) -> None:
    """Where a run is killed: making the job, tiles, evidence, merging, writing, renaming, closing the books."""
    told = "\n".join(peace.operations)
    for step in (
        "job.json",
        "lock.json",
        "/labels/c/0/0/.0.",
        "/tiles/0-999/.7.tile",
        "/seams/",
        "placing.json",
        "os.rename",
        ".part/labels/zarr.json",
        ".own/",
        "shutil.rmtree",
    ):
        assert step in told, step
