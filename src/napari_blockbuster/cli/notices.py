"""Warnings on a terminal."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

__all__ = ["plain_warnings"]


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Print warnings about images and long waits as one line, without the place in the source; leave others alone."""
    usual = warnings.showwarning

    def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        if category.__name__ in ("ImageWarning", "WaitWarning"):
            print(f"warning: {message}", file=sys.stderr)
        else:
            usual(message, category, *place, **more)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
