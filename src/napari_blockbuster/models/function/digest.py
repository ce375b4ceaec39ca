"""Digest of a Python function: its bytecode and the values that it uses.

The digest identifies a function. It is no protection. It changes with every edited line, default, closure or global, and
with the minor version of Python, whose bytecode differs. Installed packages count by name (their versions are compared
separately, see `function_packages`). Extension functions and objects of unknown types count by name or type only, so
changes inside them are not detected.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import sysconfig
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["function_digest", "function_packages"]

THIS = __name__.partition(".")[0]
DEPTH = 12
"""Depth to which containers and called functions are followed."""


def function_digest(function: Callable[..., Any]) -> str:
    """Return the sha256 of a callable's code and of the values it uses. It is the same in every process of a Python version."""
    return hashlib.sha256(_value(function, DEPTH, _Walk()).encode()).hexdigest()


def function_packages(function: Callable[..., Any]) -> set[str]:
    """Return the import names of the packages that a callable uses, as far as `function_digest` follows it."""
    walk = _Walk()
    _value(function, DEPTH, walk)
    return walk.packages


class _Walk:
    """Objects and packages seen while a function is followed."""

    def __init__(self) -> None:
        self.ids: set[int] = set()
        self.packages: set[str] = set()

    def note(self, module_name: str | None) -> str:
        """Record the package of a module, and return its name."""
        package = (module_name or "").partition(".")[0]
        if package:
            self.packages.add(package)
        return package


def _value(value: Any, depth: int, seen: _Walk) -> str:
    if depth == 0:
        return f"<{type(value).__qualname__}>"
    if value is None or isinstance(value, bool | int | float | complex | str | bytes) or value is Ellipsis:
        return f"{type(value).__qualname__}:{value!r}"
    for kinds, describe in _DESCRIBE:
        if isinstance(value, kinds):
            return describe(value, depth - 1, seen)
    return _instance(value, depth - 1, seen)


def _once(value: Any, seen: _Walk) -> bool:
    """Return True the first time. Functions that call each other are described once."""
    first = id(value) not in seen.ids
    seen.ids.add(id(value))
    return first


def _installed(module_name: str | None, seen: _Walk) -> str | None:
    """Return the package of an installed module, or None for modules of the user's."""
    module = sys.modules.get(module_name or "")
    file = getattr(module, "__file__", None)
    if module is None or module_name == "__main__":
        return None
    package = module.__name__.partition(".")[0]
    # This package counts as installed even in a checkout, because its caches and locks change.
    if file is not None and package != THIS and not _in_library(file):
        return None
    return seen.note(package)


@functools.cache
def _in_library(file: str) -> bool:
    paths = sysconfig.get_paths()
    roots = [Path(paths[key]).resolve() for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    return any(Path(file).resolve().is_relative_to(root) for root in roots)


def _function(function: types.FunctionType, depth: int, seen: _Walk) -> str:
    if package := _installed(function.__module__, seen):
        return f"{package}:{function.__module__}.{function.__qualname__}"
    if not _once(function, seen):
        return f"<{function.__qualname__}>"
    parts = [_code(function.__code__, depth, seen)]
    parts.append(_value(function.__defaults__, depth, seen))
    parts.append(_value(function.__kwdefaults__, depth, seen))
    parts += [_cell(cell, depth, seen) for cell in function.__closure__ or ()]
    for name in sorted(_names(function.__code__)):
        if name in function.__globals__:
            parts.append(f"{name}={_value(function.__globals__[name], depth, seen)}")
    return f"function({';'.join(parts)})"


def _names(code: types.CodeType) -> set[str]:
    """Return the names that a function and its inner functions may look up in the module."""
    inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _cell(cell: types.CellType, depth: int, seen: _Walk) -> str:
    try:
        return _value(cell.cell_contents, depth, seen)
    except ValueError:  # not set yet: a recursive function
        return "<empty>"


def _code(code: types.CodeType, depth: int, seen: _Walk) -> str:
    # Line numbers and file names stay out: a function moved in its file is the same function.
    consts = _value(code.co_consts, depth, seen)
    return f"code({code.co_code.hex()};{consts};{code.co_names};{code.co_varnames};{code.co_freevars})"


def _array(array: np.ndarray, depth: int, seen: _Walk) -> str:
    if array.dtype.hasobject:
        return _value(array.tolist(), depth, seen)
    data = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return f"array({array.dtype.str};{array.shape};{data})"


def _sequence(values: Any, depth: int, seen: _Walk) -> str:
    return f"{type(values).__qualname__}({','.join(_value(v, depth, seen) for v in values)})"


def _set(values: Any, depth: int, seen: _Walk) -> str:
    # The order of a set differs from process to process.
    return f"{type(values).__qualname__}({','.join(sorted(_value(v, depth, seen) for v in values))})"


def _dict(values: Any, depth: int, seen: _Walk) -> str:
    items = (f"{_value(k, depth, seen)}:{_value(v, depth, seen)}" for k, v in values.items())
    return f"{type(values).__qualname__}({','.join(sorted(items))})"


def _method(method: types.MethodType, depth: int, seen: _Walk) -> str:
    return f"method({_value(method.__func__, depth, seen)};{_value(method.__self__, depth, seen)})"


def _partial(partial: functools.partial[Any], depth: int, seen: _Walk) -> str:
    parts = (partial.func, partial.args, partial.keywords)
    return f"partial({','.join(_value(p, depth, seen) for p in parts)})"


def _named(value: Any, depth: int, seen: _Walk) -> str:
    name = getattr(value, "__qualname__", value.__name__)
    if isinstance(value, types.ModuleType):
        return f"module:{_installed(value.__name__, seen)}:{name}"
    module = getattr(value, "__module__", "")
    seen.note(module)
    return f"{type(value).__name__}:{module}:{name}"


def _ufunc(value: np.ufunc, depth: int, seen: _Walk) -> str:
    seen.note("numpy")
    return f"ufunc:{value.__name__}"


def _class(cls: type, depth: int, seen: _Walk) -> str:
    if package := _installed(cls.__module__, seen):
        return f"{package}:{cls.__module__}.{cls.__qualname__}"
    if not _once(cls, seen):
        return f"<{cls.__qualname__}>"
    methods = {k: v for k, v in vars(cls).items() if isinstance(v, types.FunctionType)}
    return f"class:{cls.__module__}.{cls.__qualname__}({_dict(methods, depth, seen)})"


def _instance(value: Any, depth: int, seen: _Walk) -> str:
    own = type(value)
    name = f"{own.__module__}.{own.__qualname__}"
    seen.note(own.__module__)
    written_in_python = isinstance(vars(own).get("__call__"), types.FunctionType)
    if not written_in_python or not _once(value, seen):
        return f"<{name}>"
    state = _dict(getattr(value, "__dict__", {}), depth, seen)
    return f"instance({_class(own, depth, seen)};{state})"


_DESCRIBE: tuple[tuple[Any, Callable[[Any, int, _Walk], str]], ...] = (
    (types.CodeType, _code),
    (types.FunctionType, _function),
    (types.MethodType, _method),
    (functools.partial, _partial),
    ((types.ModuleType, types.BuiltinFunctionType), _named),
    (np.ufunc, _ufunc),
    (np.ndarray, _array),
    (np.generic, lambda value, depth, seen: f"{value.dtype.str}:{value!r}"),
    ((list, tuple), _sequence),
    ((set, frozenset), _set),
    (dict, _dict),
    (type, _class),
)
