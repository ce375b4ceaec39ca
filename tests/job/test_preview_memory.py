"""A preview says how much memory a worker took, of how much, and when that is nearly too much."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np
import pytest

from napari_blockbuster.images import open_image
from napari_blockbuster.job.preview import Preview, preview_tile, warm_up
from napari_blockbuster.job.setup.suggestion import make_grid
from napari_blockbuster.machine.memory.peak_memory import PeakMemory
from napari_blockbuster.models import as_model, get_model
from napari_blockbuster.models.planes import prepared_on

MIB = 2**20
PIXELS = np.zeros((64, 64), np.uint8)
PIXELS[10:20, 10:20] = 1


def hungry(tile: np.ndarray) -> np.ndarray:
    """Labels, and for a moment 300 MiB."""
    taken = np.ones(300 * MIB, np.uint8)
    return np.where(tile > 0, taken[0], 0).astype(np.int32)


def preview(client: Any = None) -> Preview:
    source = open_image(PIXELS)
    found = preview_tile(source, as_model(hungry), make_grid(source, (64, 64), (0, 0)), 0, client)
    assert found is not None
    return found


def test_a_peak_is_seen_though_it_is_over() -> None:
    with PeakMemory() as peak:
        taken = np.ones(200 * MIB, np.uint8)
        del taken
    assert 190 * MIB < peak.rise < 1000 * MIB
    with PeakMemory() as calm:
        pass
    assert calm.rise < 50 * MIB
    assert calm.before < peak.most


def test_a_preview_tells_the_peak_of_its_tile() -> None:
    with PeakMemory() as here:
        pass
    found = preview()
    assert found.peak_bytes > here.before + 290 * MIB
    assert found.limit_bytes is None
    assert not found.tight
    assert found.footprint == ""


def test_a_preview_on_a_worker_knows_its_limit(client: Any) -> None:
    found = preview(client)
    limits = {worker["memory_limit"] for worker in client.scheduler_info()["workers"].values()}
    assert {found.limit_bytes} == limits
    assert found.limit_bytes is not None
    assert found.peak_bytes > 300 * MIB
    assert found.tight == (found.peak_bytes > 0.7 * found.limit_bytes)


def test_workers_that_are_warm_import_nothing_for_a_first_tile(client: Any) -> None:
    def imported() -> set[str]:
        return {
            name for name in sys.modules if name.startswith(("scipy.", "numba", "pandas", "napari_blockbuster.models"))
        }

    source = open_image(PIXELS)
    warm_up(client)
    before = client.run(imported)
    assert all("scipy.ndimage" in names for names in before.values())
    model = prepared_on(get_model("voronoi-otsu", diameter=10), source)
    assert preview_tile(source, model, make_grid(source, (64, 64), (0, 0)), 0, client) is not None
    after = client.run(imported)
    assert {name for worker in before for name in after[worker] - before[worker]} == set()


def test_what_is_nearly_too_much_is_said_with_a_remedy() -> None:
    pytest.importorskip("qtpy")
    from napari_blockbuster.widgets.preview.section import _memory

    found = dataclasses.replace(preview(), peak_bytes=500 * MIB, limit_bytes=1000 * MIB, footprint="weights 3 MiB")
    assert not found.tight
    assert "Choose" not in _memory(found)
    assert "weights 3 MiB" in _memory(found)
    close = dataclasses.replace(found, peak_bytes=800 * MIB)
    assert close.tight
    assert "Choose smaller tiles, a smaller batch or fewer workers" in _memory(close)
