"""What became of each image of a batch: records, a summary, and a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from napari_blockbuster.job.progress.bar import duration
from napari_blockbuster.machine.errors import one_line
from napari_blockbuster.machine.files import write_atomically
from napari_blockbuster.machine.units import count_text
from napari_blockbuster.output.result import Result

from .targets import Target

__all__ = ["BatchResult", "ImageOutcome"]

COLUMNS = ("image", "scene", "output", "status", "exit_code", "objects", "tiles", "failed_tiles", "seconds", "error")


@dataclass(frozen=True)
class ImageOutcome:
    """What became of one image.

    Attributes
    ----------
    name : str
        Path of the image inside the folder or plate.
    image : str
        Path or address.
    scene : int, str or None
    output : Path
        OME-Zarr of the labels.
    status : {"done", "unchanged", "failed tiles", "failed"}
        ``"unchanged"``: an earlier call wrote the same labels.
    n_objects : int or None
    n_tiles, n_missing : int
        All tiles, and those that hold background.
    seconds : float
    error : Exception or None
        Why there are no labels.
    result : Result or None
    """

    name: str
    image: str
    scene: int | str | None
    output: Path
    status: str
    n_objects: int | None = None
    n_tiles: int = 0
    n_missing: int = 0
    seconds: float = 0.0
    error: Exception | None = None
    result: Result | None = None

    @classmethod
    def of_error(cls, target: Target, error: Exception, seconds: float) -> ImageOutcome:
        return cls(target.name, target.image, target.scene, target.output, "failed", seconds=seconds, error=error)

    @property
    def exit_code(self) -> int:
        """0 with labels of every tile, 1 with failed tiles, 2 without labels."""
        return 2 if self.error is not None else 1 if self.n_missing else 0

    @property
    def line(self) -> str:
        """Status and numbers in a few words."""
        if self.error is not None:
            return f"failed: {one_line(self.error)}"
        parts = [count_text(self.n_objects or 0, "object")]
        if self.n_missing:
            parts.append(f"{self.n_missing} of {self.n_tiles} tiles failed")
        parts.append("unchanged" if self.status == "unchanged" else duration(self.seconds))
        return ", ".join(parts)

    def row(self) -> tuple[object, ...]:
        """The values of `COLUMNS`."""
        scene = "" if self.scene is None else self.scene
        objects = "" if self.n_objects is None else self.n_objects
        error = "" if self.error is None else one_line(self.error)
        numbers = (objects, self.n_tiles, self.n_missing, round(self.seconds, 3))
        return (self.image, scene, str(self.output), self.status, self.exit_code, *numbers, error)


class BatchResult(Sequence[ImageOutcome]):
    """Outcomes of all images of a batch, in order.

    Attributes
    ----------
    exit_code : int
        The largest of the images': 0 if each has its labels.
    """

    def __init__(self, outcomes: Sequence[ImageOutcome]) -> None:
        self._outcomes = tuple(outcomes)

    @overload
    def __getitem__(self, index: int) -> ImageOutcome: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ImageOutcome, ...]: ...
    def __getitem__(self, index: int | slice) -> ImageOutcome | tuple[ImageOutcome, ...]:
        return self._outcomes[index]

    def __len__(self) -> int:
        return len(self._outcomes)

    def __repr__(self) -> str:
        return f"BatchResult({self.summary()})"

    @property
    def exit_code(self) -> int:
        return max((outcome.exit_code for outcome in self), default=0)

    def summary(self) -> str:
        """Return the counts in one line: images, objects, what failed."""
        counts = {status: sum(o.status == status for o in self) for status in ("unchanged", "failed tiles", "failed")}
        told = [f"{n} {'without labels' if status == 'failed' else status}" for status, n in counts.items() if n]
        objects = sum(outcome.n_objects or 0 for outcome in self)
        return ", ".join([count_text(len(self), "image"), count_text(objects, "object"), *told])

    def table(self) -> str:
        """Return one row for each image, as CSV."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(outcome.row() for outcome in self)
        return text.getvalue()

    def save(self, path: str | Path) -> None:
        """Write the table as a CSV file. A file at the path is replaced."""
        write_atomically(Path(path), self.table().encode("utf-8", "backslashreplace"))
