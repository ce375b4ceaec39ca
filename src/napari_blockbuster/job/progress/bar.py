"""Progress on a terminal: tiles, rate, time left, failures. A log file gets a line every half minute."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .events import Heartbeat, StageEvent, TileFailed

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Pace", "Progress", "duration"]

LONG_WAIT = 2.0
"""Seconds of a wait before a log file names what the run waits for."""
QUIET_SECONDS = 30.0
"""Seconds between two lines in a log file: the log of a night stays readable."""
LISTED_FAILURES = 10
"""Failures listed one by one. Thousands of tiles that fail for one reason are counted."""


class Pace:
    """Rate of finished items, and the time left.

    Items that were finished before the first report do not count: a resumed run is as fast as its new tiles.
    """

    def __init__(self, unit: str = "tile", clock: Callable[[], float] = time.monotonic) -> None:
        self._unit, self._clock = unit, clock
        self._began = clock()
        self._first: int | None = None
        self._done = self._total = 0

    def report(self, done: int, total: int, new: int = 1) -> None:
        """Record that `done` of `total` are finished. At the first report, `new` of them were finished since the start."""
        if self._first is None:
            self._first = done - new
        self._done, self._total = done, total

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._began

    @property
    def rate(self) -> float | None:
        """Items per second; None before the first one is finished."""
        new = self._done - (self._first or 0)
        return new / self.seconds if new > 0 and self.seconds > 0 else None

    @property
    def left(self) -> float | None:
        """Seconds left at this rate; None while the rate is unknown."""
        rate = self.rate
        return None if rate is None else (self._total - self._done) / rate

    def __str__(self) -> str:
        rate = self.rate
        if rate is None:
            return ""
        return f"{rate:.1f} {self._unit}s/s" if rate >= 1 else f"{1 / rate:.1f} s/{self._unit}"


@dataclass(frozen=True)
class _Counts:
    done: int
    total: int
    failed: int = 0
    new: int = 1
    waits_for: str = ""


class Progress:
    """Progress of a job, one line for each step.

    Parameters
    ----------
    enabled : bool, default True
        False shows nothing.
    console : rich.console.Console, optional
        Default: standard error.
    """

    def __init__(self, enabled: bool = True, console: Console | None = None) -> None:
        self._enabled = enabled
        self._live = False
        self._bar: Any = contextlib.nullcontext()
        if enabled:
            self._make_bar(console)
        self._tasks: dict[str, Any] = {}
        self._paces: dict[str, Pace] = {}
        self._said: dict[str, float] = {}
        self._waits_for, self._wait_due = "", math.inf

    def _make_bar(self, console: Console | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        self._console = console or Console(stderr=True)
        # A log file gets plain lines: a live bar would be one endless line there.
        self._live = self._console.is_terminal
        self._bar = Bar(
            TextColumn("{task.description:<8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TextColumn("[red]{task.fields[failed]}"),
            console=self._console,
            disable=not self._live,
        )

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def follow(self, events: Iterable[StageEvent], step: str = "staging") -> list[TileFailed]:
        """Consume the events of a staging run and show them; return the failures."""
        failures: list[TileFailed] = []
        self._paces[step] = Pace()
        for event in events:
            if isinstance(event, TileFailed):
                failures.append(event)
                self._list_failure(event, len(failures))
            news, waits_for = (0, event.waits_for) if isinstance(event, Heartbeat) else (1, "")
            self._show(step, _Counts(event.done + len(failures), event.total, len(failures), news, waits_for))
        return failures

    def advance_to(self, step: str) -> Callable[[int, int], None]:
        """Return a ``progress(done, total)`` callback for a step."""
        return lambda done, total: self._show(step, _Counts(done, total))

    def _list_failure(self, event: TileFailed, number: int) -> None:
        if self._enabled and number == LISTED_FAILURES + 1:
            self._console.print("further failures are only counted. The job folder keeps them all", style="red")
        elif self._enabled and number <= LISTED_FAILURES:
            # The message may contain brackets (shapes, slices): it is text, not markup.
            first = event.failure.message.strip().partition("\n")[0]
            self._console.print(
                f"tile {event.tile.index} failed: {event.failure.error}: {first}",
                style="red",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    def _show(self, step: str, counts: _Counts) -> None:
        done, total = counts.done, counts.total
        pace = self._paces.setdefault(step, Pace("block"))
        pace.report(done, total, counts.new)
        text = f"waiting for {counts.waits_for}" if counts.waits_for else _text(pace)
        failures = f"{counts.failed} failed" if counts.failed else ""
        if self._live:
            if step not in self._tasks:
                self._tasks[step] = self._bar.add_task(step, total=total, text="", failed="")
            self._bar.update(self._tasks[step], completed=done, total=total, text=text, failed=failures)
        elif self._enabled:
            self._write_line(step, counts, [f"{step} {done}/{total}", text, failures])

    def _is_long_wait(self, waits_for: str) -> bool:
        """Whether the run has waited for the same thing for a while; true once for each wait."""
        now = time.monotonic()
        if waits_for != self._waits_for:
            self._waits_for, self._wait_due = waits_for, now + LONG_WAIT
        if not waits_for or now < self._wait_due:
            return False
        self._wait_due = math.inf
        return True

    def _write_line(self, step: str, counts: _Counts, parts: list[str]) -> None:
        seconds = self._paces[step].seconds
        at_once = self._is_long_wait(counts.waits_for) or counts.done >= counts.total
        if not at_once and seconds - self._said.get(step, 0.0) < QUIET_SECONDS:
            return
        self._said[step] = seconds
        self._console.print(", ".join(p for p in parts if p), markup=False, highlight=False, soft_wrap=True)


def _text(pace: Pace) -> str:
    """Return the rate, and the time left or, at the end, the time taken."""
    left = pace.left
    if left is None:
        return duration(pace.seconds)
    return f"{pace}, {duration(left)} left" if left > 0 else f"{pace}, took {duration(pace.seconds)}"


def duration(seconds: float) -> str:
    """Return seconds in the two largest units: ``8.2 s``, ``3 min 20 s``, ``14 h 05 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
