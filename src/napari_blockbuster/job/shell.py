"""Format shell commands and rows of text for a terminal, whatever characters it can show."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import re
import shlex
import shutil
import sys
import textwrap
from typing import Any

__all__ = ["command", "flush_output", "leave_pipe", "one_line", "options", "print_rows", "take_any_text"]

SHOWABLE = "napari-blockbuster.showable"
"""Name of the codec error handler that `take_any_text` installs."""
SIMPLER = {
    "µ": "u",
    "μ": "u",
    "×": "x",
    "…": "...",
    "–": "-",
    "—": "-",
    "’": "'",
    "“": '"',
    "”": '"',
    "≥": ">=",
    "≤": "<=",
}
"""ASCII for the characters of this program's own messages."""


def take_any_text() -> None:
    """Let standard output and standard error take every text: a message must not fail for a character it contains.

    Bytes of a file name that are no text in this encoding are written as they are, so that a printed command works.
    """
    codecs.register_error(SHOWABLE, _showable)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=SHOWABLE)


def _showable(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if 0xDC80 <= ord(character) <= 0xDCFF:
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return SIMPLER.get(character, ascii(character)[1:-1]), error.start + 1


def flush_output() -> None:
    """Write what is left in the buffer of standard output; say so on standard error where that fails."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        leave_pipe()
    except (OSError, ValueError) as error:
        leave_pipe()
        with contextlib.suppress(OSError):
            print(f"Standard output cannot be written ({error}).", file=sys.stderr)


def leave_pipe() -> None:
    """Discard further standard output: Python would complain about it again when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def command(words: list[str]) -> str:
    """A command line of this program, quoted for a shell."""
    return shlex.join(["napari-blockbuster", *words])


def options(**values: Any) -> list[str]:
    """Options as typed on the command line; those that are None or False are left out."""
    words: list[str] = []
    for name, value in values.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value is not None and value is not False:
            words += [option, str(value)]
    return words


def print_rows(rows: list[tuple[str, str]], heading: str = "") -> None:
    """Aligned names and values on standard output; wrapped on a terminal, one row a line for grep."""
    width = max((len(name) for name, _ in rows), default=0) + 2
    to_terminal = sys.stdout is not None and sys.stdout.isatty()
    columns = shutil.get_terminal_size().columns if to_terminal else 0
    if heading:
        print(heading)
    for name, text in rows:
        row = f"{name:<{width}}{text}".rstrip()
        if columns > width + 30:
            # Paths stay whole: they are there to be copied.
            indent = " " * width
            row = textwrap.fill(
                row,
                columns,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
                drop_whitespace=True,
                replace_whitespace=False,
            )
        print(row)


def one_line(error: BaseException) -> str:
    """A message a shell user can act on, without line breaks."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors())
    text = str(error).strip() or type(error).__name__
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    text = re.sub(r":\s*\n\s*", ": ", text)
    return re.sub(r"\s*\n\s*", "; ", text)
