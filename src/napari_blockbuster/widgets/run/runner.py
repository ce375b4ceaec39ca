"""Work in threads, with its results and errors brought back to the GUI thread."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from napari.qt.threading import GeneratorWorker, create_worker
from qtpy.compat import isalive
from qtpy.QtCore import QObject

__all__ = ["Failed", "in_thread", "stream"]


@dataclass(frozen=True)
class Failed:
    """What a thread raised. It travels as a value: napari's workers swallow RuntimeErrors raised in a generator."""

    error: Exception


class ClosingWorker(GeneratorWorker):
    """Closes its generator however it ends; napari's own leaves one that is told to quit half-way, its locks held."""

    def work(self) -> Any:
        try:
            return super().work()
        finally:
            self._gen.close()


def stream(
    produce: Callable[[], Iterator[Any]],
    on_event: Callable[[Any], None],
    on_done: Callable[[], None] | None = None,
    on_error: Callable[[Exception], None] | None = None,
    owner: QObject | None = None,
) -> GeneratorWorker:
    """Run a generator in a thread; each value, and at last the end or the error, arrives in the GUI thread.

    Parameters
    ----------
    produce : callable
        Makes the generator, in the thread.
    on_event, on_error : callable
        Told of each value, and of what was raised.
    on_done : callable, optional
        Called last, whatever happened.
    owner : QObject, optional
        Nothing is told any more once it is gone: its window may be closed before the thread has ended.
    """

    def alive() -> bool:
        return owner is None or isalive(owner)

    def guarded() -> Generator[Any, None, None]:
        events: Any = ()
        try:
            events = produce()
            yield from events
        except Exception as error:
            yield Failed(error)
        finally:
            close = getattr(events, "close", None)
            if close is not None:
                close()

    def receive(event: Any) -> None:
        if not alive():
            return
        if not isinstance(event, Failed):
            on_event(event)
        elif on_error is not None:
            on_error(event.error)

    connect: dict[str, Any] = {"yielded": receive}
    if on_done is not None:
        connect["finished"] = lambda: on_done() if alive() else None
    worker: GeneratorWorker = create_worker(guarded, _connect=connect, _worker_class=ClosingWorker)
    return worker


def in_thread(
    call: Callable[[], Any],
    on_result: Callable[[Any], None],
    on_error: Callable[[Exception], None],
    on_done: Callable[[], None] | None = None,
    owner: QObject | None = None,
) -> GeneratorWorker:
    """Run one call in a thread; its result or error arrives in the GUI thread."""

    def produce() -> Iterator[Any]:
        yield call()

    return stream(produce, on_result, on_done, on_error, owner)
