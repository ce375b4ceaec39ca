"""Words of a command line, quoted for a shell, and rows of text for a terminal."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import sys
import textwrap
import warnings
from collections.abc import Iterator
from typing import Any

__all__ = ["command", "one_line", "options", "plain_warnings", "print_rows"]


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Print warnings about images as one line, without the place in the source; leave other warnings alone."""
    usual = warnings.showwarning

    def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        if category.__name__ == "ImageWarning":
            print(f"warning: {message}", file=sys.stderr)
        else:
            usual(message, category, *place, **more)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


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
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
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
