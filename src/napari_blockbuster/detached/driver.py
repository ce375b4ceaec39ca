"""The process of a detached driver: ``python -m napari_blockbuster.detached.driver SCHEDULER``.

Its standard input holds two pickles: the certificates for the scheduler, and its request.

It answers with one line of JSON: its state once the first tiles run, or the error that prevented it. After that it writes its
state to ``driver.json`` and its output to ``driver.log``.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import socket
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, cast

import cloudpickle

from napari_blockbuster.job.folder.job_folder import JobFolder
from napari_blockbuster.job.folder.lock import holding
from napari_blockbuster.job.job import Job
from napari_blockbuster.job.progress.bar import Progress
from napari_blockbuster.job.progress.events import Heartbeat, StageEvent, TileFailed
from napari_blockbuster.job.steps.completion import Outcome, Watch, finish
from napari_blockbuster.machine.errors import JobError, TakenOverError, one_line
from napari_blockbuster.machine.ownership import Owner
from napari_blockbuster.machine.signals import stopping_cleanly
from napari_blockbuster.output.groups import utf8

from .files import DriverFiles, DriverState
from .launch import Request

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

__all__ = ["main"]

OFTEN = 1.0
"""Seconds between two looks for a request to stop, and between two updates of the state."""


class StopRequested(KeyboardInterrupt):
    """A follower requested the driver to stop."""


class Answer:
    """The one line that the process that started the driver waits for.

    Standard output is reserved for it: the output of libraries goes to the log.
    """

    def __init__(self) -> None:
        self._pipe: int | None = os.dup(1)
        os.dup2(2, 1)

    @property
    def given(self) -> bool:
        """Whether the answer was given."""
        return self._pipe is None

    def give(self, answer: dict[str, Any]) -> None:
        """Answer. Later calls do nothing."""
        if self._pipe is None:
            return
        pipe, self._pipe = self._pipe, None
        # The process that waits may be gone; the run continues without it.
        with contextlib.suppress(OSError), os.fdopen(pipe, "wb") as file:
            file.write(json.dumps(answer).encode() + b"\n")


class StateFile:
    """Keeps ``driver.json`` up to date, and looks for requests to stop."""

    def __init__(self, files: DriverFiles, owner: Owner, state: DriverState, answer: Answer) -> None:
        self._files, self._owner, self._state, self._answer = files, owner, state, answer
        self._looked = time.monotonic()
        self._unsaved = False

    def begin(self) -> None:
        """Report to followers, and to the process that waits, that all checks passed."""
        if not self._answer.given:
            self._files.save(self._state, self._owner, durable=True)
            self._answer.give(self._state.model_dump(mode="json"))

    def note(self, **changes: Any) -> None:
        """Update the state. Raises `StopRequested` if a follower requested it."""
        news = self._state.model_copy(update=changes)
        self._unsaved |= news != self._state
        self._state = news
        if time.monotonic() - self._looked < OFTEN:
            return
        self._looked = time.monotonic()
        self._save()
        self._owner.check()
        if self._files.is_asked_to_stop(self._state.token):
            raise StopRequested

    def _save(self) -> None:
        if self._unsaved:
            # A failing disk stops the run where it writes tiles, not where it writes the state.
            with contextlib.suppress(OSError):
                self._files.save(self._state, self._owner)
                self._unsaved = False

    def events(self, events: Iterator[StageEvent]) -> Iterator[StageEvent]:
        """Pass on the events of a staging run, and record them."""
        failed: list[int] = []
        with contextlib.closing(cast("Generator[StageEvent, None, None]", events)):
            for event in events:
                if isinstance(event, TileFailed):
                    failed.append(event.tile.index)
                if isinstance(event, Heartbeat) and event.waits_for and not self._answer.given:
                    # The workers are still being checked.
                    continue
                self.begin()
                yield event
                self.note(staged=event.done, failed=tuple(failed))
        self.begin()

    def step(self, name: str, progress: Callable[[int, int], None]) -> Callable[[int, int], None]:
        """Return a callback for a step after the tiles that records the progress and passes it on."""
        self.note(step=name, done=0, total=0)

        def advance(done: int, total: int) -> None:
            progress(done, total)
            self.note(done=done, total=total)

        return advance

    def close(self, **changes: Any) -> None:
        """Write the final state."""
        self._state = self._state.model_copy(update=changes)
        try:
            self._files.save(self._state, self._owner, durable=True)
        except TakenOverError:
            return
        except OSError:
            # On a full disk there may still be room in the existing file.
            with contextlib.suppress(OSError):
                self._files.state.write_bytes(self._state.model_dump_json().encode())
        with contextlib.suppress(OSError, TakenOverError):
            self._owner.remove(self._files.request)


def main() -> int:
    """Receive a request and run it; return the exit code of the run."""
    answer = Answer()
    with stopping_cleanly():
        try:
            security: Security = pickle.load(sys.stdin.buffer)
            request: Request = cloudpickle.load(sys.stdin.buffer)
            return _drive(request, sys.argv[1], security, answer)
        except BaseException as error:
            traceback.print_exc()
            answer.give({"kind": type(error).__name__, "refused": utf8(one_line(error))})
            return 2


def _drive(request: Request, scheduler: str, security: Security, answer: Answer) -> int:
    from napari_blockbuster.execution.cluster import connect

    files = DriverFiles(request.folder)
    began = time.strftime("%Y-%m-%d %H:%M:%S")
    print(f"---- {began}: process {os.getpid()} on {socket.gethostname()}, cluster {scheduler}", file=sys.stderr)
    job = _job(request)
    with holding(files.lock, "detached run") as lock:
        client = connect(scheduler, timeout=30, security=security)
        try:
            state = _first_state(job, request, scheduler)
            return _run(job, request, client, StateFile(files, lock.owner, state, answer), answer)
        finally:
            # A lost scheduler must not keep this process alive.
            with contextlib.suppress(Exception):
                client.close(timeout=5)


def _job(request: Request) -> Job:
    folder = JobFolder(request.folder)
    try:
        there = folder.settings_text()
    except OSError:
        there = ""
    if there != request.settings:
        raise JobError(
            f"{socket.gethostname()} does not see the job folder {folder.path}. "
            "Put the output on a disk that all machines share under the same path."
        )
    spec = folder.load()
    return Job(folder.of(spec), spec, request.source, request.model)


def _first_state(job: Job, request: Request, scheduler: str) -> DriverState:
    return DriverState(
        token=uuid.uuid4().hex,
        host=socket.gethostname(),
        pid=os.getpid(),
        since=time.time(),
        scheduler=scheduler,
        again=tuple(request.asked.options() + _time_limit(request)),
        staged=job.tiles.among_chosen(job.staged()),
        n_tiles=job.n_chosen,
    )


def _time_limit(request: Request) -> list[str]:
    return [] if request.tile_timeout is None else ["--tile-timeout", f"{request.tile_timeout:g}"]


def _run(job: Job, request: Request, client: Client, state_file: StateFile, answer: Answer) -> int:
    """Run all steps and record the end. Errors before the first tile are answered instead."""
    try:
        outcome = _stage_and_finish(job, request, client, state_file)
    except KeyboardInterrupt as stop:
        if not answer.given:
            raise JobError("The driver was stopped before its first tile.") from stop
        print(f"stopped ({type(stop).__name__})", file=sys.stderr)
        state_file.close(end="stopped", staged=_staged(job))
        return 130
    except Exception as error:
        if not answer.given:
            raise
        traceback.print_exc()
        state_file.close(end="failed", error=utf8(one_line(error)), staged=_staged(job))
        return 2
    summary = outcome.summary()
    state_file.close(end="done", summary=summary, result=str(outcome.result.provenance["result"]))
    return summary.exit_code


def _staged(job: Job) -> int:
    try:
        return job.tiles.among_chosen(job.tiles.staged())
    except OSError:
        return 0


def _stage_and_finish(job: Job, request: Request, client: Client, state_file: StateFile) -> Outcome:
    watch = Watch()
    asked = request.asked.begun(job)
    with Progress() as bar:
        bar.follow(state_file.events(job.stage(client, heartbeat=OFTEN, tile_timeout=request.tile_timeout)))
        watch.lap("tiles")
        state_file.note(step="merge")
        return finish(job, asked, client, lambda step: state_file.step(step, bar.advance_to(step)), watch)


if __name__ == "__main__":
    sys.exit(main())
