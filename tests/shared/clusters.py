"""A cluster as a user starts it: a scheduler and workers, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil


@contextlib.contextmanager
def remote_cluster(folder: Path) -> Iterator[tuple[str, psutil.Process, list[psutil.Process]]]:
    """Address, scheduler, and the nannies of two workers."""
    address = folder / "scheduler.json"
    options = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    # The model lives in a folder that is no package.
    options["env"] = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    # Tests that are killed leave no cluster behind.
    ends_with_tests = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
    dask = [*ends_with_tests, sys.executable, "-m", "dask"]
    files = ["--scheduler-file", str(address)]
    scheduler = subprocess.Popen([*dask, "scheduler", "--port", "0", "--no-dashboard", *files], **options)
    worker = [*dask, "worker", *files, "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder)]
    nannies = [subprocess.Popen(worker, **options) for _ in range(2)]
    deadline = time.monotonic() + 60
    while not address.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    found = [psutil.Process(process.pid) for process in nannies]
    try:
        yield json.loads(address.read_text())["address"], psutil.Process(scheduler.pid), found
    finally:
        for process in (*nannies, scheduler):
            kill_family(process.pid)
            process.wait(30)


def kill_family(pid: int) -> None:
    """Kill a process and all that it started."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
