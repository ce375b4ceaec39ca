"""Waits for another process that works on a tile, and notes that such a process leaves."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from napari_blockbuster import Job
from napari_blockbuster.execution.time_limit import TileTimeoutError
from napari_blockbuster.machine.patience import WaitWarning
from napari_blockbuster.machine.system import has_file_locks
from napari_blockbuster.stage import claims
from napari_blockbuster.stage.claims import Claim
from napari_blockbuster.stage.work import StageWork


@pytest.mark.skipif(not has_file_locks(), reason="tiles are not claimed without locks of files")
def test_a_wait_for_a_tile_says_for_whom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "SAID", 0.1)
    held = Claim.take(tmp_path / "3.lock", lambda: False)
    releasing = threading.Timer(0.5, held.release)
    releasing.start()
    try:
        with pytest.warns(
            WaitWarning, match=r"Waiting for process \d+ on .+, which still works on a tile for another driver"
        ):
            Claim.take(tmp_path / "3.lock", lambda: False).release()
    finally:
        releasing.join()


def test_the_note_of_a_worker_that_hung_is_told_as_a_hang(tmp_path: Path) -> None:
    """dask reports the death of a worker in the same way, whatever ended it."""
    job = Job.create(np.zeros((8, 8), np.uint8), "threshold", tmp_path / "o.ome.zarr", tile_shape=8, halo=0)
    assert job.source is not None
    assert job.model is not None
    work = StageWork.of(job.store, job.model, job.source, time_limit=6)
    assert work.hang(0) is None
    note = job.store.hang_note(0)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text("Thread 0x1: model.py, line 3 in find")
    error = work.hang(0)
    assert isinstance(error, TileTimeoutError)
    assert error.__notes__ == ["Thread 0x1: model.py, line 3 in find"]
    failure = work.lost(0, error)
    assert "no result within the time limit of 6 s" in failure.message
    assert "line 3 in find" in failure.traceback
    # A death without a note, and a run without a limit.
    assert work.hang(0) is None
    assert StageWork.of(job.store, job.model, job.source).hang(0) is None
