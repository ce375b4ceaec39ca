"""Tour of the dock on the sample image: six steps, each pointing at its button."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from napari.utils.notifications import show_warning
from qtpy.QtCore import QObject, QPoint, QTimer
from qtpy.QtWidgets import QAbstractButton, QWidget

from .bubble import Bubble

__all__ = ["Tour"]

LOOK_INTERVAL = 150
"""Milliseconds between two looks at the dock, which moves under the bubble."""


@dataclass(frozen=True)
class Stop:
    """One step of the tour.

    Attributes
    ----------
    title, text : str
    target : callable
        Return the widget to point at.
    is_done : callable or None
        Whether what the step asks for has happened. The tour then continues. None: it continues only with *Next*.
    """

    title: str
    text: str
    target: Callable[[], QWidget]
    is_done: Callable[[], bool] | None = None


class Tour(QObject):
    """Leads through the dock. *Next* presses the button of a step that the user has not pressed.

    Parameters
    ----------
    dock : SegmentWidget
    """

    def __init__(self, dock: Any) -> None:
        super().__init__(dock)
        self._dock = dock
        self.bubble: Bubble | None = None
        self.place = 0
        self._stops: list[Stop] = []
        self._seen_at = -1
        self._timer = QTimer(self)
        self._timer.setInterval(LOOK_INTERVAL)
        self._timer.timeout.connect(self._look)

    def start(self) -> None:
        """Start the tour on the sample image, from the beginning."""
        dock = self._dock
        if dock.control.is_busy:
            show_warning("A run is in progress. Pause it first.")
            return
        self.end()
        if not dock.choose_sample():
            return
        self._stops = _stops(dock)
        self.bubble = Bubble(dock.window(), dock.viewer.theme)
        self.bubble.next_wanted.connect(self.next)
        self.bubble.close_wanted.connect(self.end)
        self._show(0)
        self._timer.start()

    def next(self) -> None:
        """Press the button of this step if it was not pressed, and go to the next step."""
        stop = self._stops[self.place]
        if stop.is_done is None or stop.is_done():
            self._show(self.place + 1)
        elif self._can_press():
            # The tour continues once the step is done.
            stop.target().click()

    def _can_press(self) -> bool:
        target = self._stops[self.place].target()
        return isinstance(target, QAbstractButton) and target.isEnabled() and not self._dock.control.is_busy

    def end(self) -> None:
        """Close the bubble."""
        self._timer.stop()
        if self.bubble is not None:
            self.bubble.hide()
            self.bubble.deleteLater()
            self.bubble = None

    def _show(self, place: int) -> None:
        if place >= len(self._stops) or self.bubble is None:
            self.end()
            return
        self.place, self._seen_at = place, -1
        stop = self._stops[place]
        self.bubble.say(f"{place + 1} of {len(self._stops)} · {stop.title}", stop.text, place == len(self._stops) - 1)
        self.bubble.show()
        self._point()

    def _look(self) -> None:
        stop = self._stops[self.place]
        if stop.is_done is not None and stop.is_done() and self.place < len(self._stops) - 1:
            self._show(self.place + 1)
        else:
            self._point()

    def _point(self) -> None:
        stop = self._stops[self.place]
        target = stop.target()
        if self.bubble is not None:
            self.bubble.next.setEnabled(stop.is_done is None or stop.is_done() or self._can_press())
            self._reveal(target)
        if self.bubble is not None and self._dock.isVisible() and target.isVisible():
            self.bubble.point_at(target, self._dock)
        elif self.bubble is not None and not self._dock.isVisible():
            self.end()

    def _reveal(self, target: QWidget) -> None:
        """Open the step of the target and scroll to it, again if a text above it has moved it. The user may scroll away."""
        form = self._dock.form
        if form.path.isAncestorOf(target) and (target.isVisible() or self._seen_at < 0):
            at = target.mapTo(form.path, QPoint(0, target.height())).y()
            if at != self._seen_at:
                self._seen_at = at
                form.reveal(target)


def _stops(dock: Any) -> list[Stop]:
    """Return the steps of the tour of a dock."""
    control = dock.control
    found: list[object] = []
    dock.previews.tile_found.connect(found.append)
    job_before = control.job

    def is_run() -> bool:
        return control.job is not job_before and control.state == "staged" and control.merged is not None

    return [
        Stop(
            "Image",
            "Nuclei in 3D, as a sample. Every image layer can be segmented. Open this line to choose a layer, its "
            "channel and its voxel size.",
            lambda: dock.image.opener,
        ),
        Stop(
            "Model",
            "A model finds the objects in each tile. This one needs the diameter of your objects in pixels: measure a "
            "typical one on the image.",
            lambda: dock.model.settings.fields["diameter"].native if dock.model.settings else dock.model.choice,
        ),
        Stop(
            "Preview",
            "Try one tile before you run them all. Press this button. The report says how long the run takes and whether "
            "the halo is wide enough.",
            lambda: dock.preview.tile,
            lambda: bool(found),
        ),
        Stop(
            "Run",
            "Press Run. Tiles are segmented in the background and appear as they finish. You can pause and resume at "
            "any time, also tomorrow.",
            lambda: dock.running.main,
            is_run,
        ),
        Stop(
            "Check the seams",
            "Objects that cross a seam were joined. Show seams marks each pair of labels; Inspect merges lists them, and "
            "lets you correct them.",
            lambda: dock.merging.inspect,
        ),
        Stop(
            "Write",
            "This button saves the merged labels as an OME-Zarr. The path is in the step Run. Nothing is overwritten.",
            lambda: dock.merging.write,
        ),
    ]
