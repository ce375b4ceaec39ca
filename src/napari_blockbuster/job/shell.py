"""Format shell commands and rows of text for a terminal, whatever characters it can show."""

from __future__ import annotations

import shlex
from typing import Any

__all__ = ["command", "options"]


def command(words: list[str]) -> str:
    """A command line of this program, quoted for a shell."""
    return shlex.join(["napari-blockbuster", *words])


def options(**values: Any) -> list[str]:
    """Options as typed on the command line; those that are None or False are left out, and lists are repeated."""
    words: list[str] = []
    for name, value in values.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, list | tuple):
            words += [word for each in value for word in (option, str(each))]
        elif value is True:
            words.append(option)
        elif value is not None and value is not False:
            words += [option, str(value)]
    return words
