"""Buttons of the inspector that segment the tiles of the selected pair again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari.utils.notifications import show_warning
from qtpy.QtCore import QObject, Signal

from napari_blockbuster.merge.pairs import PairOfLabels
from napari_blockbuster.models import Model
from napari_blockbuster.widgets.inspector.selected.descriptions import replaced_text
from napari_blockbuster.widgets.run.control.control import RunControl

from .buttons import AgainButtons
from .segment_again import SegmentAgain

__all__ = ["SecondTryActions"]


class SecondTryActions(QObject):
    """Connects the buttons to a `SegmentAgain`, and says what changed.

    Parameters
    ----------
    viewer : napari.Viewer
    control : RunControl
    buttons : AgainButtons
    pair : callable
        Return the selected pair.
    model : callable
        Return the model of the form.
    """

    answered = Signal()
    """There is a text about the tiles, with the buttons that answer it."""
    replaced = Signal()
    """The labels of the tiles get other numbers, or are no more."""

    def __init__(
        self,
        viewer: Any,
        control: RunControl,
        buttons: AgainButtons,
        pair: Callable[[], PairOfLabels | None],
        model: Callable[[], Model | None],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._control, self._buttons, self._pair, self._model = control, buttons, pair, model
        self._before: tuple[int, int] | None = None
        self.again = SegmentAgain(viewer, control, parent)
        self.again.changed.connect(self.show)
        self.again.said.connect(self.say)
        self.again.replacing.connect(self._replacing)
        self.again.refused.connect(show_warning)
        buttons.start_wanted.connect(self.start)
        buttons.accept_wanted.connect(self.again.accept)
        buttons.discard_wanted.connect(self.again.discard)
        buttons.restore_wanted.connect(lambda: self.again.restore(self._to_restore()))

    def start(self) -> None:
        """Segment the tiles of the selected pair with the settings of the form."""
        tiles, model = self._tiles(), self._model()
        if not tiles:
            show_warning("Select a pair first. Its tiles are segmented again.")
        elif model is None:
            show_warning("The model of the form cannot be used. See the reason below it.")
        else:
            self.again.start(tiles, model)

    def show(self) -> None:
        """Enable the buttons that can be used."""
        buttons, busy = self._buttons, self._control.is_busy
        waiting = bool(self.again.tiles) and not busy
        buttons.accept.setEnabled(waiting)
        buttons.discard.setEnabled(waiting)
        buttons.start.setEnabled(self._pair() is not None and not busy)
        buttons.restore.setEnabled(not busy and self.again.can_restore(self._to_restore()))

    def say(self, text: str, problem: bool = False) -> None:
        """Show a text about the tiles."""
        self._buttons.note.say(text, problem)
        if text:
            self.answered.emit()

    def report(self) -> None:
        """Say how the number of objects changed with the tiles, and which decisions no longer count."""
        decisions, merged = self._control.decisions, self._control.merged
        if self._before is None or decisions is None or merged is None:
            return
        (n_before, n_aside), self._before = self._before, None
        n_more_aside = len(decisions.set_aside) - n_aside
        self.say(replaced_text(n_before, merged.n_objects, n_more_aside), n_more_aside > 0)

    def _tiles(self) -> list[int]:
        pair = self._pair()
        return sorted({tile for tile, _ in pair}) if pair is not None else []

    def _to_restore(self) -> list[int]:
        """Return the tiles of the selected pair; without one, those that were accepted last."""
        return self._tiles() or self.again.accepted

    def _replacing(self) -> None:
        decisions, merged = self._control.decisions, self._control.merged
        if decisions is not None and merged is not None:
            self._before = merged.n_objects, len(decisions.set_aside)
        self.replaced.emit()
