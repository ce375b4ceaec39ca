"""Work that runs for each tile: the interface between the steps of a job and the code that runs them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

if TYPE_CHECKING:
    from napari_blockbuster.models import Model

__all__ = ["Work"]

R = TypeVar("R", covariant=True)


class Work(ABC, Generic[R]):
    """Work to do for each of many items (tiles, or blocks), in three phases so that input and output overlap.

    `prepare` waits for the input of an item, the call does the work, and the callable that it returns waits for the output.
    A work is sent to each worker once, as one pickle; an item and its payload are sent with each task.
    """

    takes_turns: ClassVar[bool] = False
    """Whether a process calls the work on one item at a time, while it prepares the next one and finishes the last one:
    for works that run a model."""
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

    def warm_up(self) -> None:
        """Import and compile what the first item needs, while the model is loaded. Default: nothing."""

    @abstractmethod
    def ahead(self, item: int) -> Any:
        """Return the payload for an item that will run here soon; may start reading."""

    @abstractmethod
    def ship(self, item: int) -> Any:
        """Return the payload for an item that will run in another process: small, and picklable."""

    def prepare(self, item: int, payload: Any) -> Any:
        """Return the input of an item. Default: the payload. If it holds anything, `drop` must release it."""
        return payload

    def drop(self, prepared: Any) -> None:
        """Release the input of an item that does not run after all. Default: nothing to release."""

    @abstractmethod
    def __call__(self, item: int, prepared: Any) -> Callable[[], R]:
        """Do the work on an input from `prepare`. The returned callable does what needs no turn, and returns the result."""

    @abstractmethod
    def lost(self, item: int, error: BaseException) -> R:
        """Return the result for an item whose worker died or whose work raised, or raise an error that must stop the run."""

    def hang(self, item: int) -> BaseException | None:
        """Return the error that says that an item exceeded its time limit; None if it left no note of that."""
        return None

    def retry(self, result: Any, attempts: int) -> bool:
        """Return whether an item with this result, after this many attempts, is tried again."""
        return False
