"""Model section of the dock: a model and its settings."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox

from napari_blockbuster.job.state.edited_function import read_anew
from napari_blockbuster.models import Model, list_models
from napari_blockbuster.widgets.controls import Note, Section

from .forms import ModelForm

__all__ = ["ModelSection"]


class ModelSection(Section):
    """Chooses a model and its settings. `model` is None while they are invalid; `note` shows the reason."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__("2  Model")
        self.model: Model | None = None
        self.choice = QComboBox()
        self._infos = list_models()
        self.choice.addItems(list(self._infos))
        self.row("Model", self.choice, "Model that finds the objects in each tile.")
        self.summary = Note()
        self.form.addRow(self.summary)
        self.settings: ModelForm | None = None
        self.note = Note()
        self.form.addRow(self.note)
        self.choice.currentTextChanged.connect(self._choose)
        self._choose(self.choice.currentText())

    @property
    def problem(self) -> str:
        """Reason why there is no model, or ""."""
        return "" if self.model is not None else self.note.plain or self.summary.plain

    def current(self) -> Model | None:
        """Return the model, with the file of a function read again.

        Raises
        ------
        ValueError
            If the file cannot be read.
        """
        if self.model is not None:
            try:
                self.model = read_anew(self.model)
            except (OSError, ValueError) as error:
                raise ValueError(f"The model cannot be used: {error}") from None
        return self.model

    def set_model(self, name: str, values: dict[str, object]) -> None:
        """Choose a model and fill in its settings."""
        self.choice.setCurrentText(name)
        if self.settings is not None:
            self.settings.set_values(values)

    def _choose(self, name: str) -> None:
        info = self._infos[name]
        self.summary.say(info.summary, problem=not info.usable)
        if self.settings is not None:
            self.form.removeRow(self.settings)
            self.settings = None
        if info.usable:
            self.settings = ModelForm(name)
            self.settings.changed.connect(self._update)
            self.form.insertRow(2, self.settings)
        self._update()

    def _update(self) -> None:
        self.model = None
        try:
            if self.settings is not None:
                self.model = self.settings.model()
            self.note.say("")
        except (ValueError, OSError, ImportError) as error:
            self.note.say(str(error), problem=True)
        self.changed.emit()
