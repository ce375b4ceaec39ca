"""Hosts on one machine: network, hostname and process numbers of their own, joined by a cable, with one disk between them.

All addresses are in namespaces that are made here. Nothing leaves the machine.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

NAMESPACES = ["--net", "--uts", "--pid", "--mount"]


@dataclass(frozen=True)
class Host:
    """A host.

    Attributes
    ----------
    name, address : str
    pid : int
        Its first process. All others end with it, as if the power had failed.
    """

    name: str
    address: str
    pid: int

    def command(self, *words: object) -> list[str]:
        """Return a command that runs on this host."""
        return ["nsenter", "--target", str(self.pid), *NAMESPACES, "--", *map(str, words)]

    def start(self, *words: object, **options: Any) -> subprocess.Popen[str]:
        """Start Python on this host."""
        options = {"text": True, "env": _environment(), "stdin": subprocess.DEVNULL, **options}
        return subprocess.Popen(self.command(sys.executable, *words), **options)

    def run(self, *words: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run Python on this host."""
        out = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = self.start(*words, **out)
        try:
            told = process.communicate(timeout=timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, *told)

    def command_line(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Run the command line on this host."""
        return self.run("-m", "napari_blockbuster.cli", *words)

    def crash(self) -> None:
        """End all processes of this host at once."""
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(self.pid).kill()
        while psutil.pid_exists(self.pid) and psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


@functools.cache
def why_no_hosts() -> str:
    """Return why this system lets nobody make hosts; empty if it does."""
    if sys.platform != "linux":
        return "namespaces of Linux"
    if missing := [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]:
        return f"this system has no {', '.join(missing)}"
    try:
        with two_hosts():
            return ""
    except (OSError, subprocess.SubprocessError):
        return "this system lets nobody make namespaces with a network"


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Make two hosts that reach each other and nothing else. Both are gone afterwards."""
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(_host(f"node{n}", f"10.77.0.{n}")) for n in (1, 2))
        ends = [["netns", str(host.pid)] for host in (first, second)]
        _run("ip", "link", "add", "cable", *ends[0], "type", "veth", "peer", "name", "cable", *ends[1])
        for host in (first, second):
            _run(*host.command("ip", "address", "add", f"{host.address}/24", "dev", "cable"))
            _run(*host.command("ip", "link", "set", "cable", "up"))
        yield first, second


@contextlib.contextmanager
def _host(name: str, address: str) -> Iterator[Host]:
    begin = f"hostname {name} && ip link set lo up && echo ready && exec sleep 3600"
    command = ["unshare", *NAMESPACES, "--fork", "--mount-proc", "--kill-child", "sh", "-c", begin]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise OSError("no namespaces")
            (first,) = psutil.Process(process.pid).children()
            yield Host(name, address, first.pid)
        finally:
            process.kill()


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=20)


@contextlib.contextmanager
def dask_on(scheduler: Host, workers: Host, folder: Path) -> Iterator[str]:
    """Start a scheduler on one host and a worker on another. Yield the address of the scheduler."""
    quiet = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    address = f"tcp://{scheduler.address}:8786"
    words = ["-m", "dask", "scheduler", "--host", scheduler.address, "--port", "8786", "--no-dashboard"]
    worker = ["-m", "dask", "worker", address, "--host", workers.address, "--nthreads", "1", "--no-dashboard"]
    processes = [
        scheduler.start(*words, **quiet),
        workers.start(*worker, "--no-nanny", "--local-directory", str(folder), **quiet),
    ]
    try:
        yield address
    finally:
        for process in processes:
            process.kill()
            process.wait(30)
