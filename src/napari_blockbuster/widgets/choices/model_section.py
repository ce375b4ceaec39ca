"""Model section of the dock: a model and its settings."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox

from napari_blockbuster.job.state.edited_function import read_anew
from napari_blockbuster.models import Model, list_models
from napari_blockbuster.widgets.controls import Note, Section, button

from .forms import ModelForm
from .plan import changed_settings

__all__ = ["ModelSection"]


class ModelSection(Section):
    """Chooses a model and its settings. `model` is None while they are invalid; `note` shows the reason."""

    changed = Signal()
    preview_wanted = Signal()

    def __init__(self) -> None:
        super().__init__("Model")
        self.model: Model | None = None
        self._suggested: float | None = None
        self._n_axes = 2
        self.choice = QComboBox()
        self._infos = list_models()
        self.choice.addItems(list(self._infos))
        self.row("Model", self.choice, "Model that finds the objects in each tile.")
        self.summary = Note()
        self.form.addRow(self.summary)
        self.settings: ModelForm | None = None
        self.note = Note()
        self.form.addRow(self.note)
        self.preview = button(
            "Preview these settings", "Segment the tile in the center of the view.", self.preview_wanted.emit
        )
        self.form.addRow(self.preview)
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

    def suggest_diameter(self, diameter: float | None) -> None:
        """Fill in the diameter that an image suggests; None: its default. A diameter that was changed is kept."""
        form = self.settings
        if form is None or "diameter" not in form.fields:
            return
        now = form.values().get("diameter")
        if now == self._suggested and diameter != now:
            form.set_values({"diameter": form.default("diameter") if diameter is None else diameter})
            self._suggested = diameter

    def show_axes(self, n_spatial_axes: int) -> None:
        """Name the unit of lengths: pixels in 2D, voxels in 3D."""
        self._n_axes = n_spatial_axes
        if self.settings is not None:
            self.settings.show_axes(n_spatial_axes)

    def _choose(self, name: str) -> None:
        info, self._suggested = self._infos[name], None
        self.summary.say(info.summary, problem=not info.usable)
        if self.settings is not None:
            self.form.removeRow(self.settings)
            self.settings = None
        if info.usable:
            self.settings = ModelForm(name)
            self.settings.changed.connect(self._update)
            self.settings.show_axes(self._n_axes)
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
        self._describe()
        self.changed.emit()

    def _describe(self) -> None:
        """Describe the model on one line: its name, its diameter, and the settings that were changed."""
        if self.model is None:
            self.say_brief(self.problem or "none", problem=True)
            return
        settings = changed_settings(self.model)
        settings.pop("sha256", None)
        if "diameter" in type(self.model).model_fields:
            settings = {"diameter": getattr(self.model, "diameter", None), **settings}
        values = (_text(name, value) for name, value in settings.items() if value is not None)
        self.say_brief(", ".join([self.model.family, *values]))


def _text(name: str, value: object) -> str:
    if isinstance(value, str) and "/" in value:
        # A file says by its name what it is.
        return value.rpartition("/")[2]
    return f"{name.replace('_', ' ')} {value:g}" if isinstance(value, float) else f"{name.replace('_', ' ')} {value}"
