"""Check that a worker can load a model, and say what went wrong."""

from __future__ import annotations

from typing import Any

from napari_blockbuster.execution.serialization import pickle_work
from napari_blockbuster.models import Model

__all__ = ["DEATHS", "load_shipped", "loading_killed", "not_loaded", "shipped_model"]

DEATHS = 2
"""Number of workers that die while they load the model, after which the model is taken for the cause."""


class _Loading:
    """A model that is sent to a worker."""

    def __init__(self, model: Model) -> None:
        self.model = model

    @property
    def functions(self) -> list[Any]:
        """Functions of the user's that must travel along."""
        return self.model.functions


def shipped_model(model: Model) -> bytes:
    """Return the pickle of a model for a worker."""
    return pickle_work(_Loading(model))


def load_shipped(blob: bytes) -> str:
    """Load a model in a worker. Return the error as text: some exceptions cannot be sent back."""
    import cloudpickle

    from napari_blockbuster.execution.turns import in_turn
    from napari_blockbuster.models.loaded_model import load_once

    try:
        in_turn(_nothing, _nothing, load_once, cloudpickle.loads(blob).model)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _nothing() -> None:
    """Do nothing."""


def not_loaded(where: str, problem: str) -> str:
    """Return the message for a model that cannot be loaded."""
    return f"The model cannot be loaded {where} ({problem}). No tile was started. Fix the problem and resume."


def loading_killed(worker: str) -> str:
    """Return the message for a model that kills its worker while it is loaded."""
    return (
        f"Loading the model killed worker {worker} and {DEATHS - 1} more before it: it needs more memory than a worker has "
        "(give workers more memory), or the model's library crashed (the worker's log says which). No tile was started. "
        "Fix the problem and resume."
    )
