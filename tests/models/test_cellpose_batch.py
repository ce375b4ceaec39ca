"""Workers that share a GPU measure the batch once."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from napari_blockbuster.machine.gpus import GPU_SHARE
from napari_blockbuster.models.cellpose.batch import agreed


def _slow(folder: str, value: int) -> int:
    (Path(folder) / f"measured-{os.getpid()}").touch()
    time.sleep(0.3)
    return value


def _worker(folder: str, value: int, key: str, queue: multiprocessing.Queue) -> None:
    os.environ |= {GPU_SHARE: "3", "TMPDIR": folder}
    queue.put(agreed(key, lambda: _slow(folder, value)))


def ask(folder: Path, values: list[int], key: str = "network") -> list[int]:
    """Answers of processes that measure these values, all at the same time."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_worker, args=(str(folder), value, key, queue)) for value in values]
    for worker in workers:
        worker.start()
    answers = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
    return answers


def test_three_workers_measure_once_and_agree(tmp_path: Path) -> None:
    answers = ask(tmp_path, [8, 16, 32])
    assert len(set(answers)) == 1
    assert len(list(tmp_path.glob("measured-*"))) == 1
    assert ask(tmp_path, [64], "another network") == [64]
    (known,) = {path for path in tmp_path.glob("*.batch") if path.read_text() == str(answers[0])}
    os.utime(known, (time.time() - 3600,) * 2)
    assert ask(tmp_path, [5]) == [5], "an old measurement is of another day"


def test_a_worker_alone_on_its_gpu_measures_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv(GPU_SHARE, raising=False)
    assert agreed("network", lambda: 16) == 16
    assert not list(tmp_path.iterdir())
