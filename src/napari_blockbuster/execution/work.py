"""Work that runs for each tile: the interface between the steps of a job and the code that runs them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from napari_blockbuster.models import Model

__all__ = ["Work"]

R = TypeVar("R", covariant=True)


class Work(ABC, Generic[R]):
    """Work to do for each of many items (tiles, or blocks), in two phases so that input and output overlap.

    A work is sent to each worker once, as one pickle; an item and its payload are sent with each task.
    """

    ends_with_run = False
    """Whether no item may be running once the run has ended, because the run writes to a folder that is then deleted."""

    time_limit: float | None = None
    """Seconds for one item, which a worker process keeps itself as long as it is not stopped."""

    @property
    def folder(self) -> Path | None:
        """A folder of the job that workers must see and be able to write to."""
        return None

    @property
    def required_model(self) -> Model | None:
        """A model that workers must be able to load."""
        return None

    @property
    def functions(self) -> Sequence[Callable[..., Any]]:
        """Functions of the user that travel to workers with the code of their module."""
        return ()

    @abstractmethod
    def ahead(self, item: int) -> Any:
        """Return the payload for an item that will run here soon; may start reading."""

    @abstractmethod
    def ship(self, item: int) -> Any:
        """Return the payload for an item that will run in another process: small, and picklable."""

    @abstractmethod
    def __call__(self, item: int, payload: Any) -> Callable[[], R]:
        """Do the work. The returned callable waits for pending writes and returns the result."""

    @abstractmethod
    def lost(self, item: int, error: BaseException) -> R:
        """Return the result for an item whose worker died or whose work raised, or raise an error that must stop the run."""

    def hang(self, item: int) -> BaseException | None:
        """Return the error that says that an item exceeded its time limit; None if it left no note of that."""
        return None

    def retry(self, result: Any, attempts: int) -> bool:
        """Return whether an item with this result, after this many attempts, is tried again."""
        return False
