"""The queue of tiles, and running work here."""

from __future__ import annotations

import itertools
import threading

from hypothesis import given
from hypothesis import strategies as st

from napari_blockbuster.execution.queue import TileQueue
from napari_blockbuster.execution.run import run
from napari_blockbuster.execution.work import Work


@given(st.integers(0, 60), st.integers(1, 5), st.randoms(use_true_random=False))
def test_every_tile_is_handed_out_once_whoever_asks(n: int, workers: int, random) -> None:
    waiting = TileQueue(range(n))
    taken = []
    while (item := waiting.take(f"w{random.randrange(workers)}")) is not None:
        taken.append(item)
        if random.random() < 0.2:
            waiting.prefer(random.sample(range(n), min(n, 3)))
    assert sorted(taken) == list(range(n))
    assert len(waiting) == 0


def test_a_worker_keeps_to_neighbors() -> None:
    waiting = TileQueue(range(100))
    taken: dict[str, list[int]] = {"a": [], "b": []}
    for worker in itertools.islice(itertools.cycle("ab"), 100):
        item = waiting.take(worker)
        assert item is not None
        taken[worker].append(item)
    jumps = [sum(abs(y - x) != 1 for x, y in itertools.pairwise(items)) for items in taken.values()]
    assert max(jumps) <= 3, taken


def test_preferred_tiles_run_next_and_replace_those_preferred_before() -> None:
    waiting = TileQueue(range(10))
    assert waiting.take() == 0
    waiting.prefer([7, 3])
    assert waiting.take() == 7
    waiting.prefer([9, 0])
    assert [waiting.take() for _ in range(3)] == [9, 1, 2]


class Doubling(Work):
    """Doubles its item; 3 raises while computing, 5 while finishing."""

    def __init__(self) -> None:
        self.alive = 0
        self.most = 0
        self.lock = threading.Lock()

    def ahead(self, item: int) -> int:
        with self.lock:
            self.alive += 1
            self.most = max(self.most, self.alive)
        return item

    ship = ahead

    def __call__(self, item: int, payload: int):
        assert item == payload
        if item == 3:
            self.alive -= 1
            raise ValueError("three")

        def finish() -> int:
            with self.lock:
                self.alive -= 1
            if item == 5:
                raise OSError("five")
            return 2 * item

        return finish

    def lost(self, item: int, error: BaseException) -> str:
        return f"{item}: {error}"


def test_work_here_loses_no_item_and_holds_few() -> None:
    work = Doubling()
    results = list(run(work, TileQueue(range(50)), None))
    assert len(results) == 50
    assert {"3: three", "5: five"} <= set(results)
    assert {2 * i for i in range(50) if i not in (3, 5)} <= set(results)
    assert work.most <= 4


def test_closing_the_iterator_stops_the_run() -> None:
    work = Doubling()
    results = run(work, TileQueue(range(1000)), None)
    next(results)
    results.close()
    assert work.alive <= 2
