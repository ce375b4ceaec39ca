"""A person's verdicts on pairs of labels, kept in the job folder with all that was undone.

The file ``decisions.json`` is a list of steps and how many of them count; undo and redo move that number. A verdict
names labels of two tiles, and labels are numbered anew when a tile is segmented again: each verdict therefore carries a
stamp of both tiles. Where a stamp no longer fits, the verdict is set aside and reported, never applied; it counts again
if the tile that it was given on is put back.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from operator import index
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError, model_validator

from napari_blockbuster.machine.disk import writing_to
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.machine.files import write_atomically
from napari_blockbuster.stage.records import STAGE, TileRecord, marker_path, read_record

from .mapping import Merge, PairOfLabels
from .rules import band_iou, decide, face_iou

__all__ = ["Decisions", "DecisionsError", "Verdict", "export_csv"]

FILE = "decisions.json"
FORMAT = 1

Verdict = Literal["join", "cut"]
Label = tuple[NonNegativeInt, PositiveInt]
_Stamp = tuple[str, int]
"""What tells one staging of a tile from any other (empty: not staged), and how many labels the tile has."""


class DecisionsError(JobError):
    """Verdicts that cannot be read, kept or given; the message says why."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(_Frozen):
    """What one step says of one pair; a verdict of None withdraws the one before."""

    pair: tuple[Label, Label]
    verdict: Verdict | None
    stamps: tuple[str, str]

    @model_validator(mode="after")
    def _in_order(self) -> Entry:
        if self.pair[0] >= self.pair[1]:
            raise ValueError("the labels of a pair must differ, the lower tile first")
        return self


class Step(_Frozen):
    """What one action of a person changed."""

    at: str
    entries: tuple[Entry, ...]


class _File(_Frozen):
    format: Literal[1] = 1
    done: NonNegativeInt = 0
    steps: tuple[Step, ...] = ()

    @model_validator(mode="after")
    def _counts(self) -> _File:
        if self.done > len(self.steps):
            raise ValueError(f"{self.done} steps are said to count, but there are {len(self.steps)}")
        return self


class Decisions:
    """The verdicts of one job. Get them with `Decisions.load`; every change is on disk when the call returns.

    Not for use from two threads at once. A change made meanwhile by another process is noticed and refused.
    """

    def __init__(self, folder: Path, content: _File, on_disk: bytes | None) -> None:
        self.folder = folder
        self._steps, self._done = list(content.steps), content.done
        self._on_disk = on_disk
        self._entries: dict[PairOfLabels, Entry] = {}
        self._set_aside: dict[PairOfLabels, str] = {}
        self._stamps: dict[int, _Stamp] = {}
        self._replay()

    @classmethod
    def load(cls, folder: str | Path) -> Decisions:
        """The verdicts kept in a job folder; none where there is no file yet.

        Raises
        ------
        DecisionsError
            If the file is damaged, or was written by a newer version.
        """
        path = Path(folder) / FILE
        data = _read(path)
        return cls(Path(folder), _File() if data is None else _parse(path, data), data)

    # --------------------------------------------------------------- asking
    @property
    def verdicts(self) -> dict[PairOfLabels, Verdict]:
        """What counts now: pair (lower tile first) to verdict, in the order in which they were given."""
        return {p: e.verdict for p, e in self._entries.items() if e.verdict is not None and p not in self._set_aside}

    @property
    def cut(self) -> tuple[PairOfLabels, ...]:
        """Pairs to keep apart, for `Job.merge`."""
        return tuple(pair for pair, verdict in self.verdicts.items() if verdict == "cut")

    @property
    def join(self) -> tuple[PairOfLabels, ...]:
        """Pairs to join, for `Job.merge`."""
        return tuple(pair for pair, verdict in self.verdicts.items() if verdict == "join")

    @property
    def set_aside(self) -> dict[PairOfLabels, str]:
        """Verdicts that are kept but not applied, and why: a tile was segmented again, or is not staged now."""
        return dict(self._set_aside)

    def verdict_of(self, pair: PairOfLabels) -> Verdict | None:
        """The verdict given on a pair (lower tile first), also if it is set aside."""
        entry = self._entries.get(pair)
        return entry.verdict if entry else None

    @property
    def can_undo(self) -> bool:
        return self._done > 0

    @property
    def can_redo(self) -> bool:
        return self._done < len(self._steps)

    def without_effect(self, merged: Merge) -> list[PairOfLabels]:
        """Cuts whose two labels are one object all the same, by way of other labels: there is more to cut."""
        return [p for p in self.cut if p in merged.cut and merged.is_one_object(p)]

    def __repr__(self) -> str:
        return f"Decisions({len(self.cut)} cut, {len(self.join)} joined, {len(self._set_aside)} set aside)"

    def lines(self) -> list[str]:
        """What the command line says of them; nothing where there are none."""
        found = []
        if self.verdicts:
            found.append(f"{len(self.cut)} pairs cut and {len(self.join)} joined by hand")
        found += [f"not applied: {_named(pair)}, because {why}" for pair, why in self._set_aside.items()]
        return found

    # -------------------------------------------------------------- changing
    def set(self, pair: PairOfLabels | Iterable[PairOfLabels], verdict: Verdict | None) -> None:
        """Give a verdict on a pair, or the same one on several as one step; None withdraws.

        Parameters
        ----------
        pair : ((tile, id), (tile, id)), or an iterable of them
            In any order.
        verdict : {"join", "cut"} or None

        Raises
        ------
        DecisionsError
            If a label does not exist, the two are one label, or a cut lies inside one tile.
        """
        if verdict not in ("join", "cut", None):
            raise DecisionsError(f"{verdict!r} is no verdict: it is 'join', 'cut' or None")
        pairs = list(_pairs(pair))
        self._look_again(pairs)
        self._step([self._entry(p, verdict) for p in pairs])

    def clear(self) -> None:
        """Withdraw all verdicts, those set aside as well, as one step that can be undone."""
        self._step([e.model_copy(update={"verdict": None}) for e in self._entries.values()])

    def undo(self) -> tuple[PairOfLabels, ...]:
        """Take the last step back; returns its pairs (none where nothing is left to undo)."""
        return self._move(-1)

    def redo(self) -> tuple[PairOfLabels, ...]:
        """Do again what was undone last; returns its pairs (none where nothing was)."""
        return self._move(1)

    def refresh(self) -> None:
        """Look again which verdicts fit the tiles that are staged now."""
        self._stamps = {}
        self._replay()

    def _replay(self) -> None:
        self._entries = {}
        for step in self._steps[: self._done]:
            for entry in step.entries:
                self._entries.pop(entry.pair, None)
                if entry.verdict is not None:
                    self._entries[entry.pair] = entry
        reasons = ((pair, self._why_stale(entry)) for pair, entry in self._entries.items())
        self._set_aside = {pair: why for pair, why in reasons if why}

    def _entry(self, pair: PairOfLabels, verdict: Verdict | None) -> Entry:
        (a, i), (b, k) = pair
        if verdict is None:
            # A stale verdict, too, can be withdrawn.
            return Entry(pair=pair, verdict=None, stamps=("", ""))
        if pair[0] == pair[1]:
            raise DecisionsError(f"{_named(pair)} is one label: a verdict needs two")
        if verdict == "cut" and a == b:
            raise DecisionsError(
                f"labels {i} and {k} are both of tile {a}: a cut follows the seam between two tiles; "
                "what one tile put together only segmenting it again takes apart"
            )
        for tile, label in pair:
            stamp, n_labels = self._stamp(tile)
            if not stamp:
                raise DecisionsError(f"tile {tile} is not staged: there is no label {label} in it to judge")
            if not 1 <= label <= n_labels:
                raise DecisionsError(f"label {label} of tile {tile} does not exist; it has labels 1 to {n_labels}")
        return Entry(pair=pair, verdict=verdict, stamps=(self._stamp(a)[0], self._stamp(b)[0]))

    def _step(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        step = Step(at=datetime.now(UTC).isoformat(timespec="seconds"), entries=tuple(entries))
        self._save([*self._steps[: self._done], step], self._done + 1)

    def _move(self, by: int) -> tuple[PairOfLabels, ...]:
        if not 0 <= self._done + by <= len(self._steps):
            return ()
        pairs = tuple(entry.pair for entry in self._steps[min(self._done, self._done + by)].entries)
        self._look_again(pairs)
        self._save(self._steps, self._done + by)
        return pairs

    def _save(self, steps: list[Step], done: int) -> None:
        path = self.folder / FILE
        if _read(path) != self._on_disk:
            raise DecisionsError(f"{path} was changed by another process; load the decisions again")
        data = _File(done=done, steps=tuple(steps)).model_dump_json().encode()
        with writing_to(self.folder):
            write_atomically(path, data)
        self._on_disk, self._steps, self._done = data, steps, done
        self._replay()

    # ---------------------------------------------------------------- stamps
    def _look_again(self, pairs: Iterable[PairOfLabels]) -> None:
        # Markers of all tiles are read once: at every click they would take longer than all the rest.
        for tile in {tile for pair in pairs for tile, _ in pair}:
            self._stamps.pop(tile, None)

    def _stamp(self, tile: int) -> _Stamp:
        if tile not in self._stamps:
            try:
                record = read_record(TileRecord, marker_path(self.folder / STAGE, tile))
                self._stamps[tile] = f"{record.staged_at:.6f}/{record.objects_crc32:08x}", record.n_objects
            except (OSError, ValueError):
                self._stamps[tile] = "", 0
        return self._stamps[tile]

    def _why_stale(self, entry: Entry) -> str:
        for (tile, _), stamp in zip(entry.pair, entry.stamps, strict=True):
            now, _ = self._stamp(tile)
            if not now:
                return f"tile {tile} is not staged now"
            if now != stamp:
                return f"tile {tile} was segmented again since"
        return ""


# ------------------------------------------------------------------------------------------------------------ reading
def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DecisionsError(f"{path} cannot be read: {error.strerror}") from error


def _parse(path: Path, data: bytes) -> _File:
    try:
        return _File.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"] == ("format",):
            raise DecisionsError(
                f"{path} has format {first['input']!r}, this version knows {FORMAT}: update napari-blockbuster"
            ) from None
        place = ".".join(map(str, first["loc"]))
        raise DecisionsError(
            f"{path} is damaged{f' at {place}' if place else ''}: {first['msg']}; "
            "mend it, or move it away to start without verdicts"
        ) from None


def _pairs(pair: Any) -> Iterator[PairOfLabels]:
    """One pair or many, each with the lower tile first."""
    try:
        single = isinstance(pair, Sequence) and len(pair) == 2 and all(np.ndim(end) == 1 for end in pair)
        for (a, i), (b, k) in [pair] if single else pair:
            first, second = sorted([(index(a), index(i)), (index(b), index(k))])
            yield first, second
    except (TypeError, ValueError):
        raise DecisionsError(f"{pair!r} is no pair of labels: ((tile, id), (tile, id))") from None


def _named(pair: PairOfLabels) -> str:
    (a, i), (b, k) = pair
    return f"label {i} of tile {a} and label {k} of tile {b}"


# ---------------------------------------------------------------------------------------------------------- exporting
_COLUMNS = ("low_tile", "low_id", "high_tile", "high_id", "axis", "contact_face", "contact_edge", "contact_corner")
_OUTCOME = ("agreement", "rule_joins", "verdict", "joined", "one_object", "set_aside")


def export_csv(
    path: str | Path,
    merged: Merge,
    decisions: Decisions | None = None,
    *,
    axes: Sequence[str] | None = None,
    scale: Sequence[float] | None = None,
    units: Sequence[str | None] | None = None,
) -> None:
    """Write one row per pair: its evidence, what the rule decided, and what a person said.

    Verdicts on labels that do not meet at a seam follow without evidence; those set aside say why in the last column.

    Parameters
    ----------
    path : path
    merged : Merge
    decisions : Decisions, optional
    axes, scale, units : sequence, optional
        Name, voxel size and unit of each axis, for the columns of positions.
    """
    given = decisions.verdicts if decisions is not None else {}
    names = list(axes or [f"axis{k}" for k in range(merged.seams["position"].shape[1])])
    evidence = [*_COLUMNS, "band_iou", "face_iou", *(f"{name}_voxel" for name in names)]
    if scale is not None:
        named = zip(names, units or [None] * len(names), strict=True)
        evidence += [f"{name}_{unit or 'scaled'}" for name, unit in named]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*evidence, *_OUTCOME])
    for pair, row, (agreed, by_rule, joined, one) in _evidence_rows(merged, scale):
        table.writerow([*row, agreed, by_rule, given.pop(pair, ""), joined, one, ""])
    blank = [""] * (len(evidence) - 4 + 2)
    for pair, verdict in given.items():
        one = int(merged.is_one_object(pair))
        table.writerow([*pair[0], *pair[1], *blank, verdict, int(pair in merged.join), one, ""])
    if decisions is not None:
        for pair, why in decisions.set_aside.items():
            table.writerow([*pair[0], *pair[1], *blank, decisions.verdict_of(pair), "", "", why])
    target = Path(path).absolute()
    with writing_to(target.parent):
        write_atomically(target, text.getvalue().encode())


def _evidence_rows(
    merged: Merge, scale: Sequence[float] | None
) -> Iterator[tuple[PairOfLabels, list[Any], tuple[Any, int, int, int]]]:
    """Per pair: its labels, the columns of evidence, and (agreement, rule's decision, joined, one object at last)."""
    seams = merged.seams
    has_score = len(merged.agreement) == len(seams)
    score = merged.agreement if has_score else None
    by_rule = decide(merged.rule, seams, merged.min_iou, merged.connectivity, score)
    columns: list[list[Any]] = [seams[name].tolist() for name in ("low", "low_id", "high", "high_id", "axis")]
    columns += [seams["contact"][:, k].tolist() for k in range(3)]
    columns += [np.round(iou, 4).tolist() for iou in (band_iou(seams), face_iou(seams))]
    place = seams["position"].astype(np.float64)
    columns += [np.round(place[:, k], 2).tolist() for k in range(place.shape[1])]
    if scale is not None:
        # The centre of voxel 0 is the origin, as in OME-NGFF and napari.
        columns += [np.round(place[:, k] * s, 6).tolist() for k, s in enumerate(scale)]
    agreed: list[Any] = np.round(score, 4).tolist() if score is not None else [""] * len(seams)
    low, high = (merged.new_ids[merged.labels_table.numbers(seams[s], seams[f"{s}_id"]) + 1] for s in ("low", "high"))
    outcomes = (flags.astype(int).tolist() for flags in (by_rule, merged.joined, (low == high) & (low > 0)))
    ends = zip(agreed, *outcomes, strict=True)
    for row, end in zip(zip(*columns, strict=True), ends, strict=True):
        yield ((row[0], row[1]), (row[2], row[3])), list(row), end
