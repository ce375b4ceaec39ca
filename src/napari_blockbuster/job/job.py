"""A job: one run from image to merged labels, in a folder, so that each step can be stopped, resumed and repeated."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_blockbuster.execution.run import run
from napari_blockbuster.geometry.tiles import DEFAULT_BAND_DEPTH, TileGrid
from napari_blockbuster.images import ImageSource, open_image
from napari_blockbuster.machine.disk import StoreError, damage_named
from napari_blockbuster.machine.errors import JobError, JobMismatchError
from napari_blockbuster.machine.versions import describe_versions
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.merge.filters import ObjectFilter
from napari_blockbuster.merge.numbering import merge_labels
from napari_blockbuster.merge.pairs import PairOfLabels
from napari_blockbuster.merge.region_search import RegionCache
from napari_blockbuster.merge.selection import apply_filter
from napari_blockbuster.models import Model, as_model
from napari_blockbuster.output import result as outputs
from napari_blockbuster.output.occupant import Occupant
from napari_blockbuster.stage.label_table import LabelTable, LabelTableCache
from napari_blockbuster.stage.records import TileFailure
from napari_blockbuster.stage.repair import Evidence, complete_evidence
from napari_blockbuster.stage.store import StageStore
from napari_blockbuster.stage.trial import TrialQueue
from napari_blockbuster.stage.work import StageWork

from . import edited_function, preflight, results
from . import folder as folders
from . import publication as writing
from . import second_try as again
from .acceptances import Notes
from .events import Beats, Heartbeat, StageEvent, Tally, TileFailed, TileStaged
from .lock import holding
from .settings import GridSpec, JobSpec
from .suggestion import make_grid, suggest_tiles

if TYPE_CHECKING:
    from distributed import Client

    from napari_blockbuster.detached.files import DriverState
    from napari_blockbuster.detached.follower import Events

    from .check import CheckReport

__all__ = ["Heartbeat", "Job", "StageEvent", "TileFailed", "TileStaged"]


class Job:
    """One run on one image. Make it with `Job.create` or `Job.open`.

    Attributes
    ----------
    folder : Path
        The job folder: settings, staged tiles, evidence, decisions.
    spec : JobSpec
        What ``job.json`` says.
    grid : TileGrid
    source : ImageSource or None
        None for a job opened without its in-memory image: it can be merged and written, but not staged.
    model : Model or None
        The prepared model; None for a job opened without its function.
    """

    def __init__(self, folder: Path, spec: JobSpec, source: ImageSource | None, model: Model | None) -> None:
        self.folder, self.spec, self.source, self.model = folder, spec, source, model
        self.grid: TileGrid = spec.grid.grid()
        self.store = StageStore(folder / "stage", self.grid)
        self._cancelled = threading.Event()
        self._queue: TrialQueue | None = None
        self._evidence: tuple[frozenset[int], Evidence] | None = None
        self._labels = LabelTableCache(self.store)
        self._regions = RegionCache(self.store)

    # ------------------------------------------------------------- its result
    def wrote_output(self) -> bool:
        """Whether the labels at the job's output are a result that this job wrote, and not something else."""
        return results.is_recorded(self.folder, Path(self.spec.output))

    def is_complete(self) -> bool:
        """Whether the output is this job's own, with every tile in it."""
        return self.wrote_output() and not results.missing_in_result(self.folder, Path(self.spec.output))

    # ---------------------------------------------------------------- making
    @classmethod
    def create(
        cls,
        image: Any,
        model: Any = "voronoi-otsu",
        output: str | Path | None = None,
        *,
        tile_shape: int | Sequence[int] | None = None,
        halo: int | Sequence[int] | None = None,
        channel: int | str | Sequence[int | str] | None = None,
        level: int = 0,
        axes: str | None = None,
        scene: int | str | None = None,
        spacing: float | Sequence[float | None] | None = None,
        overwrite: bool = False,
        band_depth: int = DEFAULT_BAND_DEPTH,
    ) -> Job:
        """Set up a run, or go on with the one in the job folder if it is the same.

        Every check that can fail before the first tile runs here.

        Parameters
        ----------
        image : path, URL, zarr.Array, dask array, numpy array or ImageSource
        model : str, Model or callable
            See `napari_blockbuster.models.as_model`.
        output : path, optional
            Where the merged labels go. Default: ``<image>.labels.ome.zarr`` beside the image.
        tile_shape, halo : int or sequence of int, optional
            In voxels along the spatial axes. Default: chosen from chunks, memory and model.
        channel, level, axes, scene, spacing
            See `napari_blockbuster.images.open_image`.
        overwrite : bool, default False
            Replace an existing output, and a job folder of another run. The other run's tiles are deleted once all checks
            are passed.
        band_depth : int, default 16
            See `TileGrid`.

        Raises
        ------
        FileExistsError
            If the output exists and `overwrite` is false.
        JobMismatchError
            If the job folder holds tiles of another run; the message lists what differs.
        ValueError, OSError
            If the image, the model or the geometry cannot be used.
        """
        asked_for: dict[str, Any] = {"channel": channel, "level": level, "axes": axes, "scene": scene}
        source = image if isinstance(image, ImageSource) else open_image(image, spacing=spacing, **asked_for)
        asked = as_model(model)
        preflight.check_channels(source, asked)
        target = outputs.default_output(source) if output is None else Path(output).absolute()
        folder = outputs.job_folder(target)
        preflight.check_output(target, source, overwrite)
        grid = make_grid(source, *suggest_tiles(source, asked, tile_shape, halo), band_depth)
        spec = JobSpec(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            output=str(target),
            image=source.describe(),
            identity=source.identity(),
            grid=GridSpec.of(grid),
            model=asked.settings(),
            prepared={},
            depends_on=asked.depends_on(),
            versions=describe_versions(asked.depends_on()),
        )
        existing = folders.known_job(folder, spec, overwrite)
        if existing is not None:
            known = cls(folder, existing, source, folders.with_function(existing, asked))
            edited_function.check(known, asked)
            return known
        prepared = asked.prepare(source)
        spec = spec.model_copy(update={"prepared": prepared.settings()})
        preflight.check_space(folder.parent, grid, source, replaced=folder)
        folders.make(folder, spec, overwrite)
        return cls(folder, spec, source, prepared)

    @classmethod
    def open(cls, folder: str | Path, *, image: Any = None, model: Any = None) -> Job:
        """Open a job folder. Nothing in it is executed.

        Parameters
        ----------
        folder : path
            The job folder, or the output that it stands beside.
        image : optional
            The image, for a job whose image was in memory; or another place of the same image.
        model : optional
            The function, for a job whose model was a Python function.

        Raises
        ------
        JobError
            If the folder is no job, or `image` or `model` is not the one of the job.
        """
        path = Path(folder).absolute()
        if not (path / "job.json").exists() and (outputs.job_folder(path) / "job.json").exists():
            path = outputs.job_folder(path)
        spec = folders.at_home(JobSpec.load(path / "job.json"), path)
        source = folders.reopen_source(spec, image)
        asked = as_model(model) if model is not None else None
        if asked is not None and (
            changed := edited_function.with_code_of(spec, asked).differences(
                spec.model_copy(update={"model": asked.settings()})
            )
        ):
            raise JobMismatchError(f"this is not the model of {path}: " + "; ".join(changed))
        return cls(path, spec, source, folders.with_function(spec, asked))

    # --------------------------------------------------------------- staging
    @property
    def n_tiles(self) -> int:
        return len(self.grid)

    def staged(self) -> set[int]:
        """Tiles whose labels are on disk."""
        return self.store.indices("tiles")

    def failed(self) -> dict[int, TileFailure]:
        """Tiles without labels, and why."""
        staged = self.staged()
        return {i: self.store.failure(i) for i in sorted(self.store.indices("failed") - staged)}

    def stage(
        self,
        client: Client | None = None,
        *,
        tiles: Iterable[int] | None = None,
        heartbeat: float | None = None,
        tile_timeout: float | None = None,
    ) -> Iterator[StageEvent]:
        """Segment the tiles that are not staged yet; tiles that failed before are tried again.

        Parameters
        ----------
        client : distributed.Client, optional
            A process cluster. None: this thread, one tile at a time.
        tiles : iterable of int, optional
            Only these tiles, in this order.
        heartbeat : float, optional
            Yield a `Heartbeat` whenever this many seconds pass without a tile (on a cluster). It says what the run waits for.
        tile_timeout : float, optional
            Seconds after which a tile counts as hanging: its worker process is ended and started anew, and the tile
            is tried once more before it fails. On a cluster only: nothing can end a model that runs in this process.

        Yields
        ------
        TileStaged or TileFailed
            One for each tile as it lands.

        Raises
        ------
        RuntimeError
            If the client's workers live in this process.
        JobLockedError
            If another process works on this job.
        JobError
            If the job was opened without its image or its function, if the model cannot be loaded, if workers
            have other versions, too little memory for a tile, or do not see the job folder, or if the first tiles of a
            job all fail (`napari_blockbuster.stage.trial`).
        StoreError
            If the disk is full, read-only or gone: what is staged is kept, and the run goes on when called again.
        ClusterLostError
            If the scheduler or all workers are gone; likewise.
        """
        source, model = self._ready()
        preflight.check_time_limit(tile_timeout, client)
        with holding(self.folder / "lock.json", "stage") as lock:
            self._cancelled.clear()
            again.settle(self)
            staged = self.staged()
            order = self.grid.order() if tiles is None else tiles
            wanted = [i for i in order if i not in staged]
            edited_function.settle(self, model, wanted)
            waiting = self._queue = TrialQueue(wanted, proven=bool(staged))
            tally = Tally(self.grid, len(staged))
            try:
                beats = Beats(heartbeat)
                if waiting:
                    memory = yield from self._checked(client, model, tally, beats)
                    if self._cancelled.is_set():
                        return
                    preflight.check_memory(memory, self.grid, source)
                    self.store.forget_hangs()
                work = StageWork.of(self.store, model, source, tile_timeout)
                with contextlib.closing(run(work, waiting, client, beats.look)) as results:
                    for result in results:
                        if result is not None or beats.due():
                            yield tally.event(result, waiting.waits_for)
                        lock.check()
                        waiting.look(result, self.grid)
                        if self._cancelled.is_set():
                            return
            except StoreError as error:
                raise error.keeping(f"{tally} staged are kept") from error
            finally:
                self._queue = None

    def _checked(
        self, client: Client | None, model: Model, tally: Tally, beats: Beats
    ) -> Generator[StageEvent, None, int | None]:
        """Check the workers, and wait for one if there is none; ends at once when the run is canceled."""
        with contextlib.closing(preflight.checking_workers(client, self.folder, model)) as checking:
            while not self._cancelled.is_set():
                try:
                    waits_for = next(checking)
                except StopIteration as end:
                    memory: int | None = end.value
                    return memory
                if beats.due():
                    yield tally.event(None, waits_for)
        return None

    def cancel(self) -> None:
        """Stop staging, or looking for holes, after the tiles that run now. Thread-safe; what is done stays, and the same
        call goes on from there.
        """
        self._cancelled.set()

    def prefer(self, tiles: Iterable[int]) -> None:
        """Run these tiles next (those in view, say). Thread-safe; without effect while nothing is staged."""
        waiting = self._queue
        if waiting is not None:
            waiting.prefer(tiles)

    def taken(self) -> set[int]:
        """Tiles sent to a worker by the `stage` that runs now, those that landed included. Thread-safe."""
        waiting = self._queue
        return set() if waiting is None else waiting.taken()

    def sent(self, start: int) -> list[int]:
        """Tiles in the order in which they were sent to workers, without the first `start`. Thread-safe."""
        waiting = self._queue
        return [] if waiting is None else waiting.sent(start)

    # -------------------------------------------------------------- detached
    def detach(self, client: Client, *, tile_timeout: float | None = None, **options: Any) -> DriverState:
        """Leave the run to a process beside the cluster: this one may end, and the run goes on to its result.

        Parameters
        ----------
        client : distributed.Client
            Of a scheduler that outlives this process.
        tile_timeout : float, optional
            See `stage`.
        **options
            What `napari_blockbuster.segment` takes besides the tiles: ``merge``, ``min_iou``, ``connectivity``,
            ``sequential_labels``, ``filter``, ``keep_stage``, ``overwrite``, ``ome_zarr_version``.

        Returns
        -------
        DriverState
            The driver (``host``, ``pid``), at work: all that `stage` would refuse has been refused.

        Raises
        ------
        JobLockedError
            If another process works on this job.
        JobError
            If the image is in memory, or for any reason that `stage` gives.
        FileExistsError
            If the output exists and is not this job's own, without ``overwrite=True``.
        """
        from napari_blockbuster.detached.launch import detach

        from .completion import Finish

        self.check_ready()
        return detach(self, *self._ready(), client, Finish(**options), tile_timeout)

    def follow(self) -> Events:
        """Look in on a detached run, from any machine that sees the job folder, as often as you like.

        Yields
        ------
        TileStaged, TileFailed, Heartbeat or StepProgress
            A tile as it lands (those that landed before are counted in the first `Heartbeat`), a `Heartbeat` at each look without
            one, about once a second, and how far writing is.

        Raises
        ------
        DriverStoppedError, DriverFailedError, DriverGoneError
            If the run did not come to its end (see `napari_blockbuster.detached.follower`).
        JobError
            If there never was a detached run.
        """
        from napari_blockbuster.detached.follower import follow

        return follow(self)

    def stop_detached(self) -> None:
        """Ask a detached run to stop; it does so after the tiles that run now, and `follow` tells when.

        Raises
        ------
        JobError
            If none is at work.
        """
        from napari_blockbuster.detached.follower import ask_to_stop

        ask_to_stop(self)

    def check_ready(self, tiles: Iterable[int] | None = None) -> None:
        """Refuse what `stage` would refuse, before workers are started for it.

        Parameters
        ----------
        tiles : iterable of int, optional
            See `stage`.

        Raises
        ------
        JobError
            If image or model is missing or is another one.
        """
        _, model = self._ready()
        edited_function.check(self, model, tiles)

    def _ready(self) -> tuple[ImageSource, Model]:
        if self.source is None:
            raise JobError("this job's image was in memory: pass it again, Job.open(folder, image=...)")
        if self.model is None:
            self.model = folders.with_function(self.spec, None)
        if self.model is None:
            raise JobError(folders.missing_model(self.spec))
        folders.check_unchanged(self.spec, self.source)
        self.model = edited_function.read_anew(self.model)
        return self.source, self.model

    def check(self, *, repair: bool = False) -> CheckReport:
        """Prove that every staged tile has all its files; see `napari_blockbuster.job.check.check_job`."""
        from .check import check_job

        return check_job(self, repair=repair)

    def settle(self) -> None:
        """Finish an acceptance of tiles (`napari_blockbuster.job.second_try`) that was interrupted; usually there is none.

        Raises
        ------
        JobLockedError
            If another process works on the job.
        StoreError
            If the job folder cannot be written.
        """
        if Notes.load(self.folder).unfinished:
            with holding(self.folder / "lock.json", "replace tiles"):
                again.settle(self)

    def forget(self, tiles: set[int]) -> None:
        """Drop what is kept in memory of tiles that were un-staged."""
        self._labels.forget(tiles)
        self._regions.forget()
        self._evidence = None

    # --------------------------------------------------------------- merging
    def labels_table(self) -> LabelTable:
        """The labels of the tiles staged so far: how many in each tile, and how large."""
        staged = self.staged()
        with damage_named(self.folder):
            return self._labels.table(staged)

    def evidence(self, client: Client | None = None) -> np.ndarray:
        """The evidence table of the tiles staged so far (see `napari_blockbuster.stage.seams.evidence_dtype`).

        It is read once, and again when more tiles are staged. Pairs that no worker compared, because a run was cut
        short, are compared now. Nothing is written: the job may be read-only, or another process may work on it.
        """
        staged = frozenset(self.staged())
        if self._evidence is None or self._evidence[0] != staged:
            self._evidence = staged, complete_evidence(self.store, staged, client)
        return self._evidence[1].table

    def _keep_evidence(self, client: Client | None) -> None:
        """Write the evidence that is missing on disk, for later merges. Call it with the lock."""
        self.evidence(client)
        assert self._evidence is not None
        staged, known = self._evidence
        if not known.is_on_disk:
            self._evidence = staged, complete_evidence(self.store, staged, client, keep=True)

    def merge(
        self,
        rule: str = "overlap",
        min_iou: float | None = None,
        connectivity: int = 1,
        cut: Iterable[PairOfLabels] = (),
        join: Iterable[PairOfLabels] = (),
        *,
        sequential_labels: bool = True,
        filter: ObjectFilter | None = None,
        client: Client | None = None,
    ) -> outputs.StagedMerge:
        """Decide which labels are one object, among the tiles staged so far. No voxel is read, but to fill holes.

        Parameters
        ----------
        rule, min_iou, connectivity, cut, join
            See `napari_blockbuster.merge.numbering.merge_labels`.
        sequential_labels : bool, default True
            Number the objects 1..n.
        filter : ObjectFilter, optional
            Which merged objects are kept, and whether their holes are filled. Default: all, as they are.
        client : distributed.Client, optional
            Compares pairs of tiles that are still without evidence, and looks for holes.

        Returns
        -------
        StagedMerge
        """
        folders.check_stage(self.folder)
        self.settle()
        merged = merge_labels(
            self.evidence(client),
            self.labels_table(),
            rule=rule,
            min_iou=min_iou,
            connectivity=connectivity,
            cut=cut,
            join=join,
            sequential=sequential_labels,
        )
        staged = outputs.StagedMerge.of(merged, self.store)
        return staged if filter is None else self.filtered(staged, filter, client)

    def filtered(
        self,
        merged: outputs.StagedMerge,
        filter: ObjectFilter,
        client: Client | Callable[[], Client] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> outputs.StagedMerge:
        """What a filter leaves of a merge; `merged` stays as it is.

        The first time that holes are filled, every staged tile is read once, on the cluster if there is one. What is found
        is kept beside the stage and in memory: after that, no merge of these tiles reads a voxel. `cancel` stops it.

        Parameters
        ----------
        merged : StagedMerge
            From `merge`, without a filter.
        filter : ObjectFilter
        client : distributed.Client, or a function that makes one, optional
            The function is called only if tiles have to be read.
        progress : callable, optional
            ``progress(done, total)`` in tiles, each of which is looked at twice.

        Raises
        ------
        ValueError
            If `merged` has holes filled already, or tiles were staged since it was made.
        JobError
            If a tile is damaged, or it was cancelled (`RegionSearchCanceled`).
        """
        if not filter.fill_holes:
            return apply_filter(merged, filter)
        self._cancelled.clear()
        regions = self._regions.regions(frozenset(self.staged()), client, self._cancelled, progress)
        return apply_filter(merged, filter, regions)

    # --------------------------------------------------------------- writing
    def write(
        self,
        merged: Merge,
        client: Client | None = None,
        *,
        overwrite: bool | Occupant = False,
        keep_stage: bool = False,
        ome_zarr_version: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> outputs.Result:
        """Write the merged labels as OME-Zarr and put them in place.

        Parameters
        ----------
        merged : Merge
            From `merge`.
        client : distributed.Client, optional
        overwrite : bool or Occupant, default False
            Replace the output that exists when the call is made; an `Occupant` that was seen earlier: only that one.
        keep_stage : bool, default False
            Keep the staged tiles, to merge again. They stay in any case while tiles are missing.
        ome_zarr_version : {"0.5", "0.4"}, optional
            Default: that of the OME-Zarr image that the labels lie in, else 0.5.
            0.5 is zarr v3 with shards, 0.4 is zarr v2.
        progress : callable, optional
            ``progress(done, total)`` in tiles and blocks.

        Returns
        -------
        Result

        Raises
        ------
        FileExistsError
            If the output exists and `overwrite` is false, or if something else appeared in its place meanwhile.
        NothingStagedError
            If no tile is staged.
        StoreError
            If the disk is full or read-only: the tiles are kept, and what was there before is still there.
        """
        folders.check_stage(self.folder)
        if client is not None:
            from napari_blockbuster.execution.cluster import check_client

            check_client(client)
        with holding(self.folder / "lock.json", "write"):
            again.settle(self)
            keep_stage = keep_stage or len(self.staged()) < self.n_tiles
            if keep_stage:
                self._keep_evidence(client)
            result = writing.write_output(self, merged, client, overwrite, ome_zarr_version, progress)
            if not keep_stage:
                self.store.delete()
                again.discard_tries(self)
        return result
