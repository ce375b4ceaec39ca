"""Run a function of this package in another process, where network libraries and user code are imported.

A viewer must not import them: TensorFlow crashes napari on software GL, and importing any of them blocks the GUI thread
for seconds.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["in_viewer", "run_in_child", "run_outside_viewer"]

LONGEST = 3600.0
"""Seconds that a call may take. It may download gigabytes of weights."""
QT = ("PyQt6", "PyQt5", "PySide6", "PySide2")


def in_viewer() -> bool:
    """Whether this process has a GUI."""
    cores = [sys.modules.get(f"{binding}.QtCore") for binding in QT]
    return any(core is not None and core.QCoreApplication.instance() is not None for core in cores)


def run_outside_viewer(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a child process if this process has a GUI, else in this process."""
    return run_in_child(function, *args) if in_viewer() else function(*args)


def run_in_child(function: Callable[..., Any], *args: Any) -> Any:
    """Call a module-level function of this package in a child process.

    Parameters
    ----------
    function : callable
    *args
        Must pickle. So must the result.

    Raises
    ------
    RuntimeError
        If the process crashes or takes longer than an hour. Errors of the function are raised as they are.
    """
    request = pickle.dumps((function.__module__, function.__qualname__, args))
    process = subprocess.Popen(
        # -P: a module in the current folder must not replace an installed one.
        [sys.executable, "-P", "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    try:
        answer = _exchange(process, request)
    finally:
        # Also if this thread is interrupted.
        process.kill()
        process.wait()
    if answer is None:
        raise RuntimeError(
            f"the process that ran {function.__name__} crashed (exit code {process.returncode}). Its messages are in "
            "the terminal that napari was started from"
        )
    result, error = answer
    if error is not None:
        raise error
    return result


def _exchange(process: subprocess.Popen[bytes], request: bytes) -> tuple[Any, Exception | None] | None:
    """Send the request and wait for the answer. Returns None if the process ended without one."""
    assert process.stdin is not None
    assert process.stdout is not None
    stop = threading.Timer(LONGEST, process.kill)
    stop.daemon = True
    stop.start()
    try:
        with contextlib.suppress(OSError):
            process.stdin.write(len(request).to_bytes(8, "big") + request)
            # The pipe stays open: when it closes, the child knows that this process has ended.
            process.stdin.flush()
        answer = process.stdout.read()
        process.wait(10)
    except subprocess.TimeoutExpired:
        pass
    finally:
        stop.cancel()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
    try:
        found: tuple[Any, Exception | None] = pickle.loads(answer)
    except (pickle.UnpicklingError, EOFError):
        return None
    return found


# ------------------------------------------------------------------------------------------------- in the other process
def _main() -> None:
    # Libraries print to stdout, which must carry the answer alone.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    size = int.from_bytes(sys.stdin.buffer.read(8), "big")
    module, name, args = pickle.loads(sys.stdin.buffer.read(size))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answers.write(_answer(module, name, args))
    answers.flush()
    # Some libraries crash at exit.
    os._exit(0)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _answer(module: str, name: str, args: tuple[Any, ...]) -> bytes:
    try:
        return pickle.dumps((getattr(importlib.import_module(module), name)(*args), None))
    except Exception as error:
        return pickle.dumps((None, _portable(error)))


def _portable(error: Exception) -> Exception:
    """Return a built-in error with the same message, which a process without the libraries can unpickle."""
    kinds = (FileNotFoundError, ImportError, OSError, ValueError, MemoryError)
    plain = next((kind for kind in kinds if isinstance(error, kind)), RuntimeError)
    return plain(str(error) or type(error).__name__)


if __name__ == "__main__":
    _main()
