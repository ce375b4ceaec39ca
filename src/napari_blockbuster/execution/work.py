"""Protocol of the work that runs for each tile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

__all__ = ["R", "RetryingWork", "Work", "wants_retry"]

R = TypeVar("R", covariant=True)


class Work(Protocol[R]):
    """Something to do for each of many items (tiles, or blocks), in two phases so that input and output overlap.

    A work is sent to each worker once, as one pickle; an item and its payload are sent with each task. A work may have two
    more attributes, which workers are checked for before they get an item: ``folder``, a folder of the job that they must see
    and be able to write to, and ``required_model``, a model that they must be able to load.
    """

    def ahead(self, item: int) -> Any:
        """Payload for an item that will run here soon; may start reading."""

    def ship(self, item: int) -> Any:
        """Payload for an item that will run in another process: small, and picklable."""

    def __call__(self, item: int, payload: Any) -> Callable[[], R]:
        """Do the work; the returned callable waits for what is still being written and gives the result."""

    def lost(self, item: int, error: BaseException) -> R:
        """The result for an item whose worker died, or whose work raised; raises what must stop the run."""


class RetryingWork(Work[R], Protocol[R]):
    """A work whose items may be tried again."""

    def retry(self, result: Any, attempts: int) -> bool:
        """Whether an item with this result, after so many attempts, is tried again."""


def wants_retry(work: Any, result: Any, attempts: int) -> bool:
    """Whether a work asks for another attempt; one without `RetryingWork.retry` never does."""
    retry = getattr(work, "retry", None)
    return retry is not None and bool(retry(result, attempts))
