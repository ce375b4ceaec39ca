"""Real runs that are killed: at the n-th thing that they do to the file system, or at a random moment.

A driver is the command line in a process of its own, forked from a server that has imported everything, so that a
run of eight tiles takes half a second. Python's audit events name each file operation just before it happens:
killing at the n-th of them reaches every step there is, between any two of them, and the same one again for the same
number.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import zarr
from jobs import chunks_of, write_image

TILE, HALO = (11, 15, 13), 3
N_TILES = 8
FILE_EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.utime", "os.scandir", "shutil.rmtree")
MODEL = """
import os, uuid
from scipy import ndimage

def find(pixels):
    open(os.path.join({log!r}, uuid.uuid4().hex), "w").close()
    return ndimage.label(pixels {sign} 100)[0]
"""


@dataclass(frozen=True)
class Bench:
    """A folder with an image, a model that counts its calls, and a place for the result."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, image: Path | None = None) -> Bench:
        """Lay it out; the image may be another bench's."""
        if (folder / "calls").exists():
            # Left by the first try of a test that runs once more.
            shutil.rmtree(folder)
        (folder / "calls").mkdir(parents=True)
        if image is None:
            write_image(folder / "image.zarr")
        else:
            (folder / "image.zarr").symlink_to(image)
        (folder / "model.py").write_text(MODEL.format(log=str(folder / "calls"), sign=">"))
        (folder / "other.py").write_text(MODEL.format(log=str(folder / "calls"), sign="<"))
        return cls(folder)

    @property
    def output(self) -> Path:
        return self.folder / "out.ome.zarr"

    @property
    def job(self) -> Path:
        return self.folder / "out.ome.zarr.job"

    @property
    def results(self) -> tuple[Path, ...]:
        """All that a run leaves: the labels, their table, and the job folder."""
        return self.output, self.output.with_name(f"{self.output.name}.table.parquet"), self.job

    @property
    def calls(self) -> int:
        return len(list((self.folder / "calls").iterdir()))

    @property
    def markers(self) -> int:
        return len(list(self.job.glob("stage*/tiles/*/[0-9]*.tile")))

    def words(self, workers: int = 0, *more: str, model: str = "model.py") -> list[str]:
        """The command of a run."""
        tile, halo = map(str, TILE), str(HALO)
        image, model = str(self.folder / "image.zarr"), f"{self.folder / model}:find"
        run = ["segment", image, "--model", model, "-o", str(self.output), "--tile", *tile, "--halo", halo]
        return [*run, "--merge", "touch", "--workers", str(workers), "-q", *more]

    def resume_words(self, workers: int = 0, *more: str) -> list[str]:
        """The command that goes on from a job folder."""
        return ["resume", str(self.job), "--merge", "touch", "--workers", str(workers), "-q", *more]

    def result(self) -> dict[str, bytes]:
        """The voxels of the result, all levels."""
        zarr.open_group(str(self.output), mode="r")
        return chunks_of(self.output)


# --------------------------------------------------------------------------------------------------------- the drivers
@contextlib.contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder in memory where there is one: on a disk each run would wait for it dozens of times."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**28 else None
    with tempfile.TemporaryDirectory(prefix="blockbuster-", dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def drive(
    folder: Path, words: list[str], kill_at: int = 0, count_to: str = "", stop_at: int = 0, errors: str = "errors"
) -> None:
    """Run the command line here; kill or stop this process at a file operation, or count them all."""
    # A group of its own, as a shell gives to each command.
    os.setpgid(0, 0)
    devnull = os.open(os.devnull, os.O_RDWR)
    os.dup2(devnull, 1)
    os.dup2(os.open(folder / errors, os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
    if kill_at or count_to or stop_at:
        watch((str(folder / "out"), str(folder / ".out")), kill_at or stop_at, count_to, "STOP" if stop_at else "KILL")
    from napari_blockbuster.cli.main import main

    code = main(words)
    sys.stdout.flush()
    os._exit(code)


def watch(prefixes: tuple[str, ...], kill_at: int, count_to: str, how: str = "KILL") -> None:
    """Kill (or stop) this process at a file operation on a path that begins like this, or note all of them in a file."""
    seen = 0

    def hook(event: str, args: tuple[object, ...]) -> None:
        nonlocal seen
        if event in FILE_EVENTS and args and str(args[0]).startswith(prefixes):
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), getattr(signal, f"SIG{how}"))
            if count_to:
                os.write(counter, f"{event} {args[0]}\n".encode())

    counter = os.open(count_to, os.O_CREAT | os.O_WRONLY | os.O_TRUNC) if count_to else -1
    sys.addaudithook(hook)


def start(context: ForkServerContext, bench: Bench, words: list[str], **options: object) -> BaseProcess:
    """Start a driver."""
    process = context.Process(target=drive, args=(bench.folder, words), kwargs=options)
    process.start()
    return process


def run_out(process: BaseProcess, timeout: float = 60) -> int:
    """Wait for the end of a driver; its exit code (negative: the signal)."""
    process.join(timeout)
    assert process.exitcode is not None, "the driver hangs"
    return process.exitcode


# ---------------------------------------------------------------------------------------------------------- the faults
@dataclass(frozen=True)
class Undisturbed:
    """What a run gives and takes when nothing happens to it."""

    image: Path
    result: dict[str, bytes]
    operations: list[str]
    seconds: float


def undisturbed(context: ForkServerContext, folder: Path) -> Undisturbed:
    """Run once in peace, and count."""
    bench = Bench.make(folder)
    assert run_out(start(context, bench, bench.words(), count_to=str(folder / "operations"))) == 0
    assert bench.calls == N_TILES
    # The first one has waited for the server to import everything: the second tells how long a run takes.
    began = time.monotonic()
    assert run_out(start(context, bench, bench.words(0, "--overwrite"))) == 0
    seconds = time.monotonic() - began
    operations = (folder / "operations").read_text().splitlines()
    return Undisturbed(folder / "image.zarr", bench.result(), operations, seconds)


SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def disturb(context: ForkServerContext, bench: Bench, chance: random.Random, peace: Undisturbed) -> str:
    """Start a run, or go on with it, and end it somewhere; returns what was done, in words."""
    goes_on = (bench.job / "job.json").exists() and chance.random() < 0.5
    words = bench.resume_words() if goes_on else bench.words()
    if chance.random() < 0.6:
        at = chance.randint(1, len(peace.operations))
        code = run_out(start(context, bench, words, kill_at=at))
        return f"{words[0]} killed at {at} ({peace.operations[at - 1]}), exit {code}"
    number = chance.choice(SIGNALS)
    wait = chance.uniform(0, peace.seconds)
    process = start(context, bench, words)
    process.join(wait)
    if process.exitcode is None:
        try:
            os.killpg(process.pid or 0, number)
        except ProcessLookupError:
            # It had not made its group yet, or has just ended.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid or 0, number)
    return f"{words[0]} {number.name} after {wait:.3f} s, exit {run_out(process)}"


def survive(context: ForkServerContext, folder: Path, seed: int, peace: Undisturbed) -> str:
    """One run, killed once to three times and gone on with: the same bytes, and no finished tile ran twice.

    Returns
    -------
    str
        What happened, for a failure's message.
    """
    chance = random.Random(seed)
    bench = Bench.make(folder, peace.image)
    story = f"seed {seed}"
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        staged, calls, written = bench.markers, bench.calls, bench.output.exists()
        story += "; " + disturb(context, bench, chance, peace)
        if not written and not bench.output.exists():
            # Every call but the one cut short ended in a marker.
            assert 0 <= (bench.calls - calls) - (bench.markers - staged) <= 2, story
    staged, calls, written = bench.markers, bench.calls, bench.output.exists()
    # What is on standard error so far may be of a run that Ctrl-C hit in the middle of an import: no harm.
    (folder / "errors").write_text("")
    use_resume = (bench.job / "job.json").exists() and chance.random() < 0.5
    code = run_out(start(context, bench, bench.resume_words() if use_resume else bench.words()))
    story += f"; then {staged} of {N_TILES} tiles, {'a' if written else 'no'} result, exit {code}"
    # `segment` refuses to replace a result that is complete; `resume` says that there is nothing to do.
    complete = written and code == 2 and not use_resume
    errors = (folder / "errors").read_text()
    assert code == 0 or complete, f"{story}\n{errors}"
    assert "Traceback" not in errors, f"{story}\n{errors}"
    expected = 0 if written else N_TILES - staged
    assert bench.calls - calls == expected, f"{story}: {bench.calls - calls} tiles ran, not {expected}"
    assert bench.result() == peace.result, f"{story}: other voxels"
    left = sorted(p.name for p in folder.iterdir() if "out" in p.name and p not in bench.results)
    assert complete or not left, f"{story}: left behind {left}"
    return story
