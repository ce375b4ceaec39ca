"""Description of the models, and of the settings of one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .text import Rows

if TYPE_CHECKING:
    pass

__all__ = ["describe_model", "describe_models"]


def describe_models() -> Rows:
    """Return name and summary of every registered model."""
    from napari_blockbuster.models import list_models

    return [(info.name, info.summary) for info in list_models().values()]


def describe_model(name: str) -> tuple[str, Rows]:
    """Return a model's summary, and default, unit, range and help of each setting."""
    from napari_blockbuster.models import model_class

    kind = model_class(name)
    schema = kind.model_json_schema()
    required = schema.get("required", ())
    rows = [
        (f"{field}={'(required)' if field in required else _default(about)}", _help(about))
        for field, about in schema.get("properties", {}).items()
    ]
    return f"{kind.family}: {kind.summary}\n", rows


def _default(about: dict[str, Any]) -> str:
    value = about.get("default")
    return "(empty)" if value is None else json.dumps(value) if not isinstance(value, str) else value


def _help(about: dict[str, Any]) -> str:
    """Return description, unit, choices and range of a setting from its JSON schema."""
    kinds = [about, *about.get("anyOf", [])]
    notes = [about["unit"]] if about.get("unit") else []
    for kind in kinds:
        if "enum" in kind:
            notes.append(" | ".join(map(str, kind["enum"])))
        low, above = kind.get("minimum"), kind.get("exclusiveMinimum")
        high, below = kind.get("maximum"), kind.get("exclusiveMaximum")
        limits = [(">=", low), (">", above), ("<=", high), ("<", below)]
        if words := [f"{sign} {value:g}" for sign, value in limits if value is not None]:
            notes.append(" and ".join(words))
    return str(about.get("description", "")) + (f" [{'; '.join(notes)}]" if notes else "")
