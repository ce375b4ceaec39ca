"""A job: one run from image to merged labels, in a folder, so that each step can be stopped, resumed and repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_blockbuster.geometry.tiles import DEFAULT_BAND_DEPTH
from napari_blockbuster.job.folder.job_folder import naming_deletion
from napari_blockbuster.job.progress.events import Heartbeat, StageEvent, TileFailed, TileStaged
from napari_blockbuster.job.progress.performance import Performance
from napari_blockbuster.job.steps.publication import WriteOptions
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.output.occupant import Occupant
from napari_blockbuster.output.result import Result

from .check import CheckReport, check_job
from .setup import new_job as setup
from .setup import preflight
from .staged_job import StagedJob
from .state import edited_function
from .steps import second_try
from .steps import sequence as steps

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Heartbeat", "Job", "StageEvent", "TileFailed", "TileStaged"]


class Job(StagedJob):
    """One run on one image. Use `Job.create` or `Job.open` to make one.

    Its parts, and what is known of them, are those of `JobState`. `StagedJob` has its merge. The steps are `stage`,
    `merge` and `write`.
    """

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
        measure: int | str | Sequence[int | str] | None = None,
        overwrite: bool = False,
        band_depth: int = DEFAULT_BAND_DEPTH,
        planned: Callable[[int], None] | None = None,
        where: Any = None,
        inside: str | None = None,
        skip_empty: bool = False,
        skip_below: float | None = None,
    ) -> Job:
        """Set up a run, or resume the one in the job folder if it is the same. All checks run here, before the first tile.

        Parameters
        ----------
        image : path, URL, zarr.Array, dask array, numpy array or ImageSource
        model : str, Model or callable
            See `napari_blockbuster.models.as_model`.
        output : path, optional
            Where the merged labels go. Default: ``<image>.labels.ome.zarr`` next to the image.
        tile_shape, halo : int or sequence of int, optional
            In voxels along the spatial axes. Default: chosen from chunks, memory and model. Axes of one plane may be left out.
        channel, level, axes, scene, spacing
            See `napari_blockbuster.images.open_image`.
        measure : int, str or sequence of these, optional
            Channels whose intensities are summed for each object, in addition to those that the model sees.
        overwrite : bool, default False
            Replace an existing output, and a job folder of another run, whose tiles are deleted once all checks passed.
        band_depth : int, default 16
            See `TileGrid`.
        planned : callable, optional
            Called with the number of tiles of a new job, before the model measures the image: to start a cluster meanwhile.
        where, inside, skip_empty, skip_below : optional
            See `napari_blockbuster.segment`. A job that is resumed takes the new region. Its staged tiles stay, also those
            outside of it, and what is outside is not in the result.

        Raises
        ------
        FileExistsError
            If the output exists and `overwrite` is false.
        JobMismatchError
            If the job folder holds tiles of another run; the message lists the differences.
        ValueError, OSError
            If the image, the model or the geometry cannot be used.
        """
        part: dict[str, Any] = {"channel": channel, "level": level, "axes": axes, "scene": scene, "spacing": spacing}
        part |= {"measure": measure, "overwrite": overwrite, "band_depth": band_depth, "planned": planned}
        part |= {"where": where, "inside": inside, "skip_empty": skip_empty, "skip_below": skip_below}
        asked = setup.NewJob(image, model, output, tile_shape, halo, **part)
        return cls(*setup.create(asked))

    @property
    def performance(self) -> Performance:
        """How well the present or the last `stage` uses the model: ``line()``, ``advice()``, ``busy``."""
        return self._control.performance

    @classmethod
    def open(cls, folder: str | Path, *, image: Any = None, model: Any = None) -> Job:
        """Open a job folder. Nothing in it is executed.

        Parameters
        ----------
        folder : path
            The job folder, or the output next to it.
        image : optional
            The image, for a job whose image was in memory; or another place of the same image.
        model : optional
            The function, for a job whose model was a Python function.

        Raises
        ------
        JobError
            If the folder is not a job, or `image` or `model` is not the one of the job.
        """
        return cls(*setup.reopen(Path(folder).absolute(), image, model))

    def with_output(self, output: str | Path, *, overwrite: bool = False) -> Job:
        """Return the same job with its labels at another path, if they can be written there. The job folder stays as it is."""
        target = Path(output).absolute()
        if self.source is not None:
            preflight.check_output(target, self.source, overwrite)
        spec = self.spec.model_copy(update={"output": str(target)})
        return Job(self.files, spec, self.source, self.model, self.inputs.others)

    def check(self, *, repair: bool = False) -> CheckReport:
        """Check that every staged tile has all its files; see `napari_blockbuster.job.check.check_job`."""
        return check_job(self.files, self.tiles, repair=repair)

    def settle(self) -> None:
        """Finish an interrupted acceptance of tiles; see `napari_blockbuster.job.steps.second_try.settle_alone`."""
        second_try.settle_alone(self.files, self.tiles)

    # ----------------------------------------------------------------------------------------------------------- stage
    def stage(
        self,
        client: Client | None = None,
        *,
        tiles: Iterable[int] | None = None,
        heartbeat: float | None = None,
        tile_timeout: float | None = None,
    ) -> Iterator[StageEvent]:
        """Segment the tiles that are not staged yet. Tiles that failed before are tried again.

        Parameters
        ----------
        client : distributed.Client, optional
            A process cluster. None: this thread, one tile at a time.
        tiles : iterable of int, optional
            Only these tiles, in this order.
        heartbeat : float, optional
            On a cluster, yield a `Heartbeat` whenever this many seconds pass without a tile. It names what the run waits for.
        tile_timeout : float, optional
            Seconds after which a tile counts as hanging: its worker process is restarted, and the tile is tried once more
            before it fails. On a cluster only: a model in this process cannot be stopped.

        Yields
        ------
        TileStaged, TileFailed
            One for each tile as it lands.

        Raises
        ------
        RuntimeError
            If the client's workers live in this process.
        JobError
            If another process works on this job (`JobLockedError`), if the job was opened without its image or its function, if
            the model cannot be loaded, if workers have other versions, too little memory for a tile, or do not see the job
            folder, or if the first tiles of a job all fail (`napari_blockbuster.stage.trial`).
        StoreError, ClusterLostError
            If the disk is full, read-only or gone, or the scheduler or all workers are. Staged tiles are kept; call `stage`
            again to resume.
        """
        options = steps.StageOptions(client, tiles, heartbeat, tile_timeout)
        return steps.stage(self.files, self.tiles, self.inputs, self._control, options)

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
        _, model = self.inputs.ready()
        with naming_deletion(self.files):
            edited_function.check(self.spec, self.tiles, model, tiles)

    # ----------------------------------------------------------------------------------------------------------- write
    def write(
        self,
        merged: Merge,
        client: Client | None = None,
        *,
        overwrite: bool | Occupant = False,
        keep_stage: bool = False,
        ome_zarr_version: str | None = None,
        csv: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Result:
        """Write the merged labels as OME-Zarr, and their table, and put them in place.

        The table goes to ``<output>.table.parquet`` and, as AnnData, to ``tables/`` of the OME-Zarr.

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
            Default: that of the OME-Zarr image that the labels lie in, else 0.5 (zarr v3 with shards; 0.4 is zarr v2).
        csv : bool, default False
            Also write the table to ``<output>.table.csv``.
        progress : callable, optional
            ``progress(done, total)`` in tiles and blocks.

        Raises
        ------
        FileExistsError
            If the output exists and `overwrite` is false, or if something else appeared in its place meanwhile.
        NothingStagedError
            If no tile is staged.
        StoreError
            If the disk is full or read-only. The tiles are kept, and an earlier output is still there.
        """
        sources = self.inputs.source, self.inputs.others
        options = WriteOptions(client, overwrite, keep_stage, ome_zarr_version, progress, csv, sources)
        return steps.write(self.files, self.tiles, self.spec, merged, options)
