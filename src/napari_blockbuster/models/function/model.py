"""A Python function as a model: from a session, a file, or an installed package."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import PrivateAttr, field_validator

from napari_blockbuster.models.base import Model, PixelSource, Segmenter, Suggestion, setting
from napari_blockbuster.models.spacing import per_axis, relative_spacing

from .arguments import check_options, signature_in, signature_of
from .digest import function_digest, function_packages

__all__ = ["FunctionModel"]

HALO = 32
"""Halo for a function whose receptive field is unknown, in voxels of the finest axis."""


class FunctionModel(Model):
    """A function ``f(pixels, **options) -> labels`` that returns integer labels (or a bool mask) of the shape of its input.

    Several channels are the last axis of its input, in the order in which they were chosen: ``(y, x, channel)`` or
    ``(z, y, x, channel)``. Its labels have no such axis. A stack of a single plane comes without its z axis.

    Create it with `FunctionModel.of` (a function in Python) or `FunctionModel.from_source` (text).
    `napari_blockbuster.models.as_model` calls either.

    Workers get a Python function itself (by cloudpickle), or the text of the file, so they do not need the file. The
    settings contain the source of the function and a digest of its code, never the code. The digest prevents a job from
    resuming with another function.
    """

    family: ClassVar[str] = "function"
    summary: ClassVar[str] = "Any Python function that turns pixels into labels"
    most_channels: ClassVar[int] = 1000

    source: str = setting(
        ..., "Source of the function: 'path/to/file.py:function' or 'package.module:function'.", min_length=3
    )
    kind: Literal["file", "module", "python"] = setting(
        "file", "A file, an importable module, or a function passed in Python.", advanced=True, derived=True
    )
    sha256: str = setting(
        "",
        "Digest of the file or of the function's code. Empty: of the source as it is now.",
        advanced=True,
        derived=True,
    )
    options: dict[str, Any] = setting({}, "Keyword arguments for the function, as JSON.")

    _function: Callable[..., Any] | None = PrivateAttr(None)
    _text: str | None = PrivateAttr(None)
    _has_traveled: bool = PrivateAttr(False)

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        # On another machine, the same path may be another file.
        self._has_traveled = True

    @field_validator("options")
    @classmethod
    def _check_options(cls, options: dict[str, Any]) -> dict[str, Any]:
        import json

        try:
            json.dumps(options)
        except (TypeError, ValueError) as error:
            raise ValueError(f"options must be JSON ({error}). Bind other arguments with functools.partial") from None
        return options

    # ---------------------------------------------------------------- making
    @classmethod
    def of(cls, function: Callable[..., Any], **options: Any) -> Self:
        """Wrap a function, lambda, ``functools.partial`` or callable object."""
        if not callable(function):
            raise TypeError(f"{type(function).__name__} is not a function")
        check_options(getattr(function, "__name__", type(function).__name__), signature_of(function), options)
        model = cls(source=_address(function), kind="python", sha256=function_digest(function), options=options)
        model._function = function
        return model

    @classmethod
    def from_source(cls, source: str, **options: Any) -> Self:
        """Find a function by its source.

        Parameters
        ----------
        source : str
            ``"path/to/file.py:function"`` (the file is read now) or
            ``"package.module:function"``.
        **options
            Keyword arguments for the function.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is not Python or has no such function (the message lists its functions), or if the module or its
            function does not exist.
        """
        place, _, name = source.rpartition(":")
        if source.endswith(".py") or place.endswith(".py"):
            place, name = (place, name) if place.endswith(".py") else (source, "")
            return cls._of_file(Path(place).expanduser().absolute(), name, options)
        function = _import(place, name)
        check_options(name, signature_of(function), options)
        return cls(source=source, kind="module", sha256=function_digest(function), options=options)

    @classmethod
    def _of_file(cls, path: Path, name: str, options: dict[str, Any]) -> Self:
        """Return the function of a file as it is now. The file is read but not run."""
        text = _read(path)
        check_options(name, signature_in(_parse_defining(path, text, name), name), options)
        model = cls(source=f"{path}:{name}", kind="file", sha256=_sha256(text), options=options)
        model._text = text
        return model

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> Self:
        """Build the model from stored settings. Nothing is imported or run, unless ``sha256`` is missing.

        Raises
        ------
        FileNotFoundError, ValueError
            If the file is missing or was changed, or if the function was passed in Python.
        """
        model = cls(**settings)
        if model.kind == "python":
            raise ValueError(model._gone())
        if not model.sha256:
            return cls.from_source(model.source, **model.options)
        if model.kind == "file":
            path = Path(model.source.rpartition(":")[0])
            text = _read(path)
            if _sha256(text) != model.sha256:
                raise ValueError(
                    f"{path} was changed since its function became a model. Restore the file, "
                    f"or start again with {model.source!r} as it is now"
                )
            model._text = text
        return model

    def read_anew(self) -> Self:
        """Return the function of the file as it is now, or this model if it is not from a file on this machine.

        A module is imported once per process. To use an edited module, restart Python.

        Raises
        ------
        FileNotFoundError, ValueError
            See `from_source`.
        """
        if self.kind != "file" or self._has_traveled:
            return self
        place, _, name = self.source.rpartition(":")
        found = self._of_file(Path(place), name, self.options)
        return self if found.sha256 == self.sha256 else found

    # --------------------------------------------------------------- running
    @property
    def function(self) -> Callable[..., Any] | None:
        """The function that was passed in Python; None for functions found by name."""
        return self._function

    @property
    def functions(self) -> list[Callable[..., Any]]:
        """The function that was passed in Python, if any."""
        return [] if self._function is None else [self._function]

    @property
    def display_name(self) -> str:
        """The function by the name that its author gave it."""
        if self._function is None:
            return f"function {self.source!r}"
        return f"function {getattr(self._function, '__qualname__', type(self._function).__name__)!r}"

    def suggest(self, image: PixelSource) -> Suggestion:
        """Return no tile, and a halo of 32 voxels, because the receptive field of the function is unknown."""
        spacing = relative_spacing(image.spacing)
        return Suggestion(None, tuple(max(1, round(n)) for n in per_axis(HALO, spacing)))

    def depends_on(self) -> tuple[str, ...]:
        """Return the packages that the function uses. For a file, the packages that it imports."""
        names = _imported(self._text or "") if self.kind == "file" else function_packages(self._find())
        return _distributions(names)

    def load(self) -> Segmenter:
        """Return the function with its options. It gets a copy of each tile and may write into it.

        Raises
        ------
        ValueError
            If the function cannot be found, or is not the one that the settings describe.
        """
        return _OnCopies(self._find(), self.options)

    def _find(self) -> Callable[..., Any]:
        if self._function is not None:
            return self._function
        if self.kind == "python":
            raise ValueError(self._gone())
        place, _, name = self.source.rpartition(":")
        if self.kind == "file":
            path = Path(place)
            text = self._text if self._text is not None else _read(path)
            return _attribute(_run(path, text), name, str(path))
        function = _import(place, name)
        if self.sha256 and function_digest(function) != self.sha256:
            raise ValueError(
                f"{self.source} is not the function that the settings describe: its code or version differs here. "
                "If it was edited, restart Python (or napari) and start a new run"
            )
        return function

    def _gone(self) -> str:
        return (
            f"the function {self.source!r} was defined in a Python session, and settings do not contain code: "
            "pass the function itself again, as model=..."
        )


class _OnCopies:
    """Calls a function on copies, so that it cannot change the tile."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self._function, self._options = function, dict(options)
        self.__name__ = getattr(function, "__name__", type(function).__name__)

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        # Staging checks the result, as for every model.
        labels: np.ndarray = self._function(np.array(tile), **self._options)
        return labels


def _address(function: Callable[..., Any]) -> str:
    named = function
    while hasattr(named, "func"):  # functools.partial
        named = named.func
    name = getattr(named, "__qualname__", type(named).__qualname__)
    return f"{getattr(named, '__module__', None) or '__main__'}:{name}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read(path: Path) -> str:
    import tokenize

    try:
        with tokenize.open(path) as file:
            return file.read()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"there is no file {path}. A function from a file is written path/to/file.py:function"
        ) from None
    except (SyntaxError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as Python: {error}") from None


def _parse_defining(path: Path, text: str, name: str) -> ast.Module:
    """Parse a file. Refuse a name that it does not define, without running it."""
    try:
        tree = ast.parse(text, str(path))
    except SyntaxError as error:
        raise ValueError(f"{path} is not valid Python, line {error.lineno}: {error.msg}") from None
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    # Names may also be assigned, imported or defined under an `if`.
    bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    bound |= {
        (a.asname or a.name) for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names
    }
    if name.partition(".")[0] not in bound:
        listing = ", ".join(functions) or "none"
        what = f"has no function {name!r}" if name else "needs the name of a function, as file.py:function"
        raise ValueError(f"{path} {what}. Functions in it: {listing}")
    return tree


def _imported(text: str) -> set[str]:
    """Return the top-level packages that Python code imports, at any place."""
    nodes = list(ast.walk(ast.parse(text)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0]
    return {name.partition(".")[0] for name in names}


def _distributions(names: set[str]) -> tuple[str, ...]:
    """Return the distributions of packages. The standard library and modules of the user's have none."""
    from importlib import metadata

    found: set[str] = set()
    for name in names - sys.stdlib_module_names:
        try:
            # Most distributions have the name of their package. Reading all of them takes a second.
            found.add(metadata.distribution(name).name)
        except metadata.PackageNotFoundError:
            found.update(_distributions_by_package().get(name, ()))
    return tuple(sorted(found))


@functools.cache
def _distributions_by_package() -> Mapping[str, list[str]]:
    from importlib import metadata

    return metadata.packages_distributions()


def _run(path: Path, text: str) -> types.ModuleType:
    """Run a file once per process, as a module with its own name for each version of the text."""
    name = f"_napari_blockbuster_{path.stem}_{_sha256(f'{path}:{text}')[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    module = types.ModuleType(name)
    module.__file__ = str(path)
    # Dataclasses and pickle look up the module while it runs.
    sys.modules[name] = module
    # As for a script, files in the same folder can be imported.
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import(place: str, name: str) -> Callable[..., Any]:
    try:
        module = importlib.import_module(place)
    except (ImportError, ValueError, TypeError) as error:
        raise ValueError(
            f"there is no module {place!r} to take the function {name!r} from ({error}). "
            "A function is written package.module:function or path/to/file.py:function"
        ) from None
    return _attribute(module, name, place)


def _attribute(module: types.ModuleType, name: str, place: str) -> Callable[..., Any]:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        functions = [k for k, v in vars(module).items() if isinstance(v, types.FunctionType) and not k.startswith("_")]
        problem = "has no" if found is None else f"holds a {type(found).__name__}, not a"
        raise ValueError(f"{place} {problem} function {name!r}. Functions in it: {', '.join(functions[:20]) or 'none'}")
    function: Callable[..., Any] = found
    return function
