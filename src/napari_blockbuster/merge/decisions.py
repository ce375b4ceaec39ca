"""A person's decisions on pairs of labels, with their undo history, kept in the job folder.

The file ``decisions.json`` is a list of steps and the number of steps that count. Undo and redo change that number. A
decision names labels of two tiles, and labels get new numbers when a tile is segmented again. Each decision therefore
carries a stamp of both tiles. If a stamp no longer matches, the decision is set aside: it is reported and not applied. It
counts again once the earlier staging of the tile is restored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from .assignment import Merge
from .decision_file import Decision, DecisionFile, DecisionsError, Entry, Removal, Stamps, Step, Steps
from .pairs import PairOfLabels, described, ordered

__all__ = ["Decision", "Decisions", "DecisionsError"]


class Decisions:
    """The decisions of one job. Get them with `Decisions.load`. Every change is on disk when the call returns.

    Not thread-safe. If another process has changed the file meanwhile, a change is refused.
    """

    def __init__(self, file: DecisionFile) -> None:
        self.folder = file.folder
        self._file = file
        self._entries: dict[PairOfLabels, Entry] = {}
        self._set_aside: dict[PairOfLabels, str] = {}
        self._removals: dict[tuple[int, int], Removal] = {}
        self._stamps = Stamps(file.stage)
        self._replay()

    @classmethod
    def load(cls, folder: str | Path) -> Decisions:
        """Read the decisions of a job folder. Without a file there are none.

        Raises
        ------
        DecisionsError
            If the file is damaged or was written by a newer version.
        """
        return cls(DecisionFile(Path(folder)))

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
        return tuple(label for label, each in self._removals.items() if self._stamps.of(label[0])[0] == each.stamp)

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
        return self._file.steps.done > 0

    @property
    def can_redo(self) -> bool:
        return self._file.steps.done < len(self._file.steps.steps)

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
        self._stamps.forget(pairs)
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
        self._stamps.forget(new)
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
        self._stamps = Stamps(self._file.stage)
        self._replay()

    def _replay(self) -> None:
        self._entries, self._removals = {}, {}
        for step in self._file.steps.steps[: self._file.steps.done]:
            for entry in step.entries:
                self._entries.pop(entry.pair, None)
                if entry.decision is not None:
                    self._entries[entry.pair] = entry
            for removal in step.removals:
                self._removals.pop(removal.label, None)
                if removal.removed:
                    self._removals[removal.label] = removal
        reasons = ((pair, self._stamps.why_stale(entry)) for pair, entry in self._entries.items())
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
            self._stamps.check_exists(end)
        return Entry(pair=pair, decision=decision, stamps=(self._stamps.of(a)[0], self._stamps.of(b)[0]))

    def _removal(self, label: tuple[int, int]) -> Removal:
        self._stamps.forget([(label, label)])
        self._stamps.check_exists(label)
        return Removal(label=label, removed=True, stamp=self._stamps.of(label[0])[0])

    def _step(self, entries: Sequence[Entry], removals: Sequence[Removal] = ()) -> None:
        if not entries and not removals:
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        step = Step(at=now, entries=tuple(entries), removals=tuple(removals))
        done = self._file.steps.done
        self._save(Steps(done=done + 1, steps=(*self._file.steps.steps[:done], step)))

    def _move(self, by: int) -> tuple[PairOfLabels, ...]:
        done, steps = self._file.steps.done, self._file.steps.steps
        if not 0 <= done + by <= len(steps):
            return ()
        pairs = tuple(entry.pair for entry in steps[min(done, done + by)].entries)
        self._stamps.forget(pairs)
        self._save(Steps(done=done + by, steps=steps))
        return pairs

    def _save(self, steps: Steps) -> None:
        self._file.save(steps)
        self._replay()


def _pairs(pair: Any) -> Iterator[PairOfLabels]:
    """Yield one pair or several, each with the lower tile first."""
    try:
        single = isinstance(pair, Sequence) and len(pair) == 2 and all(np.ndim(end) == 1 for end in pair)
        for one in [pair] if single else pair:
            yield ordered(one)
    except (TypeError, ValueError):
        raise DecisionsError(f"{pair!r} is not a pair of labels. Use ((tile, id), (tile, id)).") from None
