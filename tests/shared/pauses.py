"""Real runs that are stopped (SIGSTOP) at any file operation, lose their job to another run meanwhile, and then continue."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
from faults import FILE_EVENTS, Bench, Undisturbed, run_out, start

SENTENCES = (
    "was taken over by",
    "has replaced the job",
    "holds tiles of a different run",
    "Output exists already",
    "overwrite=True (--overwrite) to replace it",
    "is in use by",
    "has just started this run",
    "were deleted after the result was written",
)


LONG = 3.0
"""Most seconds that a driver is stopped."""


@dataclass(frozen=True)
class Peace:
    """What the runs give when nothing happens to them."""

    run: Undisturbed
    other: dict[str, bytes]


def peace_of_both(context: ForkServerContext, folder: Path, run: Undisturbed) -> Peace:
    """Run the other model once in peace."""
    bench = Bench.make(folder, run.image)
    assert run_out(start(context, bench, bench.words(model="other.py"))) == 0
    return Peace(run, bench.result())


def stopped(process: BaseProcess) -> bool:
    """Wait until a process is stopped; False if it ended before."""
    deadline = time.monotonic() + 60
    while process.exitcode is None:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                return True
        assert time.monotonic() < deadline, "the driver neither ends nor stops"
        process.join(0.01)
    return False


def take_locks(job: Path) -> None:
    """Do what the messages of the locks say if their holder seems to be gone."""
    for name in ("driver.lock", "lock.json"):
        (job / name).unlink(missing_ok=True)


def whose(bench: Bench, peace: Peace) -> str:
    """Whose labels are at the output, all of them."""
    if not (bench.output / "zarr.json").exists():
        return "nobody"
    found = bench.result()
    return "first" if found == peace.run.result else "other" if found == peace.other else "nobody"


@dataclass(frozen=True)
class Chances:
    """When a run that was stopped continues, and where the run that took its job over is stopped as well."""

    seconds: float
    """Seconds after the other run has started."""
    other_stops_at: int = 0
    """Number of a file operation; 0: nowhere."""
    other_seconds: float = 0.0
    """Seconds that the other run is stopped, after the first one has continued."""


def take_over(
    context: ForkServerContext,
    folder: Path,
    stop_at: int,
    replaces: bool,
    peace: Peace,
    chances: Chances | None = None,
) -> str:
    """Stop a run at a file operation, take its job over, and let it continue. Return what happened, in words.

    The result is wholly that of one run, its record is that of the result, and the run without a result says why.
    """
    # The other run may wait for a tile of the stopped one.
    chances = chances or Chances(min(1.5 * peace.run.seconds, LONG))
    bench = Bench.make(folder, peace.run.image)
    first = start(context, bench, bench.words(), stop_at=stop_at)
    story = f"{'replaced' if replaces else 'resumed'} at {stop_at}"
    with continued_at_the_end(first):
        if stopped(first):
            at = peace.run.operations[stop_at - 1] if stop_at <= len(peace.run.operations) else "?"
            story += f" ({at}) for {chances.seconds:.2f} s"
            take_locks(bench.job)
        other = _other_run(context, bench, replaces, chances.other_stops_at)
        other.join(chances.seconds)
    if chances.other_stops_at:
        with continued_at_the_end(other):
            if stopped(other):
                story += f", the other one at {chances.other_stops_at} for {chances.other_seconds:.2f} s"
                time.sleep(chances.other_seconds)
    return _judged(bench, first, other, replaces, peace, story)


def _other_run(context: ForkServerContext, bench: Bench, replaces: bool, stop_at: int = 0) -> BaseProcess:
    words = bench.words(0, "--overwrite", model="other.py") if replaces else bench.words(0)
    return start(context, bench, words, errors="errors-other", stop_at=stop_at)


def _judged(bench: Bench, first: BaseProcess, other: BaseProcess, replaces: bool, peace: Peace, story: str) -> str:
    """Compare what two runs left with what one of them leaves. Return what happened, in words."""
    folder = bench.folder
    codes = run_out(first), run_out(other)
    told = (folder / "errors").read_text(), (folder / "errors-other").read_text()
    story += f": exit codes {codes}\n{told[0]}\n{told[1]}"
    assert "Traceback" not in told[0] + told[1], story
    assert 0 in codes, story
    for code, said in zip(codes, told, strict=True):
        assert code == 0 or (code == 2 and any(sentence in said for sentence in SENTENCES)), story
    found = whose(bench, peace)
    assert found == ("other" if replaces and codes[1] == 0 else "first"), f"{story}: the result is that of {found}"
    record = json.loads((bench.job / "result.json").read_text())
    group = json.loads((bench.output / "zarr.json").read_text())["attributes"]["napari-blockbuster"]
    assert record["result"] == group["result"], f"{story}: another result is recorded"
    left = sorted(p.name for p in folder.iterdir() if "out" in p.name and p not in bench.results)
    # The tiles of a complete result are deleted. Nobody makes their folder again.
    left += sorted(p.name for p in bench.job.glob("stage*"))
    assert not left, f"{story}: left behind {left}"
    return story.partition("\n")[0]


WATCH = """
def watch():
    # The first worker that comes to its n-th file operation stops itself.
    import signal, sys, time
    time.sleep(0.2)
    if hasattr(sys, "watched"):
        return
    sys.watched = 0
    def hook(event, args):
        if event in {events!r} and args and str(args[0]).startswith({prefixes!r}):
            sys.watched += 1
            if sys.watched == {stop_at}:
                try:
                    note = os.open({note!r}, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
                except FileExistsError:
                    return
                os.write(note, str(os.getpid()).encode())
                os.close(note)
                os.kill(os.getpid(), signal.SIGSTOP)
    sys.addaudithook(hook)
"""


def take_over_cluster(
    context: ForkServerContext, folder: Path, seed: int, peace: Peace, kind: str | None = None
) -> str:
    """Stop the driver, the scheduler or a worker of a run on a cluster, take its job over, and let all continue.

    Driver and worker are stopped at a file operation, the scheduler, which has none, at a number of tiles.
    """
    chance = random.Random(seed)
    bench = Bench.make(folder, peace.run.image)
    kind = kind or chance.choice(["driver", "scheduler", "worker"])
    replaces, staged = chance.random() < 0.6, chance.randint(0, 6)
    at, seconds = chance.randint(1, 130 if kind == "driver" else 60), chance.uniform(0, 12)
    _watched_model(bench, at if kind == "worker" else 0)
    first = start(context, bench, bench.words(2), stop_at=at if kind == "driver" else 0)
    victim = _victim(bench, first, kind, staged)
    family = psutil.Process(first.pid).children(recursive=True) if first.exitcode is None else []
    where = f"{staged} tiles" if kind == "scheduler" else f"file operation {at}"
    story = f"seed {seed}: {kind} of {'a replaced' if replaces else 'a resumed'} run stopped at {where}"
    story += f" for {seconds:.1f} s" if victim else ", which it did not reach"
    try:
        if victim:
            take_locks(bench.job)
        other = _other_run(context, bench, replaces)
        other.join(seconds)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            if victim:
                victim.resume()
    story = _judged(bench, first, other, replaces, peace, story)
    assert not psutil.wait_procs(family, 30)[1], f"{story}: processes are left"
    return story


def _watched_model(bench: Bench, stop_at: int) -> None:
    """Make the model slow enough that something can happen to it; the worker stops itself at a file operation."""
    text = (bench.folder / "model.py").read_text().replace("    open(", "    watch()\n    open(")
    prefixes = (str(bench.folder / "out"), str(bench.folder / ".out"))
    note = str(bench.folder / "stopped")
    watch = WATCH.format(events=FILE_EVENTS, prefixes=prefixes, stop_at=stop_at, note=note)
    (bench.folder / "model.py").write_text(text + watch)


def _victim(bench: Bench, first: BaseProcess, kind: str, staged: int) -> psutil.Process | None:
    """Return the stopped process of a kind; None if the run ended before."""
    if kind == "driver":
        return psutil.Process(first.pid) if stopped(first) else None
    note, deadline = bench.folder / "stopped", time.monotonic() + 240
    while first.exitcode is None:
        assert time.monotonic() < deadline, "the run does not get on"
        with contextlib.suppress(psutil.NoSuchProcess):
            if kind == "worker" and note.exists() and (number := note.read_text()):
                return psutil.Process(int(number))
            if kind == "scheduler" and bench.job.exists() and bench.markers >= staged:
                schedulers = [each for each in psutil.Process(first.pid).children() if each.children()]
                if schedulers:
                    schedulers[0].suspend()
                    return schedulers[0]
        time.sleep(0.01)
    return None


@contextlib.contextmanager
def continued_at_the_end(process: BaseProcess):  # type: ignore[no-untyped-def]
    """Continue a process, whatever happens."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid or 0, signal.SIGCONT)


def surprise(context: ForkServerContext, folder: Path, seed: int, peace: Peace) -> str:
    """One takeover at a random file operation, for a random time; the other run may be stopped as well."""
    chance = random.Random(seed)
    count, long = len(peace.run.operations), min(2 * peace.run.seconds, LONG)
    at, replaces = chance.randint(1, count), chance.random() < 0.6
    other_stops_at = chance.randint(1, count) if chance.random() < 0.4 else 0
    chances = Chances(chance.uniform(0, long), other_stops_at, chance.uniform(0, long))
    return f"seed {seed}: {take_over(context, folder, at, replaces, peace, chances)}"
