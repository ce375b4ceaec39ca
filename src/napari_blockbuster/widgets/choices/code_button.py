"""Ask for permission to run code: a button in the form, and a dialog."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QMessageBox, QPushButton, QSizePolicy, QWidget

from napari_blockbuster.models import Model
from napari_blockbuster.widgets.runner import in_thread

from .consent import Code, CodeNotAllowedError, consent, load_module

__all__ = ["CodeButton", "ask_to_run"]


class CodeButton(QPushButton):
    """Button that allows a function to run, hidden unless permission is needed. Modules are loaded in another process."""

    pressed_for = Signal()
    """Code was allowed, or loading a module succeeded or failed."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._code: Code | None = None
        self._options: dict[str, Any] = {}
        self._loading: Code | None = None
        self._problem: tuple[Code, str] | None = None
        # A long path must not widen the dock. The tooltip and the note below show all of it.
        self.setSizePolicy(QSizePolicy.Ignored, QSizePolicy.Fixed)
        self.clicked.connect(lambda *_: self._allow())
        self.hide()

    def refuse_unallowed(self, code: Code | None) -> None:
        """Show the button if code needs permission.

        Raises
        ------
        CodeNotAllowedError
            If it does.
        """
        needed = code is not None and consent.needs(code)
        self._show(code if needed else None)
        if needed:
            raise CodeNotAllowedError(
                f"Nothing was imported yet. The model is {code}. Press the button above if you trust this code."
            )

    def loaded(self, code: Code, options: dict[str, Any]) -> Model:
        """Return the model of a function in a module.

        Raises
        ------
        CodeNotAllowedError
            If the module is not loaded. The button to load it is shown.
        ValueError
            If loading it failed.
        """
        self._options = options
        self.refuse_unallowed(code)
        self._show(code)
        if self._loading == code:
            raise CodeNotAllowedError(f"Loading {code}…")
        if self._problem is not None and self._problem[0] == code:
            raise ValueError(self._problem[1])
        model = consent.model(code)
        if model is None:
            raise CodeNotAllowedError(f"Nothing was imported yet. The model is {code}. Press the button above.")
        return model

    def _show(self, code: Code | None) -> None:
        self._code = code
        if code is not None:
            again = "Reload: " if consent.model(code) is not None else ""
            self.setText(f"{again}{code.button}".replace("&", "&&"))
            self.setToolTip(f"Run {code}. Modules are imported in a separate process.")
            self.setAccessibleName(f"Run {code}")
            self.setEnabled(self._loading != code)
        self.setVisible(code is not None)

    def _allow(self) -> None:
        code = self._code
        if code is None:
            return
        consent.allow(code)
        self._problem = None
        if code.kind == "module":
            self._loading = code
            options = self._options

            def found(model: Model) -> None:
                consent.keep(code, model)

            def failed(error: Exception) -> None:
                self._problem = code, str(error)

            in_thread(lambda: load_module(code.source, options), found, failed, self._loaded, owner=self)
        self.pressed_for.emit()

    def _loaded(self) -> None:
        self._loading = None
        self.pressed_for.emit()


def ask_to_run(parent: QWidget, code: Code, run: Any) -> QMessageBox:
    """Ask for permission to run code of a job; then call `run`."""
    box = QMessageBox(parent)
    box.setWindowTitle("Blockbuster")
    box.setIcon(QMessageBox.Warning)
    # Names in a job folder may look like markup.
    box.setTextFormat(Qt.PlainText)
    box.setText(f"To resume, this job runs {code}.\n\nRun it only if you trust its author.")
    yes = box.addButton(code.button.replace("&", "&&"), QMessageBox.AcceptRole)
    box.setDefaultButton(box.addButton(QMessageBox.Cancel))

    def clicked(pressed: Any) -> None:
        if pressed is yes:
            consent.allow(code)
            run()

    box.buttonClicked.connect(clicked)
    box.open()
    return box
