"""A job on a disk that two hosts share, each with a network, a hostname and process numbers of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from faults import N_TILES, Bench
from hosts import Host, dask_on, two_hosts, why_no_hosts

from napari_blockbuster.machine.processes import is_stopped

HOLD = """
import sys
from pathlib import Path
from napari_blockbuster.job.folder.lock import holding
lock = Path(sys.argv[1])
with holding(lock, "stage") as held:
    print("held", flush=True)
    sys.stdin.readline()
    held.owner.write(lock.with_name("result.json"), b"late")
    print("written", flush=True)
"""
TAKE = """
import sys
from pathlib import Path
from napari_blockbuster.job.folder.lock import holding
with holding(Path(sys.argv[1]), "write"):
    print("taken")
"""


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    if why := why_no_hosts():
        pytest.skip(why)
    with two_hosts() as both:
        yield both


def held_on(host: Host, lock: Path) -> subprocess.Popen[str]:
    """Hold a lock in a process of a host. It writes once it is told to."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = host.start("-c", HOLD, lock, **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def aged(lock: Path, seconds: float) -> None:
    """Set the last sign of life of a holder back."""
    os.utime(lock, (time.time() - seconds,) * 2)


def test_a_lock_is_taken_over_after_its_host_is_gone_and_never_before(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    first, second = hosts
    lock = tmp_path / "lock.json"
    holder = held_on(first, lock)
    aged(lock, 250)
    refused = second.run("-c", TAKE, lock)
    assert re.search(r"in use by process \d+ on node1 since ", refused.stderr), refused.stderr
    first.crash()
    holder.communicate()
    # Nobody can know yet that the host is gone.
    aged(lock, 250)
    refused = second.run("-c", TAKE, lock)
    assert "the lock expires 5 minutes after its last sign of life" in refused.stderr
    aged(lock, 310)
    assert second.run("-c", TAKE, lock).stdout == "taken\n"


def test_a_holder_that_slept_on_another_host_changes_nothing_after_it(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    first, second = hosts
    lock = tmp_path / "lock.json"
    sleeper = held_on(first, lock)
    # nsenter waits for the holder, and stops when it stops.
    (python,) = psutil.Process(sleeper.pid).children()
    python.send_signal(signal.SIGSTOP)
    while not is_stopped(python.pid):
        time.sleep(0.01)
    aged(lock, 310)
    owner = held_on(second, lock)
    for each in (sleeper, python):
        each.send_signal(signal.SIGCONT)
    _, told = sleeper.communicate("write\n", timeout=30)
    assert re.search(r"was taken over by process \d+ on node2 while this one was asleep", told), told
    assert not (tmp_path / "result.json").exists()
    assert owner.communicate("write\n", timeout=30)[0] == "written\n"
    assert (tmp_path / "result.json").read_bytes() == b"late"


def test_a_detached_driver_on_another_host(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    """The scheduler is on one host, the worker and with it the driver on the other one, which then crashes."""
    first, second = hosts
    bench = Bench.make(tmp_path / "run")
    text = (bench.folder / "model.py").read_text()
    hold = bench.folder / "hold"
    waits = f"    import time\n    while os.path.exists({str(hold)!r}): time.sleep(0.02)\n    return"
    (bench.folder / "model.py").write_text(text.replace("    return", waits))
    hold.touch()
    words = bench.words()
    at = words.index("--workers")
    with dask_on(first, second, tmp_path) as scheduler:
        words[at : at + 2] = ["--scheduler", scheduler, "--detach"]
        left = first.command_line(*words)
        assert left.returncode == 0, left.stderr
        assert re.search(r"^driver +process \d+ on node2", left.stdout, re.M), left.stdout
        follow = ["attach", bench.job, "-q"]
        lock = bench.job / "driver.lock"
        # The driver lives, and the process number that it has there may be another process here.
        aged(lock, 250)
        refused = first.command_line("resume", bench.job, "--workers", "0")
        assert refused.returncode == 2
        assert "on node2 since" in refused.stderr
        second.crash()
        aged(lock, 310)
        gone = first.command_line(*follow)
        assert gone.returncode == 2
        assert re.search(
            r"The detached driver \(process \d+ on node2\) stopped responding at staging \d/8", gone.stderr
        )
    hold.unlink()
    for each in (lock, bench.job / "lock.json"):
        if each.exists():
            aged(each, 310)
    before = bench.calls
    done = first.command_line(*bench.resume_words())
    assert done.returncode == 0, done.stderr
    assert bench.calls - before == N_TILES
    assert (bench.output / "zarr.json").exists()
