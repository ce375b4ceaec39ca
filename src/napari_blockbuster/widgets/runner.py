"""Work in threads, with its results and errors brought back to the GUI thread."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from napari.qt.threading import GeneratorWorker, create_worker

__all__ = ["Failed", "in_thread", "stream"]


@dataclass(frozen=True)
class Failed:
    """What a thread raised. It travels as a value: napari's workers swallow RuntimeErrors raised in a generator."""

    error: Exception


def stream(
    produce: Callable[[], Iterator[Any]],
    on_event: Callable[[Any], None],
    on_done: Callable[[], None] | None = None,
    on_error: Callable[[Exception], None] | None = None,
) -> GeneratorWorker:
    """Run a generator in a thread; each value, and at last the end or the error, arrives in the GUI thread.

    The generator is closed when it ends, however that is: locks and clusters rely on it. To stop it, tell what it runs
    (`Job.cancel`), not the worker: a worker that is aborted never closes its generator.
    """

    def guarded() -> Generator[Any, None, None]:
        events = produce()
        try:
            yield from events
        except Exception as error:
            yield Failed(error)
        finally:
            close = getattr(events, "close", None)
            if close is not None:
                close()

    def receive(event: Any) -> None:
        if not isinstance(event, Failed):
            on_event(event)
        elif on_error is not None:
            on_error(event.error)

    connect: dict[str, Any] = {"yielded": receive}
    if on_done is not None:
        connect["finished"] = on_done
    return create_worker(guarded, _connect=connect)


def in_thread(
    call: Callable[[], Any],
    on_result: Callable[[Any], None],
    on_error: Callable[[Exception], None],
    on_done: Callable[[], None] | None = None,
) -> GeneratorWorker:
    """Run one call in a thread; its result or error arrives in the GUI thread."""

    def produce() -> Iterator[Any]:
        yield call()

    return stream(produce, on_result, on_done, on_error)
