"""Terminal: tables, text that it cannot show, and exit codes."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import shutil
import sys
import textwrap

__all__ = ["DONE", "FAILED_TILES", "MISTAKE", "flush_output", "leave_pipe", "print_rows", "take_any_text"]

DONE, FAILED_TILES, MISTAKE = 0, 1, 2
"""Exit codes. See `napari_blockbuster.cli.main`."""

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
"""ASCII replacements for characters in the messages of this program."""


def take_any_text() -> None:
    """Make standard output and standard error accept any text, so that no message fails for one of its characters.

    Bytes of a file name that are not valid text are written unchanged, so that a printed command works.
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
    """Flush standard output. If that fails, print the reason to standard error."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        leave_pipe()
    except (OSError, ValueError) as error:
        _leave_output(error)


def _leave_output(error: Exception) -> None:
    leave_pipe()
    with contextlib.suppress(OSError):
        print(f"Standard output cannot be written ({error}).", file=sys.stderr)


def leave_pipe() -> None:
    """Discard further standard output, or Python would report the closed pipe again at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_rows(rows: list[tuple[str, str]], heading: str = "") -> None:
    """Print names and values in two columns. Long rows wrap on a terminal and stay on one line elsewhere, for grep."""
    width = max((len(name) for name, _ in rows), default=0) + 2
    to_terminal = sys.stdout is not None and sys.stdout.isatty()
    columns = shutil.get_terminal_size().columns if to_terminal else 0
    lines = [heading] if heading else []
    for name, text in rows:
        row = f"{name:<{width}}{text}".rstrip()
        if columns > width + 30:
            # Paths stay whole, so that they can be copied.
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
        lines.append(row)
    try:
        print("\n".join(lines))
    except BrokenPipeError:
        raise
    except OSError as error:
        # The command has done its work. Only the report is lost.
        _leave_output(error)
