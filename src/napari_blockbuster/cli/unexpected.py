"""Separate errors that a user can solve from errors in this program, and log the latter."""

from __future__ import annotations

import contextlib
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path

from napari_blockbuster.job.shell import command
from napari_blockbuster.machine.errors import one_line

__all__ = ["UNEXPECTED", "describe", "is_expected", "write_log"]

UNEXPECTED = 70
"""Exit code for an error in this program (EX_SOFTWARE)."""
PACKAGE = Path(__file__).parents[1]


def is_expected(error: BaseException) -> bool:
    """Return whether an error is about the call, the image, the machine or the cluster.

    Disk errors and missing packages always count. Other errors count if this package raised them, because a `ValueError`
    from inside a library says nothing about the call.
    """
    from cyclopts import CycloptsError
    from pydantic import ValidationError

    from napari_blockbuster.machine.errors import JobError

    if isinstance(error, (CycloptsError, JobError, OSError, ImportError, ValidationError)):
        return True
    return isinstance(error, (ValueError, TypeError, RuntimeError, LookupError)) and _is_raised_here(error)


def _is_raised_here(error: BaseException) -> bool:
    """Return whether a ``raise`` statement of this package raised the error."""
    trace = error.__traceback__
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    if PACKAGE not in Path(trace.tb_frame.f_code.co_filename).parents:
        return False
    return _statement(trace.tb_frame.f_code.co_filename, trace.tb_lineno).startswith("raise")


def _statement(file: str, line: int) -> str:
    """Return ``"raise"`` if a line belongs to a raise statement, otherwise the line."""
    import ast
    import linecache

    with contextlib.suppress(SyntaxError, ValueError):
        tree = ast.parse("".join(linecache.getlines(file)))
        raises = (node for node in ast.walk(tree) if isinstance(node, ast.Raise))
        if any(node.lineno <= line <= (node.end_lineno or node.lineno) for node in raises):
            return "raise"
    return linecache.getline(file, line).strip()


def describe(error: BaseException, words: list[str]) -> str:
    """Return the line for standard error. For an unexpected error, write a log file and name it."""
    if is_expected(error):
        return f"error: {one_line(error)}"
    what = f"unexpected error: {type(error).__name__}: {one_line(error)[:300]}"
    try:
        return f"{what}. Finished tiles are safe. Report this error with the log file {write_log(error, words)}"
    except OSError:
        traceback.print_exception(error)
        return f"{what}. Finished tiles are safe. Report this error with the traceback above."


def write_log(error: BaseException, words: list[str]) -> Path:
    """Write traceback, command and versions to a new file that only this user can read."""
    from napari_blockbuster.machine.versions import describe_versions

    text = [
        time.strftime("%Y-%m-%d %H:%M:%S %z"),
        command(words),
        f"{platform.platform()}; {sys.executable}",
        *(f"{package} {version}" for package, version in describe_versions().items()),
        "",
        *traceback.format_exception(error),
    ]
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", errors="backslashreplace", prefix="napari-blockbuster-", suffix=".log", delete=False
    ) as file:
        file.write("\n".join(text))
    return Path(file.name)
