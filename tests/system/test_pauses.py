"""Runs that are stopped anywhere, lose their job to another run, and continue: the result is wholly that of one run.

The soak, 500 seeds, is ``tox -e tests -- -s -m soak tests/system/test_pauses.py``.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from faults import undisturbed
from pauses import Peace, peace_of_both, surprise, take_over, take_over_cluster

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stops processes and reads /proc")
SEEDS, SOAK = 50 if os.environ.get("CI") else 20, 500


@pytest.fixture(scope="module")
def peace(context: ForkServerContext, place: Path) -> Peace:
    return peace_of_both(context, place / "other", undisturbed(context, place / "peace"))


STEPS = {
    "folders of the labels": ("os.mkdir", "/labels/c", 0),
    "labels": ("os.rename", "/labels/c/", 1),
    "marker": ("open", "/tiles/0-999/.3.tile.", 0),
    "name of the marker": ("os.rename", "/tiles/0-999/.3.tile.", 0),
    "evidence": ("open", "/seams/", 0),
    "merge": ("os.scandir", "/seams/", 0),
    "writing": ("open", ".part/labels/zarr.json", 0),
    "placing": ("os.rename", ".part/labels", 0),
    # The first and the last rename out of the private folder after that.
    "record": ("os.rename", ".own/", 1),
    "deletion of the tiles": ("os.rename", "out.ome.zarr.job/stage-", -1),
    "release of the lock": ("os.rename", "out.ome.zarr.job/lock.json", -1),
}
"""The call before which the first run is stopped: its name, a part of its first path, and which of them."""


@pytest.mark.parametrize("replaces", [True, False], ids=["replaced", "resumed"])
@pytest.mark.parametrize("step", STEPS)
def test_a_run_that_was_taken_over_at_a_step_changes_nothing_after_it(
    context: ForkServerContext, peace: Peace, place: Path, step: str, replaces: bool
) -> None:
    event, path, which = STEPS[step]
    calls = peace.run.operations
    at = [n for n, call in enumerate(calls, 1) if call.startswith(event) and path in call]
    if step == "record":
        placed = [n for n in range(len(calls)) if calls[n].startswith("os.rename") and ".part/labels" in calls[n]]
        at = [0, *(n for n in at if n > placed[-1])]
    take_over(context, place / f"{step}-{replaces}", at[which], replaces, peace)


@pytest.mark.parametrize("five", range(SEEDS // 5))
def test_a_run_that_was_taken_over_anywhere_changes_nothing_after_it(
    context: ForkServerContext, peace: Peace, place: Path, five: int
) -> None:
    for seed in range(5 * five, 5 * five + 5):
        surprise(context, place / str(seed), seed, peace)


@pytest.mark.parametrize("kind", ["driver", "scheduler", "worker"])
def test_a_run_on_a_cluster_that_was_taken_over_changes_nothing_after_it(
    context: ForkServerContext, peace: Peace, place: Path, kind: str
) -> None:
    take_over_cluster(context, place / f"cluster-{kind}", 0, peace, kind)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("hundred", range(SOAK // 100))
def test_soak(context: ForkServerContext, peace: Peace, place: Path, hundred: int) -> None:
    """Four seeds in five stop a driver that works alone, the others a part of a cluster."""
    began = time.monotonic()
    for seed in range(1_000 + 100 * hundred, 1_100 + 100 * hundred):
        stop = surprise if seed % 5 else take_over_cluster
        print(f"{time.monotonic() - began:7.1f} s  {stop(context, place / str(seed), seed, peace)}", flush=True)
        shutil.rmtree(place / str(seed))
