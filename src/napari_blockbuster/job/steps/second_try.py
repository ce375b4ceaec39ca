"""Tiles segmented again with other settings: compared with the old ones, accepted, or undone.

A second try has a stage of its own inside the job folder, so that nothing of the run is touched before it is accepted. The
tiles that it replaces are kept next to it. Which tiles came from which settings is in ``again.json``
(`napari_blockbuster.job.folder.acceptances`), and in the provenance of each result.

Tiles are replaced in three steps, so that a process may be killed at any moment: copy the run's own tiles aside, note which tiles
are being replaced, replace them. Before the note nothing has changed. After it, the next process that works on the job
finishes the third step (`settle`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from napari_blockbuster.execution.queue import TileQueue
from napari_blockbuster.execution.run import run
from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.job.folder.acceptances import Notes, accepted_together, tiles_again
from napari_blockbuster.job.folder.job_folder import JobFolder
from napari_blockbuster.machine.disk import errno_of, writing_to
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.machine.files import discard
from napari_blockbuster.machine.ownership import Owner
from napari_blockbuster.models import Model
from napari_blockbuster.models.planes import prepared_on
from napari_blockbuster.stage.store import StageStore, TileFailure, TileRecord
from napari_blockbuster.stage.work import StageWork

if TYPE_CHECKING:
    from distributed import Client

    from napari_blockbuster.job.job import Job
    from napari_blockbuster.job.state.tiles import Tiles

__all__ = ["SecondTry", "accepted_together", "settle", "settle_alone", "tiles_again", "tiles_around"]


class SecondTry:
    """Segment some tiles of a job again.

    Parameters
    ----------
    job : Job
        With its image; its own tiles are not touched before `accept`.
    """

    def __init__(self, job: Job) -> None:
        self._folder, self._tiles, self._inputs = job.files, job.tiles, job.inputs
        self.store, self._before = _tries(self._folder, self._tiles)

    def stage(
        self, tiles: Iterable[int], model: Model, client: Client | None = None, heartbeat: float | None = None
    ) -> Iterator[TileRecord | TileFailure | None]:
        """Run another model, or the same with other settings, on some tiles.

        Parameters
        ----------
        tiles : iterable of int
        model : Model
            Not prepared: it is prepared on the whole image, like the model of the run.
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
        source = self._inputs.image()
        self._folder.check_stage()
        wanted = list(tiles)
        prepared = prepared_on(model, source)
        with self._folder.holding("segment tiles again") as owner:
            settle(self._folder, self._tiles, owner)
            with writing_to(self._folder.again):
                _lay_out(self.store)
                self.store.unstage(wanted, owner.remove)
                tried = self._tried() | dict.fromkeys(wanted, model.settings())
                data = {"tiles": {str(index): settings for index, settings in sorted(tried.items())}}
                owner.write(self._folder.again_tried, json.dumps(data).encode())
            work = StageWork.of(self.store, prepared, source, owner=owner, others=self._inputs.others)
            with contextlib.closing(run(work, TileQueue(wanted), client, heartbeat)) as results:
                for result in results:
                    yield result
                    owner.check()

    def _tried(self) -> dict[int, dict[str, Any]]:
        """Return the settings of the tiles that were tried and are not accepted yet."""
        try:
            known = json.loads(self._folder.again_tried.read_bytes())["tiles"]
            return {int(index): dict(settings) for index, settings in known.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def accept(self, tiles: Iterable[int]) -> None:
        """Replace the old tiles by the new ones. The old ones are kept for `go_back`.

        The tiles are one acceptance, which `go_back` undoes as a whole. The next merge compares them with their neighbors.
        Decisions on labels of these tiles are set aside.

        Raises
        ------
        JobError
            If a tile was not segmented again.
        JobLockedError
            If another process works on this job.
        StoreError
            If the disk is full or read-only. The change is finished when the job is used again.
        """
        chosen, tried = sorted(set(tiles)), self._tried()
        missing = [index for index in chosen if index not in tried or not self.store.is_staged(index)]
        if missing:
            raise JobError(f"Tile {missing[0]} was not segmented again, or it failed. There is nothing to accept.")
        self._folder.check_stage()
        with self._folder.holding("replace tiles") as owner:
            settle(self._folder, self._tiles, owner)
            known = tiles_again(self._folder.path)
            with writing_to(self._folder.again):
                _lay_out(self._before, discard_others=not known)
                for index in chosen:
                    if index not in known:
                        _copy(self._tiles.store, self._before, index, owner)
            self._replace({index: tried[index] for index in chosen}, owner)

    def go_back(self, tiles: Iterable[int]) -> list[int]:
        """Restore the tiles of the run: these, and all that were accepted together with them.

        Returns
        -------
        list of int
            The restored tiles, as `accepted_together` lists them beforehand.

        Raises
        ------
        JobError
            If a tile is the original tile of the run.
        JobLockedError, StoreError
            See `accept`.
        """
        self._folder.check_stage()
        with self._folder.holding("replace tiles") as owner:
            settle(self._folder, self._tiles, owner)
            chosen, known = list(tiles), tiles_again(self._folder.path)
            if own := [index for index in chosen if index not in known]:
                raise JobError(f"Tile {own[0]} is already the original tile of the run.")
            wanted = accepted_together(self._folder.path, chosen)
            self._replace(dict.fromkeys(wanted), owner)
            return wanted

    def _replace(self, changes: Mapping[int, dict[str, Any] | None], owner: Owner) -> None:
        """Record changes, then make them."""
        notes = Notes.load(self._folder.path)
        notes.begin(changes)
        with writing_to(self._folder.path):
            notes.save(self._folder.path, owner)
        settle(self._folder, self._tiles, owner)


def settle(folder: JobFolder, tiles: Tiles, owner: Owner) -> None:
    """Finish an interrupted acceptance, or an interrupted undo."""
    notes = Notes.load(folder.path)
    if not notes.unfinished:
        return
    folder.check_stage()
    new, before = _tries(folder, tiles)
    replaced = set(notes.unfinished)
    try:
        with writing_to(folder.path):
            for index, settings in notes.unfinished.items():
                # The new tile may have been deleted in the meantime.
                if settings is not None and not new.is_staged(index):
                    notes.unfinished[index] = settings = None
                _copy(new if settings is not None else before, tiles.store, index, owner)
            notes.finish()
            notes.save(folder.path, owner)
    finally:
        tiles.forget(replaced)


def settle_alone(folder: JobFolder, tiles: Tiles) -> None:
    """Finish an acceptance that was interrupted, if there is one; see `settle`. Takes the lock.

    Raises
    ------
    JobLockedError
        If another process works on the job.
    StoreError
        If the job folder cannot be written.
    """
    if Notes.load(folder.path).unfinished:
        with folder.holding("replace tiles") as owner:
            settle(folder, tiles, owner)


def _tries(folder: JobFolder, tiles: Tiles) -> tuple[StageStore, StageStore]:
    """Return the stages of new tiles and of the tiles that they replaced. They are not created here."""
    return StageStore(folder.again_new, tiles.grid), StageStore(folder.again_before, tiles.grid)


def _lay_out(store: StageStore, *, discard_others: bool = True) -> None:
    """Create a stage. A stage of an earlier job with another grid is deleted first."""
    try:
        StageStore.create(store.folder, store.grid)
    except ValueError as error:
        if errno_of(error) is not None:
            raise
        if not discard_others:
            raise JobError(f"{store.folder} does not hold tiles of this job. Delete it to continue.") from error
        discard(store.folder)
        StageStore.create(store.folder, store.grid)


def tiles_around(grid: TileGrid, index: int) -> list[int]:
    """Return a tile and the tiles that share a face with it."""
    return [index, *grid.face_neighbors(index)]


def _copy(source: StageStore, target: StageStore, index: int, owner: Owner) -> None:
    """Copy the state of a tile from one stage to another: staged, failed, or missing.

    If this is killed half-way, the tile is missing in the target.
    """
    target.unstage([index], owner.remove)
    if not source.is_staged(index):
        failure = source.path("failed", index)
        if failure.exists():
            owner.write(target.path("failed", index), failure.read_bytes())
        return
    source.copy(index, target, owner)
