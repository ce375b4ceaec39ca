"""Properties of objects that an interrupted measurement has kept, so that the next one does not visit these objects again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_blockbuster.models.function.digest import function_digest

__all__ = ["KeptRegions"]

Rows = dict[int, dict[str, float]]


class KeptRegions:
    """A file with a line of JSON for each tile: the rows of the table whose objects were visited, and their values.

    Parameters
    ----------
    folder : Path or None
        Folder of one pair of images. None: nothing is kept.
    properties : sequence of str
    functions : sequence of callable
        Other properties or functions, also a changed function, have a file of their own.
    """

    def __init__(
        self, folder: Path | None, properties: Sequence[str], functions: Sequence[Callable[..., Any]] = ()
    ) -> None:
        asked = json.dumps([sorted(properties), [function_digest(function) for function in functions]])
        name = f"regions-{hashlib.sha256(asked.encode()).hexdigest()[:16]}.jsonl"
        self._path = None if folder is None else folder / name

    def read(self) -> Rows:
        """Return what an earlier measurement kept. A line that a crash cut off is left out."""
        found: Rows = {}
        if self._path is None or not self._path.exists():
            return found
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                found.update({int(row): values for row, values in json.loads(line).items()})
            except ValueError:
                continue
        return found

    def add(self, rows: Mapping[int, Mapping[str, float]]) -> None:
        """Keep the values of some objects."""
        if self._path is None:
            return
        with self._path.open("a", encoding="utf-8") as file:
            # A line that a crash cut off must not continue in this one.
            file.write(f"\n{json.dumps(rows)}\n")
