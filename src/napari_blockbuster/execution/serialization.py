"""What travels to workers, as one pickle: also functions of scripts and notebooks, which are not installed there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cloudpickle

__all__ = ["pickle_work"]


def pickle_work(work: Any) -> bytes:
    """Pickle a work; what it uses from modules that are not installed (scripts, notebooks) goes along by value."""
    modules = [m for m in _users_modules(work) if m.__name__ not in cloudpickle.list_registry_pickle_by_value()]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        blob: bytes = cloudpickle.dumps(work)
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)
    return blob


def _users_modules(work: Any) -> list[Any]:
    functions = getattr(work, "functions", ())
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
