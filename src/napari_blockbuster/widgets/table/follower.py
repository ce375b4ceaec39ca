"""Makes the table of a labels layer in a thread, and again whenever its objects change."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from .content import TableContent
from .latest import Latest
from .subjects import JobSubject, Subject, find_control, find_subjects

__all__ = ["TableFollower"]


class TableFollower(QObject):
    """Keeps the table of one subject up to date.

    Parameters
    ----------
    viewer : napari.Viewer
    parent : QObject
    """

    subjects_changed = Signal()
    """There are other labels layers, or other names."""
    content_changed = Signal(object)
    """A `TableContent`, or None while there is no table."""
    said = Signal(str, bool)
    """A sentence for the user, and whether it is a problem."""

    def __init__(self, viewer: Any, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.subjects: list[Subject] = []
        self.subject: Subject | None = None
        self._made_of: Any = None
        self._is_paused = True
        self._control: Any = None
        self._work = Latest(self, self._failed)
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.timeout.connect(self._find)
        layers = viewer.layers.events
        for event in (layers.inserted, layers.removed, layers.reordered):
            event.connect(self._layers_changed)

    def close(self) -> None:
        """Stop listening to the viewer."""
        layers = self._viewer.layers.events
        for event in (layers.inserted, layers.removed, layers.reordered):
            event.disconnect(self._layers_changed)
        self.watch(None)

    def pause(self, on: bool) -> None:
        """Make no tables while nobody sees them."""
        self._is_paused = on
        if not on:
            self._find()

    # ----------------------------------------------------------------------------------------------------- subjects
    def _layers_changed(self, event: Any = None) -> None:
        self._later.start()

    def _find(self) -> None:
        """Look for labels layers, and for the run of the dock."""
        if self._is_paused:
            return
        if self._control is None:
            self._control = find_control(self._viewer)
            if self._control is not None:
                self._control.changed.connect(self._later.start)
        found = find_subjects(self._viewer, self._control)
        has_changed = [_key(s) for s in found] != [_key(s) for s in self.subjects]
        kept = next((s for s in found if self.subject is not None and s.layer is self.subject.layer), None)
        # Also if the layers are the same: there may be other images to measure.
        self.subjects = found
        self.subject = kept if kept is not None else (found[0] if found else None)
        if has_changed:
            self.subjects_changed.emit()
        self.update()

    def watch(self, subject: Subject | None) -> None:
        """List the objects of another labels layer."""
        if subject is not self.subject:
            self.subject = subject
            self._made_of = None
            self.update()

    # -------------------------------------------------------------------------------------------------------- table
    def update(self, again: bool = False) -> None:
        """Make the table if its objects changed, or in any case."""
        if again:
            # There may be images that were added a moment ago.
            self._find()
        subject = self.subject
        state = None if subject is None else subject.state
        if self._is_paused or (state is self._made_of and not again):
            return
        self._made_of = state
        if subject is None or state is None:
            self._work.forget()
            self.content_changed.emit(None)
            self.said.emit(_nothing(subject), False)
            return
        self.said.emit("Measuring…", False)
        make = subject.prepare()
        self._work.ask(lambda: TableContent(make()), lambda content: self._made(content, state))

    def _made(self, content: TableContent, state: Any) -> None:
        # The objects may have changed once more.
        if self.subject is not None and self.subject.state is state:
            self.said.emit("" if len(content) else "There are no objects.", False)
            self.content_changed.emit(content)
        else:
            self.update()

    def _failed(self, error: Exception) -> None:
        self.content_changed.emit(None)
        self.said.emit(str(error) or type(error).__name__, True)


def _key(subject: Subject) -> tuple[int, type, str]:
    return id(subject.layer), type(subject), subject.name


def _nothing(subject: Subject | None) -> str:
    if subject is None:
        return "There is no labels layer. Segment an image, or add labels to the viewer."
    return "The table appears once the tiles are merged." if isinstance(subject, JobSubject) else ""
