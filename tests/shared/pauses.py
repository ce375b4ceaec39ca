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
from faults import Bench, Undisturbed, run_out, start

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


def take_over(context: ForkServerContext, folder: Path, stop_at: int, replaces: bool, peace: Peace) -> str:
    """Stop a run at a file operation, take its job over, and let it continue. Return what happened, in words.

    The result is wholly that of one run, its record is that of the result, and the run without a result says why.
    """
    bench = Bench.make(folder, peace.run.image)
    first = start(context, bench, bench.words(), stop_at=stop_at)
    story = f"{'replaced' if replaces else 'resumed'} at {stop_at}"
    with continued_at_the_end(first):
        if stopped(first):
            at = peace.run.operations[stop_at - 1] if stop_at <= len(peace.run.operations) else "?"
            story += f" ({at})"
            take_locks(bench.job)
        other = _other_run(context, bench, replaces, peace)
    return _judged(bench, first, other, replaces, peace, story)


def _other_run(context: ForkServerContext, bench: Bench, replaces: bool, peace: Peace) -> BaseProcess:
    words = bench.words(0, "--overwrite", model="other.py") if replaces else bench.words(0)
    other = start(context, bench, words, errors="errors-other")
    # It may wait for a tile of the stopped one.
    other.join(1.5 * peace.run.seconds)
    return other


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


def take_over_cluster(context: ForkServerContext, folder: Path, seed: int, peace: Peace) -> str:
    """Stop the driver, the scheduler or a worker of a run on a cluster, take its job over, and let all continue."""
    chance = random.Random(seed)
    bench = Bench.make(folder, peace.run.image)
    slow = (folder / "model.py").read_text().replace("    open(", "    import time; time.sleep(0.2)\n    open(")
    (folder / "model.py").write_text(slow)
    first = start(context, bench, bench.words(2))
    staged, deadline = chance.randint(1, 5), time.monotonic() + 60
    while bench.markers < staged and first.exitcode is None:
        assert time.monotonic() < deadline, "the run does not get on"
        time.sleep(0.01)
    driver = psutil.Process(first.pid)
    family = driver.children(recursive=True)
    # The workers are children of the process that they are forked from.
    kinds = {
        "driver": [driver],
        "scheduler": [each for each in family if each.ppid() == driver.pid],
        "worker": [each for each in family if not each.children() and each.ppid() != driver.pid],
    }
    kind, replaces = chance.choice(sorted(kinds)), chance.random() < 0.6
    victim = chance.choice(kinds[kind] or [driver])
    story = f"seed {seed}: {kind} of {'a replaced' if replaces else 'a resumed'} run stopped after {staged} tiles"
    with contextlib.suppress(psutil.NoSuchProcess):
        victim.suspend()
    try:
        take_locks(bench.job)
        other = _other_run(context, bench, replaces, peace)
        other.join(0 if other.exitcode is not None else 20)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.resume()
    story = _judged(bench, first, other, replaces, peace, story)
    assert not psutil.wait_procs(family, 30)[1], f"{story}: processes are left"
    return story


@contextlib.contextmanager
def continued_at_the_end(process: BaseProcess):  # type: ignore[no-untyped-def]
    """Continue a process, whatever happens."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid or 0, signal.SIGCONT)


def surprise(context: ForkServerContext, folder: Path, seed: int, peace: Peace) -> str:
    """One takeover at a random file operation."""
    chance = random.Random(seed)
    at = chance.randint(1, len(peace.run.operations))
    return f"seed {seed}: {take_over(context, folder, at, chance.random() < 0.6, peace)}"
