"""Command line shared by several tests."""

from __future__ import annotations

import re
import subprocess

from forked import COMMAND, command_line

__all__ = ["COMMAND", "mistake", "numbers", "run"]


def run(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = command_line(*words)
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    if code != 0:
        assert "Traceback" not in done.stderr
    return done


def mistake(*words: object) -> str:
    """Run a call that is wrong; returns its one line."""
    done = run(*words, code=2)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert done.stdout == ""
    return lines[0]


def numbers(text: str) -> dict[str, str]:
    """The report at the end of a run, by name."""
    return dict(re.split(r"\s{2,}", line, maxsplit=1) for line in text.strip().splitlines() if "  " in line)
