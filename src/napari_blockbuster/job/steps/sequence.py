"""The steps of a job, as functions over its folder, its tiles and its inputs.

Each step reads only what an earlier step put on disk, so that it can be stopped, resumed and repeated.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_blockbuster.execution.run import run
from napari_blockbuster.job.folder.job_folder import JobFolder, naming_deletion
from napari_blockbuster.job.folder.settings import JobSpec
from napari_blockbuster.job.progress.events import Beats, StageEvent, Tally
from napari_blockbuster.job.progress.performance import Performance
from napari_blockbuster.job.setup import preflight
from napari_blockbuster.job.state import edited_function
from napari_blockbuster.job.state.control import Control
from napari_blockbuster.job.state.inputs import Inputs
from napari_blockbuster.job.state.tiles import Tiles
from napari_blockbuster.machine.disk import StoreError
from napari_blockbuster.machine.errors import JobMismatchError
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.merge.numbering import merge_labels
from napari_blockbuster.output.result import Result, StagedMerge
from napari_blockbuster.stage.records.records import TileRecord
from napari_blockbuster.stage.trial import TrialQueue
from napari_blockbuster.stage.work import StageWork

from . import second_try
from .publication import WriteOptions, write_output

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["StageOptions", "merge", "stage", "write"]


# -------------------------------------------------------------------------------------------------------------- stage
@dataclass(frozen=True)
class StageOptions:
    """How tiles are staged; see `napari_blockbuster.Job.stage` for each option."""

    client: Client | None = None
    tiles: Iterable[int] | None = None
    heartbeat: float | None = None
    tile_timeout: float | None = None


def stage(
    folder: JobFolder, tiles: Tiles, inputs: Inputs, control: Control, options: StageOptions
) -> Iterator[StageEvent]:
    """Segment the tiles that are not staged yet; see `napari_blockbuster.Job.stage`."""
    source, model = inputs.ready()
    preflight.check_time_limit(options.tile_timeout, options.client)
    with folder.holding("stage") as owner:
        folder.check_stage()
        control.canceled.clear()
        second_try.settle(folder, tiles, owner)
        staged = tiles.staged()
        _check_where(folder, tiles)
        order = tiles.order() if options.tiles is None else options.tiles
        wanted = [i for i in order if i not in staged]
        inputs.spec = edited_function.settle(folder, inputs.spec, tiles, model, wanted, owner)
        waiting = control.queue = TrialQueue(wanted, proven=bool(staged))
        tally, beats = Tally(tiles.grid, tiles.among_chosen(staged), tiles.n_chosen), Beats(options.heartbeat)
        performance = control.performance = Performance()
        try:
            if waiting:
                checks = preflight.checking_workers(options.client, folder.path, model)
                memory = yield from _checked(checks, control, tally, beats)
                if control.canceled.is_set():
                    return
                preflight.check_memory(memory, tiles.grid, source)
                tiles.store.forget_hangs()
            work = StageWork.of(tiles.store, model, source, options.tile_timeout, owner, inputs.others)
            with contextlib.closing(run(work, waiting, options.client, beats.look)) as results:
                for result in results:
                    if isinstance(result, TileRecord):
                        performance.add(result)
                    if result is not None or beats.due():
                        yield tally.event(result, waiting.waits_for)
                    owner.check()
                    waiting.look(result, tiles.grid)
                    if control.canceled.is_set():
                        return
        except StoreError as error:
            raise error.keeping(f"{tally} staged are kept") from error
        finally:
            control.queue = None


def _check_where(folder: JobFolder, tiles: Tiles) -> None:
    """Refuse to segment tiles of a region that another process has replaced since the job was opened."""
    if folder.load_where().digest != tiles.where.digest:
        raise JobMismatchError(
            f"The region of interest of {folder.path} was changed since the job was opened here. "
            "Open the job again to segment the tiles of the new region."
        )


def _checked(
    checks: Generator[str, None, int | None], control: Control, tally: Tally, beats: Beats
) -> Generator[StageEvent, None, int | None]:
    """Check the workers, and wait for one if there is none; end at once when the run is canceled."""
    with contextlib.closing(checks):
        while not control.canceled.is_set():
            try:
                waits_for = next(checks)
            except StopIteration as end:
                memory: int | None = end.value
                return memory
            if beats.due():
                yield tally.event(None, waits_for)
    return None


# -------------------------------------------------------------------------------------------------------------- merge
def merge(folder: JobFolder, tiles: Tiles, client: Client | None, **rule: Any) -> StagedMerge:
    """Decide which labels are one object; `rule` goes to `napari_blockbuster.merge.numbering.merge_labels`."""
    folder.check_stage()
    with naming_deletion(folder):
        second_try.settle_alone(folder, tiles)
        merged = merge_labels(tiles.evidence(client), tiles.labels_table(), **rule)
        return StagedMerge.of(tiles.inside(merged, client), tiles.store)


# -------------------------------------------------------------------------------------------------------------- write
def write(folder: JobFolder, tiles: Tiles, spec: JobSpec, merged: Merge, options: WriteOptions) -> Result:
    """Write merged labels; see `napari_blockbuster.Job.write`."""
    folder.check_stage()
    if options.client is not None:
        from napari_blockbuster.execution.cluster import check_client

        check_client(options.client)
    with folder.holding("write") as owner:
        # Again: another process may have written its result before this one got the lock.
        folder.check_stage()
        second_try.settle(folder, tiles, owner)
        # Tiles are also kept while a region may grow: more of them can then be segmented by the same job.
        grows = tiles.where.roi is not None and tiles.n_skipped(tiles.staged()) > 0
        keep_stage = options.keep_stage or grows or bool(tiles.missing(tiles.staged()))
        if keep_stage:
            tiles.save_evidence(options.client, owner)
        result = write_output(folder, tiles, spec, merged, options, owner)
        if not keep_stage:
            owner.remove(tiles.store.folder)
            owner.remove(folder.again)
    return result
