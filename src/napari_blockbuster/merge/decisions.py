"""A person's decisions on pairs of labels, with their undo history, kept in the job folder.

The file ``decisions.json`` is a list of steps and the number of steps that count. Undo and redo change that number. A
decision names labels of two tiles, and labels get new numbers when a tile is segmented again. Each decision therefore
carries a stamp of both tiles. If a stamp no longer matches, the decision is set aside: it is reported and not applied. It
counts again once the earlier staging of the tile is restored.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
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

from napari_blockbuster.execution.admission import SETTINGS_FILE
from napari_blockbuster.machine.disk import StoreError, writing_to
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.machine.files import write_atomically
from napari_blockbuster.stage.records.records import STAGE, life_of, name_in_life, read_record

from .assignment import Merge
from .pairs import PairOfLabels, described, ordered

__all__ = ["Decision", "Decisions", "DecisionsError"]

FILE = "decisions.json"
FORMAT = 1

Decision = Literal["join", "cut"]
Label = tuple[NonNegativeInt, PositiveInt]
_Stamp = tuple[str, int]
"""Identifies one staging of a tile (empty: not staged), and its number of labels."""


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


class _File(_Frozen):
    format: Literal[1] = 1
    done: NonNegativeInt = 0
    steps: tuple[Step, ...] = ()

    @model_validator(mode="after")
    def _counts(self) -> _File:
        if self.done > len(self.steps):
            raise ValueError(f"done is {self.done}, but the file has {len(self.steps)} steps")
        return self


class Decisions:
    """The decisions of one job. Get them with `Decisions.load`. Every change is on disk when the call returns.

    Not thread-safe. If another process has changed the file meanwhile, a change is refused.
    """

    def __init__(self, folder: Path, content: _File, on_disk: bytes | None) -> None:
        self.folder = folder
        self._life = life_of(folder / SETTINGS_FILE)
        self._steps, self._done = list(content.steps), content.done
        self._on_disk = on_disk
        self._entries: dict[PairOfLabels, Entry] = {}
        self._set_aside: dict[PairOfLabels, str] = {}
        self._removals: dict[tuple[int, int], Removal] = {}
        self._stamps: dict[int, _Stamp] = {}
        self._replay()

    @classmethod
    def load(cls, folder: str | Path) -> Decisions:
        """Read the decisions of a job folder. Without a file there are none.

        Raises
        ------
        DecisionsError
            If the file is damaged or was written by a newer version.
        """
        path = Path(folder) / FILE
        data = _read(path)
        return cls(Path(folder), _File() if data is None else _parse(path, data), data)

    # --------------------------------------------------------------- reading
    @property
    def applied(self) -> dict[PairOfLabels, Decision]:
        """Decisions that count now, by pair (lower tile first), in the order in which they were made."""
        entries = self._entries.items()
        return {pair: e.decision for pair, e in entries if e.decision is not None and pair not in self._set_aside}

    @property
    def cut(self) -> tuple[PairOfLabels, ...]:
        """Pairs to keep apart, for `Job.merge`."""
        return tuple(pair for pair, decision in self.applied.items() if decision == "cut")

    @property
    def join(self) -> tuple[PairOfLabels, ...]:
        """Pairs to join, for `Job.merge`."""
        return tuple(pair for pair, decision in self.applied.items() if decision == "join")

    @property
    def removed(self) -> tuple[tuple[int, int], ...]:
        """Labels that are background, for `Job.merge`. Those of tiles that were segmented again do not count."""
        return tuple(label for label, each in self._removals.items() if self._stamp(label[0])[0] == each.stamp)

    @property
    def set_aside(self) -> dict[PairOfLabels, str]:
        """Decisions that are kept but not applied, and why: a tile was segmented again or is not staged."""
        return dict(self._set_aside)

    def decision_on(self, pair: PairOfLabels) -> Decision | None:
        """The decision on a pair (lower tile first), even if it is set aside."""
        entry = self._entries.get(pair)
        return entry.decision if entry else None

    @property
    def can_undo(self) -> bool:
        return self._done > 0

    @property
    def can_redo(self) -> bool:
        return self._done < len(self._steps)

    def without_effect(self, merged: Merge) -> list[PairOfLabels]:
        """Cuts without effect: their two labels are still one object, connected through other labels."""
        return [p for p in self.cut if p in merged.cut and merged.is_one_object(p)]

    def __repr__(self) -> str:
        return f"Decisions({len(self.cut)} cut, {len(self.join)} joined, {len(self._set_aside)} set aside)"

    def lines(self) -> list[str]:
        """Report lines for the command line; empty without decisions."""
        found = []
        if self.applied:
            found.append(f"{len(self.cut)} pair{'s' * (len(self.cut) != 1)} cut and {len(self.join)} joined by hand")
        if self.removed:
            found.append(f"{len(self.removed)} label{'s' * (len(self.removed) != 1)} removed by hand")
        found += [f"not applied: {described(pair)}, because {why}" for pair, why in self._set_aside.items()]
        return found

    # -------------------------------------------------------------- changing
    def set(self, pair: PairOfLabels | Iterable[PairOfLabels], decision: Decision | None) -> None:
        """Decide on a pair, or on several as one step. None withdraws a decision.

        Parameters
        ----------
        pair : ((tile, id), (tile, id)), or an iterable of them
            In any order.
        decision : {"join", "cut"} or None

        Raises
        ------
        DecisionsError
            If a label does not exist, both labels are the same, or a cut lies inside one tile.
        """
        if decision not in ("join", "cut", None):
            raise DecisionsError(f"{decision!r} is not a decision. Use 'join', 'cut' or None.")
        pairs = list(_pairs(pair))
        self._forget_stamps(pairs)
        self._step([self._entry(p, decision) for p in pairs])

    def remove(self, labels: Iterable[tuple[int, int]]) -> None:
        """Make labels background, as one step: the labels of an object delete it, at any rule and threshold.

        Raises
        ------
        DecisionsError
            If a label does not exist.
        """
        self._step([], [self._removal(label) for label in labels])

    def add(
        self,
        cut: Sequence[PairOfLabels],
        join: Sequence[PairOfLabels],
        remove: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Decide on pairs and labels as one step. Without a change, for example when a script runs again, nothing is saved.

        Raises
        ------
        DecisionsError
            See `set`.
        """
        wanted: dict[PairOfLabels, Decision] = dict.fromkeys(cut, "cut")
        wanted.update(dict.fromkeys(join, "join"))
        new = {pair: decision for pair, decision in wanted.items() if self.applied.get(pair) != decision}
        self._forget_stamps(new)
        removals = [self._removal(label) for label in remove if label not in self._removals]
        self._step([self._entry(pair, decision) for pair, decision in new.items()], removals)

    def clear(self) -> None:
        """Withdraw all decisions, including those set aside, as one step that can be undone."""
        self._step(
            [e.model_copy(update={"decision": None}) for e in self._entries.values()],
            [e.model_copy(update={"removed": False}) for e in self._removals.values()],
        )

    def undo(self) -> tuple[PairOfLabels, ...]:
        """Undo the last step and return its pairs. Return no pairs if there is nothing to undo."""
        return self._move(-1)

    def redo(self) -> tuple[PairOfLabels, ...]:
        """Redo the step that was undone last and return its pairs. Return no pairs if there is nothing to redo."""
        return self._move(1)

    def refresh(self) -> None:
        """Compare the stamps with the staged tiles again."""
        self._stamps = {}
        self._replay()

    def _replay(self) -> None:
        self._entries, self._removals = {}, {}
        for step in self._steps[: self._done]:
            for entry in step.entries:
                self._entries.pop(entry.pair, None)
                if entry.decision is not None:
                    self._entries[entry.pair] = entry
            for removal in step.removals:
                self._removals.pop(removal.label, None)
                if removal.removed:
                    self._removals[removal.label] = removal
        reasons = ((pair, self._why_stale(entry)) for pair, entry in self._entries.items())
        self._set_aside = {pair: why for pair, why in reasons if why}

    def _entry(self, pair: PairOfLabels, decision: Decision | None) -> Entry:
        (a, i), (b, k) = pair
        if decision is None:
            # A decision that is set aside can be withdrawn too, so no label is checked.
            return Entry(pair=pair, decision=None, stamps=("", ""))
        if pair[0] == pair[1]:
            raise DecisionsError(f"{described(pair)} are the same label. A decision needs two labels.")
        if decision == "cut" and a == b:
            raise DecisionsError(
                f"Labels {i} and {k} are both in tile {a}. A cut follows the seam between two tiles. "
                "To separate objects inside a tile, segment the tile again."
            )
        for end in pair:
            self._check_exists(end)
        return Entry(pair=pair, decision=decision, stamps=(self._stamp(a)[0], self._stamp(b)[0]))

    def _removal(self, label: tuple[int, int]) -> Removal:
        self._forget_stamps([(label, label)])
        self._check_exists(label)
        return Removal(label=label, removed=True, stamp=self._stamp(label[0])[0])

    def _check_exists(self, end: tuple[int, int]) -> None:
        tile, label = end
        stamp, n_labels = self._stamp(tile)
        if not stamp:
            raise DecisionsError(f"Tile {tile} is not staged, so it has no label {label}.")
        if not 1 <= label <= n_labels:
            raise DecisionsError(f"Label {label} of tile {tile} does not exist. The tile has labels 1 to {n_labels}.")

    def _step(self, entries: Sequence[Entry], removals: Sequence[Removal] = ()) -> None:
        if not entries and not removals:
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        step = Step(at=now, entries=tuple(entries), removals=tuple(removals))
        self._save([*self._steps[: self._done], step], self._done + 1)

    def _move(self, by: int) -> tuple[PairOfLabels, ...]:
        if not 0 <= self._done + by <= len(self._steps):
            return ()
        pairs = tuple(entry.pair for entry in self._steps[min(self._done, self._done + by)].entries)
        self._forget_stamps(pairs)
        self._save(self._steps, self._done + by)
        return pairs

    def _save(self, steps: list[Step], done: int) -> None:
        path = self.folder / FILE
        if _read(path) != self._on_disk:
            raise DecisionsError(f"Another process changed {path}. Load the decisions again.")
        if life_of(self.folder / SETTINGS_FILE) != self._life:
            raise DecisionsError(f"Another run replaced the job in {self.folder}. Open it again.")
        data = _File(done=done, steps=tuple(steps)).model_dump_json(by_alias=True).encode()
        stage = self.folder / name_in_life(STAGE, self._life)
        try:
            with writing_to(self.folder):
                # Renamed from the folder of this life, which is gone if the job was replaced since the check.
                write_atomically(path, data, temporary=stage / f".{FILE}-{uuid.uuid4().hex}")
        except StoreError as error:
            if stage.is_dir() or not self.folder.is_dir():
                raise
            if life_of(self.folder / SETTINGS_FILE) != self._life:
                raise DecisionsError(f"Another run replaced the job in {self.folder}. Open it again.") from error
            raise DecisionsError(
                f"The tiles of {self.folder} were deleted. Segment again to decide on them."
            ) from error
        self._on_disk, self._steps, self._done = data, steps, done
        self._replay()

    # ---------------------------------------------------------------- stamps
    def _forget_stamps(self, pairs: Iterable[PairOfLabels]) -> None:
        # Read only the markers of these tiles again: reading all of them at every click would be slow.
        for tile in {tile for pair in pairs for tile, _ in pair}:
            self._stamps.pop(tile, None)

    def _stamp(self, tile: int) -> _Stamp:
        if tile not in self._stamps:
            try:
                record = read_record(self.folder / name_in_life(STAGE, self._life), tile)
                self._stamps[tile] = f"{record.staged_at:.6f}/{record.objects_crc32:08x}", record.n_objects
            except (OSError, ValueError):
                self._stamps[tile] = "", 0
        return self._stamps[tile]

    def _why_stale(self, entry: Entry) -> str:
        for (tile, _), stamp in zip(entry.pair, entry.stamps, strict=True):
            now, _ = self._stamp(tile)
            if not now:
                return f"tile {tile} is not staged"
            if now != stamp:
                return f"tile {tile} was segmented again"
        return ""


# ------------------------------------------------------------------------------------------------------------ reading
def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DecisionsError(f"Cannot read {path}: {error.strerror}.") from error


def _parse(path: Path, data: bytes) -> _File:
    try:
        return _File.model_validate_json(data)
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


def _pairs(pair: Any) -> Iterator[PairOfLabels]:
    """Yield one pair or several, each with the lower tile first."""
    try:
        single = isinstance(pair, Sequence) and len(pair) == 2 and all(np.ndim(end) == 1 for end in pair)
        for one in [pair] if single else pair:
            yield ordered(one)
    except (TypeError, ValueError):
        raise DecisionsError(f"{pair!r} is not a pair of labels. Use ((tile, id), (tile, id)).") from None
