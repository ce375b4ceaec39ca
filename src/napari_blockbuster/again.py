"""Tiles segmented again with other settings: looked at beside the old ones, taken over, or taken back.

A second try has a stage of its own inside the job folder, so that nothing of the run is touched before it is accepted. What
it replaces is kept beside it. Which tiles came from which settings is in ``again.json``, and in the provenance of what is
written.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .execution import TileQueue, run
from .files import write_atomically
from .lock import holding
from .models import Model
from .spec import JobError
from .stage import StageStore, TileFailure, TileRecord
from .tiling import TileGrid
from .work import StageWork

if TYPE_CHECKING:
    from distributed import Client

    from .job import Job

__all__ = ["SecondTry", "accepted_together", "tiles_again", "tiles_around", "write_notes"]

NOTES = "again.json"


def tiles_again(folder: Path) -> dict[int, dict[str, Any]]:
    """The settings of the tiles of a job that were segmented again and accepted."""
    try:
        known = json.loads((folder / NOTES).read_bytes())
        return {int(index): dict(settings) for index, settings in known["tiles"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise JobError(
            f"{folder / NOTES} cannot be read; delete it to go on without knowing which tiles it named"
        ) from None


def accepted_together(folder: Path) -> list[set[int]]:
    """The tiles of each acceptance. Acceptances that share a tile count as one: they can only be undone together."""
    try:
        groups = [set(map(int, tiles)) for tiles in json.loads((folder / NOTES).read_bytes()).get("together", [])]
    except (OSError, ValueError, TypeError, AttributeError):
        return []
    found: list[set[int]] = []
    for group in groups:
        apart = [each for each in found if each.isdisjoint(group)]
        found = [*apart, group.union(*(each for each in found if not each.isdisjoint(group)))]
    return found


def write_notes(folder: Path, tiles: dict[int, dict[str, Any]], together: Iterable[set[int]]) -> None:
    """Write which settings the tiles are from that are not the run's, and which tiles were accepted together."""
    data = {
        "tiles": {str(index): settings for index, settings in sorted(tiles.items())},
        "together": [sorted(each) for group in together if len(each := group & tiles.keys()) > 1],
    }
    write_atomically(folder / NOTES, json.dumps(data, indent=1).encode())


class SecondTry:
    """Segments some tiles of a job again.

    Parameters
    ----------
    job : Job
        With its image; its own tiles are not touched before `accept`.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._folder = job.folder / "again"
        self.store = StageStore.create(self._folder / "new", job.grid)
        self._before = StageStore.create(self._folder / "before", job.grid)

    def stage(
        self, tiles: Iterable[int], model: Model, client: Client | None = None, heartbeat: float | None = None
    ) -> Iterator[TileRecord | TileFailure | None]:
        """Run another model, or the same with other settings, on some tiles.

        Parameters
        ----------
        tiles : iterable of int
        model : Model
            Not prepared yet; it is measured on the whole image, as that of the run was.
        client, heartbeat
            See `Job.stage`.

        Yields
        ------
        TileRecord, TileFailure or None
            None for a heartbeat.

        Raises
        ------
        JobError
            If the job was opened without its image.
        """
        source = self._job.source
        if source is None:
            raise JobError("this job's image was in memory: pass it again, Job.open(folder, image=...)")
        wanted = list(tiles)
        prepared = model.prepare(source)
        self.store.unstage(wanted)
        (self._folder / "model.json").unlink(missing_ok=True)
        write_atomically(self._folder / "model.json", json.dumps(model.settings()).encode())
        with contextlib.closing(
            run(StageWork.of(self.store, prepared, source), TileQueue(wanted), client, heartbeat)
        ) as results:
            yield from results

    def accept(self, tiles: Iterable[int]) -> None:
        """Put the new tiles in the place of the old ones, which are kept for `go_back`.

        Evidence with the neighbours is made anew by the next merge. Verdicts on labels of these tiles are set aside.

        Raises
        ------
        JobError
            If a tile was not segmented again.
        """
        chosen = list(tiles)
        missing = [index for index in chosen if not self.store.is_staged(index)]
        if missing:
            raise JobError(f"tile {missing[0]} was not segmented again, or failed: there is nothing to accept")
        settings = json.loads((self._folder / "model.json").read_bytes())
        known = tiles_again(self._job.folder)
        with holding(self._job.folder / "lock.json", "replace tiles"):
            for index in chosen:
                if index not in known and self._job.store.is_staged(index):
                    _copy(self._job.store, self._before, index)
                _copy(self.store, self._job.store, index)
            together = [*accepted_together(self._job.folder), set(chosen)]
            write_notes(self._job.folder, known | dict.fromkeys(chosen, settings), together)
        self._job.forget(set(chosen))

    def go_back(self, tiles: Iterable[int]) -> list[int]:
        """Put the tiles of the run back: these, and those that were accepted together with them.

        Returns
        -------
        list of int
            All tiles that were put back.

        Raises
        ------
        JobError
            If a tile is still that of the run.
        """
        asked = set(tiles)
        known = tiles_again(self._job.folder)
        for index in asked:
            if index not in known:
                raise JobError(f"tile {index} is that of the run already")
        groups = accepted_together(self._job.folder)
        chosen = sorted(asked.union(*(group & known.keys() for group in groups if not group.isdisjoint(asked))))
        with holding(self._job.folder / "lock.json", "replace tiles"):
            for index in chosen:
                if self._before.is_staged(index):
                    _copy(self._before, self._job.store, index)
                else:
                    # It had failed in the run.
                    self._job.store.unstage([index])
                known.pop(index)
            write_notes(self._job.folder, known, groups)
        self._job.forget(set(chosen))
        return chosen


def tiles_around(grid: TileGrid, index: int) -> list[int]:
    """A tile and those that share a face with it: what lies on both sides of all its seams."""
    return [index, *grid.face_neighbours(index)]


def _copy(source: StageStore, target: StageStore, index: int) -> None:
    """Copy a staged tile to another stage of the same grid. Killed half-way, the target has no such tile."""
    tile = source.grid[index]
    target.unstage([index])
    targets = target.chunk_files(tile)
    for name, path in source.chunk_files(tile).items():
        # Where all of a chunk is background, there is no file.
        if path.exists():
            targets[name].parent.mkdir(parents=True, exist_ok=True)
            write_atomically(targets[name], path.read_bytes())
    objects = source.path("objects", index, "npy")
    write_atomically(target.path("objects", index, "npy"), objects.read_bytes())
    # The marker comes last, as ever.
    write_atomically(target.path("tiles", index), source.path("tiles", index).read_bytes())
