"""Set up a job: from an image and a model to a job folder, or from a job folder back to them.

Every check that can fail before the first tile runs here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from napari_blockbuster.geometry.tiles import DEFAULT_BAND_DEPTH, TileGrid
from napari_blockbuster.images import ChannelNotChosenError, ImageSource, open_image
from napari_blockbuster.images.content.emptiness import empty_tiles
from napari_blockbuster.images.metadata.sizes import say
from napari_blockbuster.job.folder.job_folder import JobFolder
from napari_blockbuster.job.folder.settings import GridSpec, JobSpec, Measured
from napari_blockbuster.job.folder.where import EVERYWHERE, Where, check_inside, check_threshold
from napari_blockbuster.job.state import edited_function
from napari_blockbuster.job.state.inputs import reopen_others, reopen_source, with_function
from napari_blockbuster.job.state.tiles import Tiles
from napari_blockbuster.job.where import default_inside, read_roi
from napari_blockbuster.machine.errors import JobMismatchError
from napari_blockbuster.machine.patience import SILENT_STORAGE, noticed
from napari_blockbuster.machine.units import count_text
from napari_blockbuster.machine.versions import describe_versions
from napari_blockbuster.models import Model, as_model
from napari_blockbuster.models.planes import prepared_on
from napari_blockbuster.output.result import default_output

from . import preflight
from .channels import check_channels, fitting_channels, measured_channels
from .read_cost import say_if_dear
from .suggestion import make_grid, suggest_tiles

__all__ = ["JobParts", "NewJob", "create", "reopen"]


class JobParts(NamedTuple):
    """The parameters of `napari_blockbuster.Job`."""

    folder: JobFolder
    spec: JobSpec
    source: ImageSource | None
    model: Model | None
    others: ImageSource | None = None


@dataclass(frozen=True)
class NewJob:
    """What a job is created from; see `napari_blockbuster.Job.create` for each field."""

    image: Any
    model: Any
    output: str | Path | None
    tile_shape: int | Sequence[int] | None = None
    halo: int | Sequence[int] | None = None
    channel: int | str | Sequence[int | str] | None = None
    level: int = 0
    axes: str | None = None
    scene: int | str | None = None
    spacing: float | Sequence[float | None] | None = None
    measure: int | str | Sequence[int | str] | None = None
    overwrite: bool = False
    band_depth: int = DEFAULT_BAND_DEPTH
    planned: Callable[[int], None] | None = None
    where: Any = None
    inside: str | None = None
    skip_empty: bool = False
    skip_below: float | None = None

    def region(self, source: ImageSource, grid: TileGrid) -> Where:
        """Return where to segment, without the tiles that hold nothing.

        Raises
        ------
        ValueError
            If the region is empty, or outside the image.
        """
        with noticed(f"the region of interest to be read ({SILENT_STORAGE})"):
            roi, said = read_roi(self.where, source, grid)
        inside = default_inside(self.where) if self.inside is None else self.inside
        return Where(roi, inside, self.skip_below, said=said)

    def without_empty(self, where: Where, before: Where, source: ImageSource, grid: TileGrid) -> Where:
        """Return a region without the tiles that hold nothing, if that was asked.

        Parameters
        ----------
        where, before : Where
            The region from `region`, and that of the job so far: what is known of it is not searched again.

        Raises
        ------
        ValueError
            If no tile is left.
        """
        if not (self.skip_empty or self.skip_below is not None):
            return where
        if before.empty is not None and replace(before, empty=None).digest == where.digest:
            return replace(where, empty=before.empty)
        tiles = np.flatnonzero(where.chosen(grid))
        with noticed(f"pixels in search of empty tiles ({SILENT_STORAGE})", 30.0):
            empty = empty_tiles(source, grid, tiles, self.skip_below)
        if len(empty) == len(tiles):
            what = "all of one value" if self.skip_below is None else f"not above {self.skip_below:g}"
            raise ValueError(
                f"All {count_text(len(tiles), 'tile')} to segment hold nothing: their pixels are {what}. "
                "Leave out skip_empty= (--skip-empty) or choose a smaller skip_below= (--skip-below)."
            )
        return replace(where, empty=tuple(empty))

    def source(self, model: Model) -> ImageSource:
        """Open the image. A model that needs all of its channels gets them without being asked."""
        if isinstance(self.image, ImageSource):
            return self.image
        part = self._part()
        try:
            return open_image(self.image, channel=self.channel, **part)
        except ChannelNotChosenError as error:
            channels = fitting_channels(error.n_channels, model)
            if channels is None:
                raise
            return open_image(self.image, channel=channels, **part)

    def _part(self) -> dict[str, Any]:
        return {"level": self.level, "axes": self.axes, "scene": self.scene, "spacing": self.spacing}

    def measured(self, source: ImageSource) -> tuple[Measured, ImageSource | None]:
        """Return the channels to measure, and those of them that the model does not see."""
        return measured_channels(self.image, source, self.measure, self._part())

    def spec(self, source: ImageSource, model: Model, target: Path, measured: Measured) -> JobSpec:
        """Return the settings of the job, without those that the model measures on the image."""
        tile_shape, halo = suggest_tiles(source, model, self.tile_shape, self.halo)
        return JobSpec(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            output=str(target),
            image=source.describe(),
            identity=source.identity(),
            measured=measured,
            grid=GridSpec.of(make_grid(source, tile_shape, halo, self.band_depth)),
            model=model.settings(),
            prepared={},
            depends_on=model.depends_on(),
            versions=describe_versions(model.depends_on()),
        )


def create(asked: NewJob) -> JobParts:
    """Create a job, or return the one in the job folder if it is the same run; see `napari_blockbuster.Job.create`."""
    if asked.inside is not None:
        check_inside(asked.inside)
    check_threshold(asked.skip_below)
    model = as_model(asked.model)
    with noticed(f"the image to be opened ({SILENT_STORAGE})"):
        source = asked.source(model)
        measured, others = asked.measured(source)
    check_channels(source, model)
    target = default_output(source) if asked.output is None else Path(asked.output).absolute()
    folder = JobFolder.beside(target)
    preflight.check_output(target, source, asked.overwrite)
    spec = asked.spec(source, model, target, measured)
    grid = spec.grid.grid()
    where = asked.region(source, grid)
    if (known := folder.known(spec, asked.overwrite)) is not None:
        reopened = with_function(known, model)
        folder = folder.of(known)
        where = asked.without_empty(where, folder.load_where(), source, grid)
        _move(folder, grid, where)
        edited_function.check(known, Tiles(folder.stage, grid, where), model)
        return JobParts(folder, known, source, reopened, others)
    say_if_dear(source, grid)
    where = asked.without_empty(where, EVERYWHERE, source, grid)
    if asked.planned is not None:
        asked.planned(int(where.chosen(grid).sum()) if where else len(grid))
    with noticed(f"{model.display_name} to measure the image ({SILENT_STORAGE})", 30.0):
        prepared = prepared_on(model, source)
    spec = spec.model_copy(update={"prepared": prepared.settings()})
    n_tiles = int(where.chosen(grid).sum()) if where else None
    preflight.check_space(folder.path.parent, grid, source, replaced=folder.path, n_tiles=n_tiles)
    spec = folder.make(spec, asked.overwrite, lambda: preflight.check_output(target, source, asked.overwrite), where)
    return JobParts(folder.of(spec), spec, source, prepared, others)


def _move(folder: JobFolder, grid: TileGrid, where: Where) -> None:
    """Give a job another region of interest. Staged tiles stay, also those outside of it."""
    before = folder.load_where()
    if before.digest == where.digest:
        return
    with folder.holding("choose where to segment") as owner:
        folder.save_where(where, owner)
    tiles = Tiles(folder.stage, grid, where)
    staged = tiles.staged()
    within = tiles.among_chosen(staged)
    said = f"{count_text(tiles.n_chosen, 'tile')} now, {count_text(int(before.chosen(grid).sum()), 'tile')} before"
    outside = (
        f"; {count_text(len(staged) - within, 'staged tile')} outside stay on disk" if within < len(staged) else ""
    )
    say(f"The region of interest of {folder.path} changed: {said}. {within:,} of them are staged already{outside}.")


def reopen(path: Path, image: Any, model: Any) -> JobParts:
    """Open the job at a path; see `napari_blockbuster.Job.open`."""
    folder = JobFolder.find(path) or JobFolder(path)
    spec = folder.load()
    with noticed(f"the image to be opened ({SILENT_STORAGE})"):
        source = reopen_source(spec, image)
    asked = as_model(model) if model is not None else None
    if asked is not None:
        there = spec.model_copy(update={"model": asked.settings()})
        if changed := edited_function.with_code_of(spec, asked).differences(there):
            raise JobMismatchError(f"this is not the model of {folder.path}: " + "; ".join(changed))
    return JobParts(folder.of(spec), spec, source, with_function(spec, asked), reopen_others(spec, image))
