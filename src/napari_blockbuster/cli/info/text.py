"""Words of the tables that describe jobs, images and models."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_blockbuster.machine.units import shape_text

__all__ = ["Rows", "by", "listed", "named"]

Rows = list[tuple[str, str]]


def by(shape: Any) -> str:
    return shape_text(np.atleast_1d(shape))


def named(axes: Any, shape: Any) -> str:
    names = list(axes or [])
    return by(shape) + (f" ({' '.join(names)})" if len(names) == len(shape) else "")


def listed(settings: dict[str, Any]) -> str:
    return f" ({', '.join(f'{k}={_short(v)}' for k, v in settings.items())})" if settings else ""


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"[{', '.join(map(_short, value))}]" if isinstance(value, list | tuple) else str(value)
