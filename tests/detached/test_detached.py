"""Runs that are left alone: a driver beside the cluster goes on, and is looked in on, stopped, lost and found dead."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from clusters import kill_family, remote_cluster
from faults import HALO, N_TILES, TILE, Bench
from forked import COMMAND, command_line
from jobs import Counting, chunks_of

from napari_blockbuster import Heartbeat, Job, TileFailed, TileStaged, detached
from napari_blockbuster.cli.main import main
from napari_blockbuster.detached.files import DriverFiles, DriverState
from napari_blockbuster.detached.follower import DriverFailedError, DriverGoneError
from napari_blockbuster.execution.cluster import connect
from napari_blockbuster.job.folder.lock import JobLockedError
from napari_blockbuster.machine.errors import JobError

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX"),
    pytest.mark.xdist_group("detached"),
]

MODEL = """
import os, time, uuid, zlib
from scipy import ndimage

def find(pixels):
    tile = zlib.crc32(pixels.tobytes())
    open(os.path.join({log!r}, f"{{tile}}-{{uuid.uuid4().hex}}"), "w").close()
    while os.path.exists({hold!r}):
        time.sleep(0.02)
    return ndimage.label(pixels > 100)[0]

def picky(pixels):
    if zlib.crc32(pixels.tobytes()) % 2:
        raise RuntimeError("not [this] one")
    return find(pixels)
"""


@dataclass(frozen=True)
class Away(Bench):
    """A bench whose model waits for as long as there is a file ``hold``, and whose runs are left to a driver."""

    scheduler: str = ""

    @classmethod
    def at(cls, folder: Path, image: Path, scheduler: str) -> Away:
        bench = Bench.make(folder, image)
        away = cls(bench.folder, scheduler)
        (folder / "model.py").write_text(MODEL.format(log=str(folder / "calls"), hold=str(away.hold)))
        return away

    @property
    def hold(self) -> Path:
        return self.folder / "hold"

    @property
    def files(self) -> DriverFiles:
        return DriverFiles(self.job)

    def detached(self, function: str = "find") -> list[str]:
        """The command that leaves a run to a driver."""
        words = self.words()
        at = words.index("--workers")
        words[at : at + 2] = ["--scheduler", self.scheduler, "--detach"]
        return [word.replace(":find", f":{function}") for word in words]

    def driver(self) -> psutil.Process:
        """The driver that is at work."""
        state = self.files.at_work()
        assert state is not None
        return psutil.Process(state.pid)

    def calls_of_tiles(self) -> list[int]:
        """How often the model was called for each tile that it was called for."""
        tiles = [path.name.partition("-")[0] for path in (self.folder / "calls").iterdir()]
        return sorted(tiles.count(tile) for tile in set(tiles))


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster that outlives the commands that use it."""
    with remote_cluster(tmp_path_factory.mktemp("cluster")) as (address, _, _):
        connect(address, n_workers=2).close()
        yield address


@pytest.fixture(scope="module")
def peace(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """An image, and what an undisturbed run makes of it."""
    bench = Bench.make(tmp_path_factory.mktemp("peace") / "run")
    assert main(bench.words()) == 0
    return bench.folder / "image.zarr", bench.result()


@pytest.fixture
def away(scheduler: str, peace: tuple[Path, dict[str, bytes]], tmp_path: Path) -> Iterator[Away]:
    """A run whose tiles wait."""
    bench = Away.at(tmp_path / "run", peace[0], scheduler)
    bench.hold.touch()
    yield bench
    bench.hold.unlink(missing_ok=True)
    if (state := bench.files.at_work()) is not None:
        kill_family(state.pid)


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def follow(job: Job) -> tuple[list[Any], DriverState]:
    """All that following a run tells, and its end."""
    events, following = [], detached.follow(job)
    while True:
        try:
            events.append(next(following))
        except StopIteration as end:
            return events, end.value


def last_command(text: str) -> list[str]:
    return shlex.split(text.strip().splitlines()[-1].rpartition("napari-blockbuster ")[2])


# ------------------------------------------------------------------------------------------------- leave and come back
def test_a_detached_run_goes_on_without_the_command_that_started_it(away: Away, peace, capsys) -> None:
    left = command_line(*away.detached())
    assert left.returncode == 0, left.stderr
    driver = away.driver()
    assert re.search(rf"^driver +process {driver.pid} on ", left.stdout, re.M)
    assert away.markers == 0
    # It belongs to no terminal, and to no worker's group.
    assert os.getsid(driver.pid) == driver.pid
    assert main(["info", str(away.job)]) == 0
    assert re.search(rf"^driver +process {driver.pid} on .* since .*, staging 0/8$", capsys.readouterr().out, re.M)
    # Somebody looks in, and away again.
    terminal, its_end = os.openpty()
    watching = subprocess.Popen([*COMMAND, "attach", str(away.output)], stderr=its_end)
    os.close(its_end)
    shown = ""
    while "0/8" not in shown:
        shown += os.read(terminal, 4096).decode()
    watching.send_signal(signal.SIGINT)
    assert watching.wait(30) == 130
    shown += os.read(terminal, 4096).decode()
    os.close(terminal)
    again = f"napari-blockbuster attach {away.job}"
    assert f"The run continues. To follow it again: {again}" in shown
    assert driver.is_running()
    # A second driver is refused, with the name of the first one.
    assert main(away.detached()) == 2
    assert re.search(rf"running on .*: process {driver.pid} on .*\. To follow it: {again}", capsys.readouterr().err)
    away.hold.unlink()
    assert main(["attach", str(away.job), "-q"]) == 0
    report = capsys.readouterr().out
    assert re.search(r"^tiles +8 of 8$", report, re.M)
    assert re.search(rf"^output +{away.output}$", report, re.M)
    assert away.result() == peace[1]
    assert away.calls_of_tiles() == [1] * N_TILES
    psutil.wait_procs([driver], timeout=20)
    assert not driver.is_running()
    assert {path.name for path in away.job.iterdir()} == {"job.json", "result.json", "driver.json", "driver.log"}
    # The result can be asked for later as well, and is no news once somebody else has made another one.
    assert main(["attach", str(away.job)]) == 0
    assert capsys.readouterr().out == report
    away.files.state.unlink()
    assert main(["attach", str(away.job)]) == 0
    assert "the result is complete" in capsys.readouterr().out


def test_a_function_of_a_script_goes_along_and_the_worker_may_die(scheduler: str, peace, tmp_path: Path) -> None:
    """From Python; the worker that started the driver is killed."""
    model = Counting(tmp_path / "calls")
    job = Job.create(peace[0], model, tmp_path / "o.ome.zarr", tile_shape=TILE, halo=HALO)
    client = connect(scheduler, n_workers=2)
    driver = detached.detach(job, client, merge="touch", keep_stage=True)
    client.close()
    process = psutil.Process(driver.pid)
    process.suspend()
    worker = process.parent()
    assert worker is not None
    worker.kill()
    process.resume()
    elsewhere = Job.open(job.folder)
    assert elsewhere.model is None, "its function is in no file"
    events, state = follow(elsewhere)
    assert state.pid == driver.pid
    assert state.summary is not None
    assert state.summary.exit_code == 0
    landed = [event for event in events if isinstance(event, TileStaged)]
    assert [event.done for event in landed] == list(range(N_TILES - len(landed) + 1, N_TILES + 1))
    assert chunks_of(tmp_path / "o.ome.zarr") == peace[1]
    assert N_TILES <= model.calls <= N_TILES + 2
    connect(scheduler, n_workers=2).close()


def test_failed_tiles_give_a_detached_run_exit_code_1(away: Away, capsys) -> None:
    away.hold.unlink()
    assert main(away.detached("picky")) == 0
    capsys.readouterr()
    job = Job.open(away.job)
    events, state = follow(job)
    failed = {event.tile.index for event in events if isinstance(event, TileFailed)}
    assert failed == set(job.failed())
    assert 0 < len(failed) < N_TILES
    assert state.summary is not None
    assert state.summary.n_missing == len(failed)
    assert main(["attach", str(away.job)]) == 1
    told = capsys.readouterr()
    assert re.search(rf"^tiles +{N_TILES - len(failed)} of 8$", told.out, re.M)
    assert "RuntimeError: not [this] one" in told.err
    assert last_command(told.err) == ["resume", str(away.job), "--retry-failed"]


# ------------------------------------------------------------------------------------------------------ stopped, lost
def test_a_detached_run_is_stopped_from_elsewhere_and_resumed(away: Away, peace, capsys) -> None:
    assert main(away.detached()) == 0
    driver = away.driver()
    wait_for(lambda: away.calls >= 1)
    assert main(["attach", str(away.job), "--stop", "-q"]) == 0
    told = capsys.readouterr().err
    assert re.match(r"Stopped\. 0 of 8 tiles are done\. To resume: napari-blockbuster resume ", told)
    psutil.wait_procs([driver], timeout=20)
    assert not driver.is_running()
    assert main(["attach", str(away.job)]) == 130
    capsys.readouterr()
    assert main(["attach", str(away.job), "--stop"]) == 2
    assert "No detached driver is running" in capsys.readouterr().err
    away.hold.unlink()
    assert main([*last_command(told), "-q"]) == 0
    assert away.result() == peace[1]
    assert away.calls_of_tiles() == [1] * N_TILES, "the tiles that ran at the stop included"


def test_a_detached_driver_that_is_killed_is_told_and_resumed(away: Away, peace, capsys) -> None:
    assert main(away.detached()) == 0
    wait_for(lambda: away.calls >= 1)
    driver = away.driver()
    driver.kill()
    wait_for(lambda: away.files.at_work() is None)
    capsys.readouterr()
    assert main(["attach", str(away.job), "-q"]) == 2
    told = capsys.readouterr().err
    gone = rf"error: The detached driver \(process {driver.pid} on .*\) stopped responding at staging 0/8\. Finished "
    assert re.match(gone, told)
    assert len(told.splitlines()) == 1
    with pytest.raises(DriverGoneError):
        follow(Job.open(away.job))
    assert main(["info", str(away.job)]) == 0
    assert "stopped responding" in capsys.readouterr().out
    # Another driver goes on: it is the one that is followed from then on.
    away.hold.unlink()
    assert main([*last_command(told), "--detach"]) == 0
    events, state = follow(Job.open(away.job))
    assert isinstance(events[0], Heartbeat)
    assert state.pid != driver.pid
    assert away.result() == peace[1]
    assert away.calls_of_tiles() == [1] * N_TILES


def test_a_detached_run_that_fails_says_why(away: Away, capsys) -> None:
    import shutil

    assert main(away.detached()) == 0
    wait_for(lambda: away.calls >= 1)
    shutil.rmtree(next(away.job.glob("stage*")))
    away.hold.unlink()
    with pytest.raises(DriverFailedError, match="job folder gone"):
        follow(Job.open(away.job))
    capsys.readouterr()
    assert main(["attach", str(away.job), "-q"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: job folder gone: ")
    assert len(told.splitlines()) == 1
    assert "Traceback" in away.files.log.read_text()


# ------------------------------------------------------------------------------------------------------------ refusals
def test_what_cannot_be_detached_is_refused(scheduler: str, peace, away: Away, tmp_path: Path, capsys) -> None:
    client = connect(scheduler, n_workers=2)
    pixels = np.zeros((32, 32), np.uint8)
    job = Job.create(pixels, "threshold", tmp_path / "array.ome.zarr", tile_shape=16, halo=4)
    with pytest.raises(JobError, match=r"image in memory cannot be detached, .* Save the image as zarr"):
        detached.detach(job, client)
    # A driver that is no detached one holds the job: it is the driver process that finds out.
    job = Job.create(peace[0], "threshold", tmp_path / "o.ome.zarr", tile_shape=TILE, halo=HALO)
    from napari_blockbuster.job.folder.lock import holding

    with holding(job.folder / "lock.json", "stage"), pytest.raises(JobLockedError, match=f"process {os.getpid()} on "):
        detached.detach(job, client)
    assert job.staged() == set()
    assert DriverFiles(job.folder).load() is None
    with pytest.raises(JobError, match=r"No detached driver has run on .*--detach"):
        follow(job)
    with pytest.raises(ValueError, match="unknown merge rule 'magic'"):
        detached.detach(job, client, merge="magic")
    (tmp_path / "o.ome.zarr").mkdir()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        detached.detach(job, client)
    client.close()
    assert main(["segment", str(peace[0]), "--detach"]) == 2
    assert "--detach needs --scheduler" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{", "[]", '{"token": "x"}', '{"pid": "many"}'])
def test_what_a_driver_left_is_data_only_and_damage_is_no_driver(text: str, tmp_path: Path) -> None:
    (tmp_path / "driver.json").write_text(text)
    assert DriverFiles(tmp_path).load() is None
    assert DriverFiles(tmp_path).at_work() is None
