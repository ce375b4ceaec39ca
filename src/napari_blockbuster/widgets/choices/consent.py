"""Permission to run code of a job. Its code is not imported before the user allows it. No Qt."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.models import Model
from napari_blockbuster.models.bioimageio.package import is_address
from napari_blockbuster.models.function.model import FunctionModel

__all__ = ["Code", "CodeNotAllowedError", "Consent", "code_of", "consent", "load_module", "module_file"]


class CodeNotAllowedError(JobError, ValueError):
    """Code has no permission to run. The message names the code and how to allow it."""


@dataclass(frozen=True)
class Code:
    """Code that a model runs.

    Attributes
    ----------
    kind : {"file", "module", "package"}
        A file with a function, an importable module, or a package of a network.
    source : str
        Source as in the model's settings.
    options : str
        Arguments for the function as JSON, or "".
    """

    kind: str
    source: str
    options: str = ""

    @property
    def name(self) -> str:
        """Name of the function; "" for a package."""
        return "" if self.kind == "package" else self.source.rpartition(":")[2]

    @property
    def file(self) -> str:
        """File with the code, found without importing anything."""
        if self.kind == "package":
            return self.source
        place = self.source.rpartition(":")[0]
        return place if self.kind == "file" else module_file(place) or "no file found"

    def __str__(self) -> str:
        if self.kind == "package":
            return f"the code in the model package {self.file}"
        module = f" of the module {self.source.rpartition(':')[0]}" if self.kind == "module" else ""
        options = f", with the options {self.options}" if self.options else ""
        return f"the function {self.name}{module}, in {self.file}{options}"

    @property
    def button(self) -> str:
        """Text of the button that allows this code."""
        what = self.file.rpartition("/")[2] if self.kind == "package" else f"{self.name} from {self.file}"
        return f"{'Load' if self.kind == 'module' else 'Run code:'} {what}"


def code_of(settings: Mapping[str, Any]) -> Code | None:
    """Return the code that a model with these settings runs; None if it runs only installed packages."""
    if settings.get("model") == "bioimageio" and settings.get("weights"):
        # Packages may contain the network as Python code.
        weights = str(settings["weights"])
        return Code("package", weights if is_address(weights) else str(Path(weights).expanduser().absolute()))
    place, _, name = str(settings.get("source") or "").rpartition(":")
    if settings.get("model") != "function" or not place or settings.get("kind") == "python":
        return None
    kind = str(settings.get("kind") or ("file" if place.endswith(".py") else "module"))
    options = settings.get("options") or {}
    return Code(kind, f"{place}:{name}", json.dumps(options, sort_keys=True, default=str) if options else "")


class Consent:
    """Permissions of this session.

    Files that the user names in the form need no permission. Files that a job names need permission. Modules need
    permission in both cases, because importing one runs code while its name is being typed.
    """

    def __init__(self) -> None:
        self._allowed: set[Code] = set()
        self._strangers: set[str] = set()
        self._models: dict[Code, Model] = {}

    def doubt(self, settings: Mapping[str, Any]) -> None:
        """Require permission for the code in a job's model settings."""
        code = code_of(settings)
        if code is not None:
            self._strangers.add(code.source)

    def allow(self, code: Code) -> None:
        """Allow this code from now on."""
        self._allowed.add(code)

    def needs(self, code: Code) -> bool:
        """Return whether this code needs permission."""
        if code in self._allowed:
            return False
        if code.kind == "module" or code.source in self._strangers:
            return True
        # The user typed it. It stays allowed when a job of this session is opened again.
        self._allowed.add(code)
        return False

    def pending(self, model: Model | None) -> Code | None:
        """Return the code of a model that needs permission, or None."""
        if model is None or model.functions:
            return None
        code = code_of(model.settings())
        return code if code is not None and self.needs(code) else None

    def check(self, model: Model | None) -> None:
        """Raise an error if a model runs code without permission.

        Raises
        ------
        CodeNotAllowedError
        """
        code = self.pending(model)
        if code is not None:
            raise CodeNotAllowedError(f"Nothing was run, because this job runs {code}. Resume the job to allow it.")

    def keep(self, code: Code, model: Model) -> None:
        """Store the model of a module that was loaded in another process."""
        self._models[code] = model

    def model(self, code: Code) -> Model | None:
        """Return the model of a loaded module, or None."""
        return self._models.get(code)


consent = Consent()
"""Permissions of this session."""


def load_module(source: str, options: dict[str, Any]) -> Model:
    """Return the model of a function in a module. The module is imported in another process."""
    from napari_blockbuster.models.networks.child_process import run_in_child

    model: Model = run_in_child(_load, source, options)
    return model


def _load(source: str, options: dict[str, Any]) -> Model:
    return FunctionModel.from_source(source, **options)


def module_file(name: str) -> str | None:
    """Return the file of a module, found without importing its parent packages."""
    path, origin = None, None
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    for end in range(1, len(parts) + 1):
        spec = _spec(".".join(parts[:end]), path)
        if spec is None:
            return None
        path, origin = spec.submodule_search_locations, spec.origin
    return origin


def _spec(name: str, path: Any) -> Any:
    finders = (getattr(finder, "find_spec", None) for finder in sys.meta_path)
    return next((spec for find in finders if find is not None and (spec := find(name, path)) is not None), None)
