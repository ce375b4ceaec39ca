"""Run work in this process, one tile at a time."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from napari_blockbuster.machine.memory.freed_memory import keep_freed_memory

from .queue import TileQueue
from .turns import exclusive
from .work import R, Work

__all__ = ["run_here"]


def run_here(work: Work[R], waiting: TileQueue) -> Generator[R, None, None]:
    """Run work on all waiting items in this thread and yield the results."""
    attempts: Counter[int] = Counter()
    with keep_freed_memory():
        # A second pass is for items that failed after the queue was empty.
        while waiting:
            for item, result in _pass_here(work, waiting):
                attempts[item] += 1
                if work.retry(result, attempts[item]):
                    waiting.add([item])
                else:
                    yield result


def _pass_here(work: Work[R], waiting: TileQueue) -> Iterator[tuple[int, R]]:
    """Compute one item while the one before is written and the one after is read."""
    with ThreadPoolExecutor(1, "blockbuster-finish") as finisher:
        unfinished: deque[tuple[int, ThreadFuture[R]]] = deque()
        item = waiting.take()
        payload = _ahead(work, item)
        while item is not None:
            following = waiting.take()
            upcoming = _ahead(work, following)
            began = time.perf_counter()
            try:
                if isinstance(payload, _NotRead):
                    raise payload.error
                prepared = work.prepare(item, payload)
                with exclusive() if work.takes_turns else contextlib.nullcontext():
                    finish = work(item, prepared)
                unfinished.append((item, finisher.submit(finish)))
                del prepared, finish
            except Exception as error:
                yield item, work.lost(item, error)
            # Only quick work gains from the overlap. After a slow model, a tile is reported before the next one starts.
            slow = time.perf_counter() - began > 1.0
            while unfinished and (slow or len(unfinished) > 1 or unfinished[0][1].done()):
                yield _finished(work, *unfinished.popleft())
            item, payload = following, upcoming
        while unfinished:
            yield _finished(work, *unfinished.popleft())


class _NotRead(NamedTuple):
    error: Exception


def _ahead(work: Work[R], item: int | None) -> Any:
    """Return the payload of an item. An error is kept until the item runs."""
    try:
        return work.ahead(item) if item is not None else None
    except Exception as error:
        return _NotRead(error)


def _finished(work: Work[R], item: int, future: ThreadFuture[R]) -> tuple[int, R]:
    try:
        return item, future.result()
    except Exception as error:
        return item, work.lost(item, error)
