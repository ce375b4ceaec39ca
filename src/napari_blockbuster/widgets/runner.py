"""Work in threads, with results and errors delivered in the GUI thread."""

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
    """An error raised in a thread. It is sent as a value, because napari's workers hide RuntimeErrors of a generator."""

    error: Exception


class ClosingWorker(GeneratorWorker):
    """Closes its generator at the end. napari's own worker leaves it open after `quit`, with its locks held."""

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
    """Run a generator in a thread, and deliver its values in the GUI thread.

    Parameters
    ----------
    produce : callable
        Return the generator. Called in the thread.
    on_event, on_error : callable
        Receive each value, and the error that was raised.
    on_done : callable, optional
        Called last, also after an error.
    owner : QObject, optional
        Nothing is called once it is deleted, as its window may close before the thread ends.
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
    """Run one call in a thread, and deliver its result or error in the GUI thread."""

    def produce() -> Iterator[Any]:
        yield call()

    return stream(produce, on_result, on_done, on_error, owner)
