"""Buttons of the inspector."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_blockbuster.widgets.controls import Note, button, row_of

__all__ = ["AgainButtons", "DecisionButtons", "PickButtons", "SidePanel"]


def _nothing() -> None:
    pass


def _column_of(*rows: QWidget) -> QVBoxLayout:
    column = QVBoxLayout()
    column.setContentsMargins(0, 0, 0, 0)
    for row in rows:
        column.addWidget(row)
    return column


class DecisionButtons(QWidget):
    """Decide on the selected pair, step through the list, undo and redo."""

    decided = Signal(object)
    """Decision: "join", "cut", or None to leave the pair to the merge rule."""
    rest_cut = Signal()
    """Cut the pair together with all that still connects its two labels."""
    stepped = Signal(int)
    """Next (1) or previous (-1) line."""
    undone = Signal()
    redone = Signal()
    export_wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.join = button(
            "Join (J)", "Make the two labels one object, whatever the rule says.", lambda: self.decided.emit("join")
        )
        self.cut = button(
            "Cut (K)", "Keep the two labels separate, whatever the rule says.", lambda: self.decided.emit("cut")
        )
        self.clear = button(
            "Clear my decision", "Leave this pair to the merge rule again.", lambda: self.decided.emit(None)
        )
        self.cut_rest = button("", "Cut what still connects the two labels, as one step.", self.rest_cut.emit)
        self.cut_rest.hide()
        previous = button("◀", "Previous (Shift+N)", lambda: self.stepped.emit(-1))
        following = button("▶", "Next (N)", lambda: self.stepped.emit(1))
        self.undo = button("Undo (U)", "Undo the last decision.", self.undone.emit)
        self.redo = button("Redo", "Redo the decision that was undone last (Shift+U).", self.redone.emit)
        export = button("CSV…", "Save all pairs with their evidence and your decisions.", self.export_wanted.emit)
        self.setLayout(
            _column_of(
                self.cut_rest,
                row_of(self.join, self.cut, self.clear),
                row_of(previous, following, self.undo, self.redo, export),
            )
        )

    def set_pair(self, is_chosen: bool) -> None:
        """Enable decisions if a pair is selected."""
        for each in (self.join, self.cut, self.clear):
            each.setEnabled(is_chosen)

    def offer_rest(self, n_links: int) -> None:
        """Offer to cut the other links of the selected pair."""
        self.cut_rest.setText("Cut these too" if n_links < 2 else f"Cut these {n_links:,} links too")
        self.cut_rest.setVisible(bool(n_links))


class PickButtons(QWidget):
    """Decide on objects that the user clicks in the viewer. At most one button is down."""

    started = Signal(str)
    """Decision: "join", "cut" or "remove"."""
    stopped = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.join = button("Join two clicked", "Click two objects in the viewer to join them.", _nothing)
        self.cut = button(
            "Cut two clicked", "Click the two parts of an object, one on each side of a seam, to cut it.", _nothing
        )
        self.remove = button("Delete clicked", "Click an object in the viewer to delete it.", _nothing)
        for each in self._all():
            each.setCheckable(True)
        self.note = Note()
        self.setLayout(_column_of(row_of(*self._all()), self.note))
        for each, decision in zip(self._all(), ("join", "cut", "remove"), strict=True):
            each.toggled.connect(lambda on, each=each, decision=decision: self._toggled(on, decision, each))

    def _all(self) -> tuple[QPushButton, ...]:
        return self.join, self.cut, self.remove

    def release(self) -> None:
        """Release both buttons."""
        for each in self._all():
            each.setChecked(False)

    def _toggled(self, on: bool, decision: str, pressed: QPushButton) -> None:
        if on:
            for other in self._all():
                if other is not pressed:
                    other.setChecked(False)
            self.started.emit(decision)
        elif not any(each.isChecked() for each in self._all()):
            self.stopped.emit()


class AgainButtons(QWidget):
    """Segment the tiles of the selected pair again; accept, discard or undo the result."""

    start_wanted = Signal()
    accept_wanted = Signal()
    discard_wanted = Signal()
    restore_wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.start = button(
            "Segment again",
            "Segment the tiles of this pair with the model and settings of the form, and show the result for comparison.",
            self.start_wanted.emit,
        )
        self.accept = button("Accept", "Replace the tiles with the new ones, and merge.", self.accept_wanted.emit)
        self.discard = button("Discard", "Discard the new tiles.", self.discard_wanted.emit)
        self.restore = button(
            "Restore original tiles",
            "Undo the acceptance of the tiles of this pair, with all tiles that were accepted together with them.",
            self.restore_wanted.emit,
        )
        self.note = Note()
        self.setLayout(_column_of(row_of(self.start, self.accept, self.discard), self.note, row_of(self.restore, None)))


class SidePanel(QWidget):
    """Right side of the inspector: description of the selected pair, and buttons."""

    def __init__(self) -> None:
        super().__init__()
        self.said = Note()
        self.decisions = DecisionButtons()
        self.picking = PickButtons()
        self.again = AgainButtons()
        column = _column_of(self.said, self.decisions, self.picking, self.again)
        column.addStretch()
        self.setLayout(column)
