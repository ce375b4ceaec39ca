"""Fields of a user's own function: a button that chooses it, and the text of its options."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from magicgui.widgets import LineEdit
from napari.utils.notifications import show_warning
from qtpy.QtWidgets import QFileDialog, QInputDialog, QWidget

from napari_blockbuster.widgets.controls import button, row_of

__all__ = ["function_button", "functions_in", "options_of"]


EXAMPLE = '''"""A function that finds objects. Change it, save this file, and run again.

It gets the pixels of one tile, as in the image: (y, x) or (z, y, x), and returns labels of the same shape: integers, 0 for
background. Labels need to be unique only within the tile. Each option is an argument with a default: "Options" in the dock
sets it, for example level=250, sigma=1.5.

Thresholds should be fixed numbers. A threshold that is computed in each tile makes seams.
"""


def find_objects(pixels, level=1000.0, sigma=2.0):
    # Imports inside the function: it runs in other processes.
    import numpy as np
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(pixels.astype(np.float32), sigma)
    labels, _ = ndimage.label(smooth > level)
    return labels
'''


def function_button(field: LineEdit) -> QWidget:
    """Return buttons that choose or write a file with a function for a field. A file is read, not run."""

    def choose() -> None:
        before = field.value.rpartition(":")[0] or str(Path.home())
        path, _ = QFileDialog.getOpenFileName(made, "Choose a Python file", before, "Python (*.py)")
        if not path:
            return
        names = functions_in(Path(path))
        name, ok = names[0] if names else "", True
        if len(names) > 1:
            name, ok = QInputDialog.getItem(made, "Choose a function", "Function:", names, editable=False)
        if ok:
            field.value = f"{path}:{name}"

    def write() -> None:
        wished = str(Path.home() / "my_model.py")
        path, _ = QFileDialog.getSaveFileName(made, "Write an example to start from", wished, "Python (*.py)")
        if path:
            # The dialog has asked before a file is replaced.
            file = Path(path).with_suffix(".py")
            try:
                file.write_text(EXAMPLE, encoding="utf-8")
            except OSError as error:
                show_warning(f"{file} cannot be written ({error.strerror}). Choose another folder.")
                return
            field.value = f"{file}:find_objects"

    made = button("…", "Choose a Python file and a function in it.", choose)
    new = button("New…", "Write a small documented example to start from, and use it.", write)
    return row_of(made, new)


def functions_in(path: Path) -> list[str]:
    """Return the names of the public functions of a file, without running it; none if it cannot be read."""
    try:
        parts = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return []
    return [part.name for part in parts if isinstance(part, ast.FunctionDef) and not part.name.startswith("_")]


def options_of(key: str, text: str) -> dict[str, Any]:
    """Read options, written as ``name=value, name=value`` or as JSON.

    Raises
    ------
    ValueError
        If the text is neither; the message gives an example.
    """
    try:
        found = json.loads(text) if text.startswith("{") else _arguments(text)
    except (SyntaxError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{key.capitalize()} cannot be read: {text}. Write name=value, such as level=250, sigma=1.5.")
    return found


def _arguments(text: str) -> dict[str, Any]:
    """Read keyword arguments as Python would. A single word is text."""
    call = ast.parse(f"f({text})", mode="eval").body
    if not isinstance(call, ast.Call) or call.args or not all(keyword.arg for keyword in call.keywords):
        raise ValueError(text)
    return {str(keyword.arg): _constant(keyword.value) for keyword in call.keywords}


def _constant(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return {"true": True, "false": False, "null": None}.get(node.id, node.id)
    return ast.literal_eval(node)
