"""Serialize work for the workers, including functions defined in scripts and notebooks."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


__all__ = ["Shipment", "pickle_work", "shallow"]

DEEP = 100
"""Frames of a traceback that can be pickled. Beyond some hundreds it cannot."""


class Shipment(Protocol):
    """Something to send to another process."""

    @property
    def functions(self) -> Sequence[Callable[..., Any]]:
        """Functions of the user that it uses."""


def pickle_work(work: Shipment) -> bytes:
    """Pickle a work. Modules of its functions that are not installed (scripts, notebooks) are pickled by value."""
    modules = [
        m for m in _users_modules(work.functions) if m.__name__ not in cloudpickle.list_registry_pickle_by_value()
    ]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        blob: bytes = cloudpickle.dumps(work)
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)
    return blob


def shallow(error: Exception) -> Exception:
    """Drop the traceback of an exception if it is too deep to be pickled. dask would lose such an exception."""
    depth = sum(1 for _ in traceback.walk_tb(error.__traceback__))
    return error.with_traceback(None) if depth > DEEP else error


def _users_modules(functions: Sequence[Callable[..., Any]]) -> list[Any]:
    found = []
    for function in functions:
        module = sys.modules.get(getattr(function, "__module__", None) or "")
        file = getattr(module, "__file__", None)
        if module is not None and file and not _is_installed(Path(file)):
            found.append(module)
    return found


def _is_installed(file: Path) -> bool:
    import sysconfig

    paths = sysconfig.get_paths()
    roots = [Path(paths[key]).resolve() for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    return any(file.resolve().is_relative_to(root) for root in [*roots, Path(__file__).parents[1].resolve()])
