"""Processes that start with everything imported: they cost a fifth of the time of a new interpreter."""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path

COMMAND = [sys.executable, "-m", "napari_blockbuster.cli"]
IMPORTED_BY_A_RUN = (
    *(
        "cli.attach",
        "cli.info.jobs",
        "cli.main",
        "cli.notices",
        "cli.options",
        "cli.workers",
        "cli.run",
        "cli.terminal",
        "cli.unexpected",
    ),
    *("images.zarr.folders", "images.zarr.multiscales", "job.progress.bar", "job.progress.summary", "job.shell"),
    *("job.steps.completion", "machine.signals", "job.steps.second_try", "models.function.model", "models.spacing"),
)
LIBRARIES = (
    *("dask.array", "distributed", "fastremap", "numcodecs", "pytest", "rich.progress", "scipy.ndimage"),
    *("scipy.sparse.csgraph", "skimage.measure", "skimage.segmentation", "tensorstore", "tifffile", "zarr.codecs"),
)


def fork_server() -> ForkServerContext:
    """The context whose processes start with everything imported. No thread may run in the server: imports start none."""
    context = multiprocessing.get_context("forkserver")
    names = [*(f"napari_blockbuster.{name}" for name in IMPORTED_BY_A_RUN), *LIBRARIES]
    # The server ignores names that do not exist: each process would then import for seconds.
    assert [name for name in names if importlib.util.find_spec(name) is None] == []
    context.set_forkserver_preload(names)
    return context


def command_line(
    *words: object, timeout: float = 120, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line in another process, and return its exit code and what it printed.

    Parameters
    ----------
    environment : mapping, optional
        Variables to add. What Python reads when it starts, such as ``PYTHONPATH``, needs a new interpreter instead.
    """
    words = tuple(map(str, words))
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return subprocess.run(
            [*COMMAND, *words],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
        )
    with tempfile.TemporaryDirectory(prefix="blockbuster-", ignore_cleanup_errors=True) as folder:
        options = (folder, words, str(cwd or Path.cwd()), {**os.environ, **(environment or {})})
        process = fork_server().Process(target=_main, args=options)
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            _kill(process.pid)
            raise subprocess.TimeoutExpired([*COMMAND, *words], timeout)
        out, err = (Path(folder, name).read_text("utf-8", errors="surrogateescape") for name in ("out", "err"))
    return subprocess.CompletedProcess([*COMMAND, *words], process.exitcode, out, err)


def _main(folder: str, words: tuple[str, ...], cwd: str, environment: dict[str, str]) -> None:
    os.setpgid(0, 0)
    for number, path in enumerate((os.devnull, f"{folder}/out", f"{folder}/err")):
        os.dup2(os.open(path, os.O_RDWR if number == 0 else os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = ["napari-blockbuster", *words]
    from napari_blockbuster.cli.main import main

    sys.exit(main())


def _kill(group: int | None) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group or 0, signal.SIGKILL)
