"""Registry of models by name: built-in families, and those that other packages register as entry points.

A family is imported when it is needed. Listing names costs nothing, and no network library is loaded before its model
runs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from .base import Model
from .extras import install_command, is_installed
from .suggestions import did_you_mean

__all__ = [
    "DEFAULT",
    "ModelInfo",
    "as_model",
    "get_model",
    "list_models",
    "model_class",
    "model_from_settings",
    "settings_of_labels",
    "upgraded_settings",
]

DEFAULT = "voronoi-otsu"
ENTRY_POINTS = "napari_blockbuster.models"
BUILT_IN = {
    "voronoi-otsu": "napari_blockbuster.models.classical.voronoi_otsu:VoronoiOtsu",
    "dog-watershed": "napari_blockbuster.models.classical.dog_watershed:DogWatershed",
    "distance-watershed": "napari_blockbuster.models.classical.distance_watershed:DistanceWatershed",
    "threshold": "napari_blockbuster.models.classical.threshold:Threshold",
    "cellpose": "napari_blockbuster.models.cellpose.model:Cellpose",
    "stardist": "napari_blockbuster.models.stardist.model:StarDist",
    "instanseg": "napari_blockbuster.models.instanseg.model:InstanSeg",
    "bioimageio": "napari_blockbuster.models.bioimageio.model:BioImageIO",
    "function": "napari_blockbuster.models.function.model:FunctionModel",
}
RANGE_ERRORS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}


class ModelInfo(NamedTuple):
    """A family in the registry.

    Attributes
    ----------
    name : str
    summary : str
        One sentence. For a family that cannot be used, the reason.
    usable : bool
        False if the extra of the family is not installed, or if another package's family cannot be imported.
    """

    name: str
    summary: str
    usable: bool


def _addresses() -> dict[str, str]:
    """Return "module:Class" by name. Other packages cannot replace built-in names."""
    found = {point.name: point.value for point in metadata.entry_points(group=ENTRY_POINTS)}
    return BUILT_IN | {name: value for name, value in sorted(found.items()) if name not in BUILT_IN}


def list_models() -> dict[str, ModelInfo]:
    """Return all families by name, the default first."""
    infos = {}
    for name in _addresses():
        try:
            summary = model_class(name).summary
            missing = _missing_extra(name)
            infos[name] = ModelInfo(name, missing or summary, not missing)
        except Exception as error:  # an error in another package must not hide the rest
            infos[name] = ModelInfo(name, f"cannot be used: {error}", False)
    return infos


def _missing_extra(name: str) -> str:
    """Return what to install before a family can run; "" for one that can. Its settings can be read without it."""
    if name not in BUILT_IN or is_installed(name):
        return ""
    return f"needs: {install_command(name)}"


def model_class(name: str) -> type[Model]:
    """Import and return the class of a family.

    Raises
    ------
    ValueError
        If there is no such family, or if it is not registered as a `Model`.
    ImportError
        If another package's family cannot be imported.
    """
    # To list the entry points of all packages takes a tenth of a second.
    addresses = BUILT_IN if name in BUILT_IN else _addresses()
    if name not in addresses:
        raise ValueError(f"there is no model {name!r}{did_you_mean(name, addresses)}. Models: {', '.join(addresses)}")
    module, _, qualname = addresses[name].partition(":")
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    if not (isinstance(found, type) and issubclass(found, Model)):
        raise ValueError(f"model {name!r} is registered as {addresses[name]}, which is not a subclass of Model")
    return found


def get_model(name: str = DEFAULT, **settings: Any) -> Model:
    """Build a model by name.

    Parameters
    ----------
    name : str
        One of `list_models`.
    **settings
        Its settings. Others keep their defaults.

    Raises
    ------
    ValueError
        If the name, or the name or value of a setting, is wrong. The message has the value and the allowed range.

    Examples
    --------
    >>> get_model("voronoi-otsu", diameter=18).diameter
    18.0
    """
    return _construct(model_class(name), settings)


def model_from_settings(settings: Mapping[str, Any]) -> Model:
    """Build a model from `Model.settings`. No code of the user's runs.

    Raises
    ------
    ValueError
        If the settings are not those of a model, are out of range, or belong to a Python function, which JSON cannot hold.
    """
    rest = dict(settings)
    name = rest.pop("model", None)
    if not isinstance(name, str):
        raise ValueError(
            f"these are not a model's settings: they have no name under 'model' ({', '.join(map(str, rest))})"
        )
    return _construct(model_class(name), rest)


def upgraded_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored settings with those that the model has gained since (see `Model.upgrade`).

    Settings of a model that is not installed here are returned as they are.
    """
    rest = dict(settings)
    name = rest.pop("model", None)
    try:
        return {"model": name, **model_class(name).upgrade(rest)}
    except Exception:  # an error in another package must not prevent opening a job
        return dict(settings)


def settings_of_labels(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored settings without those that the labels do not depend on (see `Model.without_effect`)."""
    try:
        ignored = model_class(str(settings.get("model"))).without_effect
    except Exception:  # an error in another package must not prevent opening a job
        ignored = ()
    return {name: value for name, value in settings.items() if name not in ignored}


def as_model(model: str | Model | type[Model] | Mapping[str, Any] | Callable[..., Any]) -> Model:
    """Return the model that a name, a function or settings stand for.

    Parameters
    ----------
    model : str, Model, dict or callable
        A name in the registry, ``"path/to/file.py:function"``, ``"package.module:function"``, a `Model` or its class,
        the settings of one, or any function that turns an array into labels of its shape.

    Raises
    ------
    ValueError, FileNotFoundError
        If the text names no model, file or function.
    TypeError
        If it is none of these.
    """
    if isinstance(model, Model):
        return model
    if isinstance(model, type) and issubclass(model, Model):
        return _construct(model, {})
    if isinstance(model, Mapping):
        return model_from_settings(model)
    if isinstance(model, str):
        return _from_text(model)
    # Arrays are refused below with a message that names their type.
    if callable(model) and not isinstance(model, np.ndarray):
        from napari_blockbuster.models.function.model import FunctionModel

        return FunctionModel.of(model)
    raise TypeError(
        f"a model is a name ({', '.join(_addresses())}), 'file.py:function', a Model or a function. "
        f"Got {type(model).__name__}"
    )


def _from_text(text: str) -> Model:
    if ":" in text or text.endswith(".py"):
        from napari_blockbuster.models.function.model import FunctionModel

        return FunctionModel.from_source(text)
    return get_model(text)


def _construct(cls: type[Model], settings: dict[str, Any]) -> Model:
    try:
        return cls.from_settings(settings)
    except ValidationError as error:
        raise ValueError(_sentence(cls, error)) from None


def _sentence(cls: type[Model], error: ValidationError) -> str:
    """Return the first problem of a validation error as a sentence."""
    first = error.errors(include_url=False)[0]
    place = first["loc"]
    if not place:
        return f"{cls.family}: {_message(first)}"
    name = str(place[0])
    if first["type"] == "extra_forbidden":
        known = cls.model_fields
        return f"{cls.family} has no setting {name!r}{did_you_mean(name, known)}. Its settings: {', '.join(known)}"
    if first["type"] == "missing":
        return f"{cls.family} needs the setting {name!r}: {cls.model_fields[name].description}"
    shown = ".".join(map(str, place))
    allowed = _allowed(cls, name) if len(place) == 1 else ""
    rule = f"it must be {allowed}" if allowed and first["type"] in RANGE_ERRORS else _message(first)
    return f"{cls.family}: {shown} is {first['input']!r}. {rule[:1].upper()}{rule[1:]}"


def _message(problem: Any) -> str:
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    # The rest names how the text was parsed.
    message = str(problem["msg"]).removeprefix("Input ").partition(", unable")[0]
    return f"it {message[0].lower()}{message[1:]}"


def _allowed(cls: type[Model], name: str) -> str:
    """Return the range of a setting in words."""
    limits = {
        k: v
        for m in cls.model_fields[name].metadata
        for k in ("ge", "gt", "le", "lt")
        if (v := getattr(m, k, None)) is not None
    }
    low, high = limits.get("ge", limits.get("gt")), limits.get("le", limits.get("lt"))
    if low is None and high is None:
        return ""
    if high is None:
        return f"{low} or more"
    return f"{low} to {high}" if low is not None else f"at most {high}"
