"""A real SLURM on this machine: munged, slurmctld and slurmd, started in a folder of their own and stopped at the end."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
CPUS = 3
CONFIGURATION = """
ClusterName=blockbuster
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
ReturnToService=2
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,bf_interval=2
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=64000 State=UNKNOWN
PartitionName=short Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str:
    """Why SLURM cannot be started here; "" if it can."""
    if sys.platform != "linux":
        return "SLURM needs Linux"
    if missing := [name for name in (*DAEMONS, "sbatch") if _daemon(name) is None]:
        return f"no {', '.join(missing)} on this machine: apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "starting SLURM needs root"
    if importlib.util.find_spec("dask_jobqueue") is None:
        return "no dask-jobqueue in this environment: pip install dask-jobqueue"
    return ""


@dataclass(frozen=True)
class Slurm:
    """A SLURM that is up, with one node.

    Attributes
    ----------
    folder : Path
        Its state and logs.
    environment : dict
        For commands that shall use it.
    """

    folder: Path
    environment: dict[str, str]

    def run(self, *words: str) -> str:
        """The output of a command."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def submit(self, folder: Path, name: str, script: str, *options: str) -> str:
        """Submit a batch script; returns the number of its job."""
        path = folder / f"{name}.sh"
        path.write_text(f"#!/bin/bash\n{script}\n")
        words = ("sbatch", "--parsable", f"--job-name={name}", f"--output={folder / name}.out", *options, str(path))
        return self.run(*words).strip()

    def jobs(self, states: str = "PENDING,RUNNING") -> list[str]:
        """The numbers of the jobs in some states."""
        return self.run("squeue", "--noheader", "--format=%i", f"--states={states}").split()

    def logs(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"== {path.name}\n{path.read_text()[-1500:]}" for path in sorted(self.folder.glob("*.log")))


@contextlib.contextmanager
def running_slurm() -> Iterator[Slurm]:
    """Start SLURM, and stop it with all its jobs."""
    # munge asks for a path that nobody else can write to and everybody can pass, which no folder of pytest is.
    folder = Path(tempfile.mkdtemp(prefix="blockbuster-slurm-"))
    folder.chmod(0o755)
    daemons: list[subprocess.Popen[bytes]] = []
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    slurm = Slurm(folder, environment)
    try:
        _configure(folder)
        daemons.append(_munged(folder))
        for name in ("slurmctld", "slurmd"):
            daemons.append(_start(folder, environment, name, "-D", "-f", str(folder / "slurm.conf")))
        _wait_for_node(slurm)
        yield slurm
        for job in slurm.jobs():
            slurm.run("scancel", job)
        _wait_until(lambda: not slurm.jobs("PENDING,RUNNING,COMPLETING"), 30)
    finally:
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(15)
            daemon.kill()
            daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _configure(folder: Path) -> None:
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().partition(".")[0]
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in sockets]
    text = CONFIGURATION.format(host=host, ports=ports, folder=folder, cpus=CPUS)
    (folder / "slurm.conf").write_text(text)


def _munged(folder: Path) -> subprocess.Popen[bytes]:
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "seed-file": "munge.seed"}
    options = [f"--{name}={folder / file}" for name, file in {**files, "log-file": "munge.log"}.items()]
    daemon = _start(folder, dict(os.environ), "munged", "--foreground", "--force", *options)
    _wait_until(lambda: (folder / "munge.socket").exists() or daemon.poll() is not None, 20)
    return daemon


def _start(folder: Path, environment: dict[str, str], name: str, *options: str) -> subprocess.Popen[bytes]:
    program = _daemon(name)
    assert program is not None
    with (folder / f"{name}.out.log").open("wb") as log:
        return subprocess.Popen([program, *options], env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def _daemon(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _wait_for_node(slurm: Slurm) -> None:
    """Until the node takes jobs; one that was marked as down on its way up is brought back."""
    deadline = time.monotonic() + 60
    while True:
        states = subprocess.run(
            ["sinfo", "--noheader", "--format=%n %T"],
            env=slurm.environment,
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        if re.search(r" idle$", states, re.M):
            return
        if match := re.search(r"^(\S+) (down|drain|unknown)", states, re.M):
            command = ["scontrol", "update", f"nodename={match[1]}", "state=resume"]
            subprocess.run(command, env=slurm.environment, capture_output=True, check=False)
        assert time.monotonic() < deadline, f"SLURM does not come up: {states}\n{slurm.logs()}"
        time.sleep(0.5)


def _wait_until(condition: object, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:  # type: ignore[operator]
        time.sleep(0.1)
