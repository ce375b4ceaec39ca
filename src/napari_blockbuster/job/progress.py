"""Progress on a terminal: tiles, rate, time left, failures. A line now and then where output goes to a file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .job import Heartbeat, StageEvent, TileFailed

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Pace", "Progress", "duration"]

LONG_WAIT = 2.0
"""Seconds of a wait after which a log file says what the run waits for."""
QUIET_SECONDS = 30.0
"""Between two lines in a log file: a night's run stays readable."""
TOLD_FAILURES = 10
"""Failures told one by one; thousands of tiles that fail for one reason are counted."""


class Pace:
    """How fast things get done, and when they will be.

    What was there before the first report does not count: a resumed run is as fast as its new tiles.
    """

    def __init__(self, unit: str = "tile", clock: Callable[[], float] = time.monotonic) -> None:
        self._unit, self._clock = unit, clock
        self._began = clock()
        self._first: int | None = None
        self._done = self._total = 0

    def report(self, done: int, total: int, new: int = 1) -> None:
        """Note that `done` of `total` are finished; `new` of them are news at the first report."""
        if self._first is None:
            self._first = done - new
        self._done, self._total = done, total

    @property
    def seconds(self) -> float:
        """Since the start."""
        return self._clock() - self._began

    @property
    def rate(self) -> float | None:
        """Per second; None before anything is done."""
        new = self._done - (self._first or 0)
        return new / self.seconds if new > 0 and self.seconds > 0 else None

    @property
    def left(self) -> float | None:
        """Seconds to the end at this rate; None while it is unknown."""
        rate = self.rate
        return None if rate is None else (self._total - self._done) / rate

    def __str__(self) -> str:
        rate = self.rate
        if rate is None:
            return ""
        return f"{rate:.1f} {self._unit}s/s" if rate >= 1 else f"{1 / rate:.1f} s/{self._unit}"


class Progress:
    """Shows how a job gets on, one line for each step.

    Parameters
    ----------
    enabled : bool, default True
        False shows nothing.
    console : rich.console.Console, optional
        Default: standard error.
    """

    def __init__(self, enabled: bool = True, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        self._enabled = enabled
        self._console = console or Console(stderr=True)
        # A live bar in a log file would be one line without an end: there, plain lines are written instead.
        self._live = enabled and self._console.is_terminal
        self._bar = Bar(
            TextColumn("{task.description:<8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TextColumn("[red]{task.fields[failed]}"),
            console=self._console,
            disable=not self._live,
        )
        self._tasks: dict[str, Any] = {}
        self._paces: dict[str, Pace] = {}
        self._said: dict[str, float] = {}
        self._waits_for, self._tell_wait = "", math.inf

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def follow(self, events: Iterable[StageEvent], step: str = "staging") -> list[TileFailed]:
        """Consume the events of a staging run and show them; returns the failures."""
        failures: list[TileFailed] = []
        self._paces[step] = Pace()
        for event in events:
            if isinstance(event, TileFailed):
                failures.append(event)
                self._tell_failure(event, len(failures))
            news, waits_for = (0, event.waits_for) if isinstance(event, Heartbeat) else (1, "")
            self._show(step, event.done + len(failures), event.total, len(failures), news, waits_for)
        return failures

    def advance_to(self, step: str) -> Callable[[int, int], None]:
        """A ``progress(done, total)`` callback for a step."""
        return lambda done, total: self._show(step, done, total)

    def _tell_failure(self, event: TileFailed, number: int) -> None:
        if self._enabled and number == TOLD_FAILURES + 1:
            self._console.print("further failures are only counted; the job folder keeps them all", style="red")
        elif self._enabled and number <= TOLD_FAILURES:
            # The message may hold brackets of its own (shapes, slices): it is text, not markup.
            first = event.failure.message.strip().partition("\n")[0]
            self._console.print(
                f"tile {event.tile.index} failed: {event.failure.error}: {first}",
                style="red",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    def _show(self, step: str, done: int, total: int, failed: int = 0, new: int = 1, waits_for: str = "") -> None:
        pace = self._paces.setdefault(step, Pace("block"))
        pace.report(done, total, new)
        text = f"waiting for {waits_for}" if waits_for else _text(pace)
        failures = f"{failed} failed" if failed else ""
        if self._live:
            if step not in self._tasks:
                self._tasks[step] = self._bar.add_task(step, total=total, text="", failed="")
            self._bar.update(self._tasks[step], completed=done, total=total, text=text, failed=failures)
        elif self._enabled:
            self._write_line(step, done, total, text, failures, at_once=self._is_long_wait(waits_for))

    def _is_long_wait(self, waits_for: str) -> bool:
        """Whether a run has been waiting for the same thing for a while; true once for each wait."""
        now = time.monotonic()
        if waits_for != self._waits_for:
            self._waits_for, self._tell_wait = waits_for, now + LONG_WAIT
        if not waits_for or now < self._tell_wait:
            return False
        self._tell_wait = math.inf
        return True

    def _write_line(self, step: str, done: int, total: int, text: str, failures: str, at_once: bool) -> None:
        pace = self._paces[step]
        if not at_once and done < total and pace.seconds - self._said.get(step, 0.0) < QUIET_SECONDS:
            return
        self._said[step] = pace.seconds
        parts = [f"{step} {done}/{total}", text, failures]
        self._console.print(", ".join(p for p in parts if p), markup=False, highlight=False, soft_wrap=True)


def _text(pace: Pace) -> str:
    """Rate and time: what is left while running, what it took at the end."""
    left = pace.left
    if left is None:
        return duration(pace.seconds)
    return f"{pace}, {duration(left)} left" if left > 0 else f"{pace}, took {duration(pace.seconds)}"


def duration(seconds: float) -> str:
    """Seconds in the two units that matter: ``8.2 s``, ``3 min 20 s``, ``14 h 05 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
