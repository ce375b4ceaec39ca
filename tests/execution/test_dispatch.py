"""The order in which items go to workers."""

from __future__ import annotations

from napari_blockbuster.execution.cluster_run.dispatch import Dispatch
from napari_blockbuster.execution.queue import TileQueue


def test_an_item_that_failed_goes_to_another_worker_if_there_is_one() -> None:
    dispatch = Dispatch(TileQueue([]))
    dispatch.retry(7, failed_on="a")
    assert dispatch.next("a", only_worker=False, idle=True) is None
    assert dispatch.next("b", only_worker=False, idle=True) == 7
    dispatch.retry(7, failed_on="a")
    assert dispatch.next("a", only_worker=True, idle=True) == 7
    assert not dispatch


def test_a_suspect_runs_last_and_alone_and_only_once() -> None:
    dispatch = Dispatch(TileQueue([0, 1]))
    assert dispatch.next("a", only_worker=False, idle=True) == 0
    assert dispatch.suspect(0)
    assert dispatch.next("a", only_worker=False, idle=False) == 1
    assert dispatch.next("a", only_worker=False, idle=False) is None
    assert dispatch
    assert dispatch.next("a", only_worker=False, idle=True) == dispatch.alone == 0
    assert not dispatch.suspect(0)
