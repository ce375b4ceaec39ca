"""A progress bar on the terminal: tiles, rate, time left, failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from .job import Heartbeat, StageEvent, TileFailed

__all__ = ["Progress"]


class Progress:
    """Shows how a job gets on, in one line for each step.

    Parameters
    ----------
    enabled : bool, default True
        False shows nothing.
    """

    def __init__(self, enabled: bool = True) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[red]{task.fields[failed]}"),
            console=Console(stderr=True),
            disable=not enabled,
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def follow(self, events: Iterable[StageEvent]) -> list[TileFailed]:
        """Consume the events of a staging run and show them; returns the failures."""
        failures: list[TileFailed] = []
        for event in events:
            if isinstance(event, Heartbeat):
                continue
            if isinstance(event, TileFailed):
                failures.append(event)
                self._bar.console.print(f"[red]failed:[/] {event.failure.message}", highlight=False, soft_wrap=True)
            self._show("staging", event.done + len(failures), event.total, len(failures))
        return failures

    def advance_to(self, step: str) -> Callable[[int, int], None]:
        """A ``progress(done, total)`` callback for a step."""
        return lambda done, total: self._show(step, done, total)

    def _show(self, step: str, done: int, total: int, failed: int = 0) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._bar.add_task(step, total=total, rate="", failed="")
        task = self._tasks[step]
        speed = self._bar.tasks[self._bar.task_ids.index(task)].finished_speed or self._bar.tasks[
            self._bar.task_ids.index(task)
        ].speed
        rate = "" if not speed else f"{speed:.1f} tiles/s" if speed >= 1 else f"{1 / speed:.1f} s/tile"
        self._bar.update(task, completed=done, total=total, rate=rate, failed=f"{failed} failed" if failed else "")
