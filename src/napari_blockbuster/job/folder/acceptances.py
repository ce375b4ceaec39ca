"""Notes on the tiles of a job that were segmented again and accepted: their settings, and which were accepted together.

The notes are also the journal of an acceptance. Which tiles are being replaced is written before the first of them is touched,
so that an acceptance, or an undo, that is killed half-way is finished later (`napari_blockbuster.job.steps.second_try.settle`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.machine.ownership import Owner

from .job_folder import JobFolder

__all__ = ["Notes", "accepted_together", "tiles_again"]

Settings = dict[str, Any]


@dataclass
class Notes:
    """The content of ``again.json``.

    Attributes
    ----------
    tiles : dict of int to dict
        Settings of the model, for each tile that is not the run's own.
    together : list of set of int
        Tiles that were accepted together; they are undone together. No tile is in two sets.
    unfinished : dict of int to (dict or None)
        Tiles that are being replaced: by a second try with these settings, or (None) by the run's own tile.
    """

    tiles: dict[int, Settings] = field(default_factory=dict)
    together: list[set[int]] = field(default_factory=list)
    unfinished: dict[int, Settings | None] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the notes in a job folder; empty if there are none.

        Raises
        ------
        JobError
            If the file is damaged.
        """
        path = JobFolder(folder).notes
        try:
            known = json.loads(path.read_bytes())
            return cls(
                {int(index): dict(settings) for index, settings in known["tiles"].items()},
                [set(map(int, tiles)) for tiles in known.get("together", ())],
                {
                    int(index): None if settings is None else dict(settings)
                    for index, settings in known.get("unfinished", {}).items()
                },
            )
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError, AttributeError):
            raise JobError(
                f"{path} cannot be read. Delete it to continue without knowing which tiles were segmented again"
            ) from None

    def save(self, folder: Path, owner: Owner) -> None:
        """Write the notes."""
        data = {
            "tiles": _by_text(self.tiles),
            "together": [sorted(tiles) for tiles in self.together],
            **({"unfinished": _by_text(self.unfinished)} if self.unfinished else {}),
        }
        owner.write(JobFolder(folder).notes, json.dumps(data, indent=1).encode())

    def after(self) -> dict[int, Settings]:
        """Return the settings of the accepted tiles, those of unfinished changes included."""
        both = {**self.tiles, **self.unfinished}
        return {index: settings for index, settings in both.items() if settings is not None}

    def joined(self, tiles: Iterable[int]) -> set[int]:
        """Return these tiles and all that were accepted together with one of them."""
        wanted = set(tiles)
        return wanted.union(*(group for group in self.together if not group.isdisjoint(wanted)))

    def begin(self, changes: Mapping[int, Settings | None]) -> None:
        """Record the tiles that are about to be replaced. Tiles that are accepted now are one acceptance."""
        accepted = {index for index, settings in changes.items() if settings is not None}
        group = self.joined(accepted)
        left = [each - changes.keys() for each in self.together if each.isdisjoint(group)]
        self.together = [each for each in (*left, group) if each]
        self.unfinished = dict(changes)

    def finish(self) -> None:
        """Record that all changes are done."""
        self.tiles, self.unfinished = self.after(), {}

    def drop(self, tiles: Iterable[int]) -> bool:
        """Drop tiles that the run segments itself. Return whether any of them was known."""
        gone = self.tiles.keys() & set(tiles)
        for index in gone:
            del self.tiles[index]
        self.together = [group - gone for group in self.together if group - gone]
        return bool(gone)


def _by_text(tiles: Mapping[int, Any]) -> dict[str, Any]:
    return {str(index): settings for index, settings in sorted(tiles.items())}


def tiles_again(folder: Path) -> dict[int, Settings]:
    """Return the settings of the tiles of a job that were segmented again and accepted."""
    return Notes.load(folder).after()


def accepted_together(folder: Path, tiles: Iterable[int]) -> list[int]:
    """Return all tiles that are restored if one of `tiles` is. Acceptances are undone as a whole.

    Parameters
    ----------
    folder : Path
        The job folder.
    tiles : iterable of int
        Tiles of the run itself are left out.
    """
    notes = Notes.load(folder)
    known = notes.after()
    return sorted(index for index in notes.joined(index for index in tiles if index in known) if index in known)
