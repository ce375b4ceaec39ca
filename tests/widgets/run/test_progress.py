"""Progress of a run: rate, time left, and how often it is updated."""

from __future__ import annotations

import time
from typing import Any

import pytest

from napari_blockbuster.job.progress.performance import Performance
from napari_blockbuster.stage.records.records import TileRecord
from napari_blockbuster.widgets.run.control import events as run_events
from napari_blockbuster.widgets.run.control.events import Meter, StepProgress
from napari_blockbuster.widgets.run.footer import RunFooter


@pytest.fixture
def clock(monkeypatch: Any) -> list[float]:
    """Seconds that only the test moves."""
    now = [1000.0]
    real = run_events.Pace
    monkeypatch.setattr(run_events, "Pace", lambda: real(clock=lambda: now[0]))
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_rate_and_time_left_are_those_of_this_run(clock: list[float]) -> None:
    meter = Meter()
    meter.report(40, 100, 0)
    assert meter.progress == StepProgress(40, 100)
    meter.begin()
    # Workers start: nothing is heard of them until they are up.
    clock[0] += 60
    meter.report(40, 100, 0)
    for done in range(41, 51):
        clock[0] += 2
        meter.report(done, 100, 0, new=1)
    assert meter.progress.rate == pytest.approx(0.5)
    assert meter.progress.seconds_left == pytest.approx(100)

    # Paused for an hour: the pause says nothing of the tiles.
    meter.begin()
    clock[0] += 3600
    meter.report(50, 100, 0)
    assert meter.progress.rate == 0
    assert meter.progress.seconds_left is None
    clock[0] += 4
    meter.report(51, 100, 0, new=1)
    assert meter.progress.rate == pytest.approx(0.25)


def test_tiles_that_end_at_once_after_resuming_have_no_rate(clock: list[float]) -> None:
    meter = Meter()
    meter.begin()
    for done in range(40, 50):
        clock[0] += 0.0001
        meter.report(done, 100, 0, new=1)
    assert meter.progress == StepProgress(49, 100)
    clock[0] += 9
    meter.report(58, 100, 0, new=1)
    assert meter.progress.rate == pytest.approx(2, rel=0.01)


def test_what_streams_in_is_told_twice_a_second_and_a_failure_at_once(clock: list[float]) -> None:
    meter = Meter()
    meter.begin()
    told = []
    for done in range(100):
        told.append(meter.report(done, 200, 0, new=1))
        clock[0] += 0.1
    assert 19 <= sum(told) <= 21
    assert meter.report(100, 200, 0, new=1) + meter.report(101, 200, 0, new=1) <= 1
    assert meter.report(101, 200, 1, new=1)
    assert meter.progress.failed == 1
    assert meter.report(199, 200, 1, new=1), "the last one is always told"


@pytest.mark.parametrize(("width", "is_room"), [(600, True), (90, False)])
def test_the_footer_says_how_busy_the_model_is_without_growing(qtbot: Any, width: int, is_room: bool) -> None:
    footer, performance = RunFooter(), Performance()
    status = footer.status
    qtbot.addWidget(footer)
    footer.show()
    footer.show_state("staging")
    footer.say("Segmenting", '<a href="http://127.0.0.1:8787">dask dashboard</a>')
    status.resize(width, 20)
    height = status.heightForWidth(width)
    footer.show_performance(performance)
    assert footer.bar.toolTip() == ""
    for index in range(8):
        performance.add(TileRecord(index, 1, turn_seconds=0.5, read_wait=0.5))
    footer.show_performance(performance)
    assert status.width() == width
    assert ("model busy 50 %" in status.text()) == is_room
    assert status.heightForWidth(width) == height
    # What it waits for and what helps, in full.
    for widget in (footer.bar, status):
        assert "Model busy 50 % of the time, waits 0.50 s for reading per tile." in widget.toolTip()
        assert "convert the image to chunks" in widget.toolTip()
    # The tooltips stay after the run.
    footer.show_state("staged")
    assert "busy" not in status.text()
    assert "busy" in status.toolTip()
    footer.show_state("idle")
    assert status.toolTip() == ""
