"""An error that ends a run reaches the driver, also if its traceback cannot be pickled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from napari_blockbuster.execution.queue import TileQueue
from napari_blockbuster.execution.run import run
from napari_blockbuster.execution.work import Work
from napari_blockbuster.machine.errors import JobError


def fall(depth: int) -> None:
    if depth == 0:
        raise JobError("disk full")
    fall(depth - 1)


class Falling(Work[None]):
    """Every item raises an error that ends the run, from the depths of a recursion."""

    functions = (fall,)

    def ahead(self, item: int) -> None:
        return None

    ship = ahead

    def __call__(self, item: int, payload: Any) -> Callable[[], None]:
        raise ValueError("no labels")

    def lost(self, item: int, error: BaseException) -> None:
        fall(900)


@pytest.mark.timeout(60)
def test_an_error_with_a_deep_traceback_ends_the_run(client) -> None:
    with pytest.raises(JobError, match="disk full"):
        list(run(Falling(), TileQueue([0]), client))
