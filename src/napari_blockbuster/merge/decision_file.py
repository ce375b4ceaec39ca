"""The file of a person's decisions in a job folder, and the stamps that tie decisions to the labels of their time.

``decisions.json`` is a list of steps and the number of steps that count.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_serializer,
    model_validator,
)

from napari_blockbuster.execution.admission.admission import SETTINGS_FILE
from napari_blockbuster.machine.disk import StoreError, writing_to
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.machine.files import write_atomically
from napari_blockbuster.stage.records.records import STAGE, life_of, name_in_life, read_record

from .pairs import PairOfLabels

__all__ = ["Decision", "DecisionFile", "DecisionsError", "Entry", "Removal", "Stamps", "Step", "Steps"]

FILE = "decisions.json"
FORMAT = 1

Decision = Literal["join", "cut"]
Label = tuple[NonNegativeInt, PositiveInt]


class DecisionsError(JobError):
    """Decisions that cannot be read, saved or applied."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Entry(_Frozen):
    """A decision on one pair. None withdraws the earlier decision."""

    pair: tuple[Label, Label]
    decision: Decision | None = Field(validation_alias="verdict", serialization_alias="verdict")
    """Under its first name in the file, so that old job folders stay readable."""
    stamps: tuple[str, str]

    @model_validator(mode="after")
    def _in_order(self) -> Entry:
        if self.pair[0] >= self.pair[1]:
            raise ValueError("the labels of a pair must differ, and the lower tile must come first")
        return self


class Removal(_Frozen):
    """A label that is background. `removed` False withdraws the earlier removal."""

    label: Label
    removed: bool
    stamp: str


class Step(_Frozen):
    """The changes of one action."""

    at: str
    entries: tuple[Entry, ...] = ()
    removals: tuple[Removal, ...] = ()

    @model_serializer(mode="wrap")
    def _without_nothing(self, handler: Any) -> dict[str, Any]:
        # Earlier versions read files without removals.
        return {name: value for name, value in handler(self).items() if name != "removals" or value}


class Steps(_Frozen):
    """Content of the file: all steps, and how many of them count. Undo and redo change that number."""

    format: Literal[1] = 1
    done: NonNegativeInt = 0
    steps: tuple[Step, ...] = ()

    @model_validator(mode="after")
    def _counts(self) -> Steps:
        if self.done > len(self.steps):
            raise ValueError(f"done is {self.done}, but the file has {len(self.steps)} steps")
        return self


class DecisionFile:
    """The decisions of a job on disk. If another process has changed the file meanwhile, nothing is saved.

    Raises
    ------
    DecisionsError
        If the file is damaged or was written by a newer version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.life = life_of(folder / SETTINGS_FILE)
        self._path = folder / FILE
        self._on_disk = _read(self._path)
        self.steps = Steps() if self._on_disk is None else _parse(self._path, self._on_disk)

    @property
    def stage(self) -> Path:
        """Folder of the tiles that the decisions are about."""
        return self.folder / name_in_life(STAGE, self.life)

    def save(self, steps: Steps) -> None:
        """Replace the content of the file.

        Raises
        ------
        DecisionsError
            If another process changed the file, or replaced the job or deleted its tiles.
        """
        if _read(self._path) != self._on_disk:
            raise DecisionsError(f"Another process changed {self._path}. Load the decisions again.")
        self._check_same_job()
        data = steps.model_dump_json(by_alias=True).encode()
        try:
            with writing_to(self.folder):
                # Renamed from the folder of this life, which is gone if the job was replaced since the check.
                write_atomically(self._path, data, temporary=self.stage / f".{FILE}-{uuid.uuid4().hex}")
        except StoreError as error:
            if self.stage.is_dir() or not self.folder.is_dir():
                raise
            self._check_same_job(error)
            raise DecisionsError(
                f"The tiles of {self.folder} were deleted. Segment again to decide on them."
            ) from error
        self._on_disk, self.steps = data, steps

    def _check_same_job(self, cause: Exception | None = None) -> None:
        if life_of(self.folder / SETTINGS_FILE) != self.life:
            raise DecisionsError(f"Another run replaced the job in {self.folder}. Open it again.") from cause


@dataclass
class Stamps:
    """What identifies the present staging of each tile. Markers are read when a tile is asked for, and then kept.

    Attributes
    ----------
    stage : Path
        Folder of the tiles.
    """

    stage: Path
    _known: dict[int, tuple[str, int]] = field(default_factory=dict)

    def of(self, tile: int) -> tuple[str, int]:
        """Return the stamp of a tile ("": not staged), and its number of labels."""
        if tile not in self._known:
            try:
                record = read_record(self.stage, tile)
                self._known[tile] = f"{record.staged_at:.6f}/{record.objects_crc32:08x}", record.n_objects
            except (OSError, ValueError):
                self._known[tile] = "", 0
        return self._known[tile]

    def forget(self, pairs: Iterable[PairOfLabels]) -> None:
        """Read the markers of these tiles again. To read all of them at every click would be slow."""
        for tile in {tile for pair in pairs for tile, _ in pair}:
            self._known.pop(tile, None)

    def check_exists(self, end: tuple[int, int]) -> None:
        """Refuse a label that does not exist.

        Raises
        ------
        DecisionsError
        """
        tile, label = end
        stamp, n_labels = self.of(tile)
        if not stamp:
            raise DecisionsError(f"Tile {tile} is not staged, so it has no label {label}.")
        if not 1 <= label <= n_labels:
            raise DecisionsError(f"Label {label} of tile {tile} does not exist. The tile has labels 1 to {n_labels}.")

    def why_stale(self, entry: Entry) -> str:
        """Return why a decision is not applied: a tile was segmented again or is not staged. "" if it is."""
        for (tile, _), stamp in zip(entry.pair, entry.stamps, strict=True):
            now, _ = self.of(tile)
            if not now:
                return f"tile {tile} is not staged"
            if now != stamp:
                return f"tile {tile} was segmented again"
        return ""


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DecisionsError(f"Cannot read {path}: {error.strerror}.") from error


def _parse(path: Path, data: bytes) -> Steps:
    try:
        return Steps.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"] == ("format",):
            raise DecisionsError(
                f"{path} has format {first['input']!r}. This version reads format {FORMAT}. Update napari-blockbuster."
            ) from None
        place = ".".join(map(str, first["loc"]))
        raise DecisionsError(
            f"{path} is damaged{f' at {place}' if place else ''}: {first['msg']}. "
            "Fix it, or move it away to start without decisions."
        ) from None
