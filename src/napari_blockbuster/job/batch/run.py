"""Run the jobs of many images one after the other, with the workers and the model of the first one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_blockbuster.job.folder.job_folder import JobFolder
from napari_blockbuster.job.folder.results import own_record
from napari_blockbuster.job.job import Job
from napari_blockbuster.job.progress.bar import Progress
from napari_blockbuster.job.setup.new_job import NewJob
from napari_blockbuster.job.steps.completion import Finish, Watch, finish
from napari_blockbuster.machine.disk import StoreError
from napari_blockbuster.machine.errors import ClusterLostError
from napari_blockbuster.merge.filters import ObjectFilter
from napari_blockbuster.merge.rules import DEFAULT_MIN_IOU
from napari_blockbuster.models import Model

from .report import ImageOutcome
from .targets import Target

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Batch"]

FATAL = (StoreError, ClusterLostError)
"""Errors that every further image would meet as well."""


@dataclass(frozen=True)
class Batch:
    """Many images, and what is done with each.

    Attributes
    ----------
    targets : sequence of Target
    model : Model
        Not prepared: each image is measured on its own.
    asked : Finish
    options : dict
        Further keyword arguments of `napari_blockbuster.Job.create`.
    tile_timeout : float or None
    """

    targets: Sequence[Target]
    model: Model
    asked: Finish
    options: dict[str, Any]
    tile_timeout: float | None = None

    def run(self, client: Client | None, progress: bool = True) -> Iterator[ImageOutcome]:
        """Segment image after image. One that cannot be segmented is an outcome, and the next one follows.

        Yields
        ------
        ImageOutcome
            One for each image.

        Raises
        ------
        StoreError, ClusterLostError
            If the disk or the cluster fails. Repeat the call to resume.
        """
        for target in self.targets:
            began = time.perf_counter()
            try:
                yield self._outcome(target, client, progress, began)
            except FATAL:
                raise
            except Exception as error:
                yield ImageOutcome.of_error(target, error, time.perf_counter() - began)

    def _outcome(self, target: Target, client: Client | None, progress: bool, began: float) -> ImageOutcome:
        known = None if self.asked.overwrite else self._known(target)
        if known is not None and known.is_complete():
            objects = own_record(known.folder)["merge"]["objects"]
            return ImageOutcome(
                target.name, target.image, target.scene, target.output, "unchanged", objects, known.n_chosen
            )
        # A result of this very run with failed tiles is completed.
        job = known or Job.create(
            target.image,
            self.model,
            target.output,
            scene=target.scene,
            overwrite=self.asked.overwrite,
            **self.options,
        )
        asked = (replace(self.asked, overwrite=True) if known is not None else self.asked).begun(job)
        with Progress(enabled=progress) as bar:
            bar.follow(job.stage(client, heartbeat=1.0, tile_timeout=self.tile_timeout))
            result = finish(job, asked, client, bar.advance_to, Watch()).result
        missing = len(result.missing_tiles)
        return ImageOutcome(
            target.name,
            target.image,
            target.scene,
            target.output,
            "failed tiles" if missing else "done",
            result.n_objects,
            job.n_chosen,
            missing,
            time.perf_counter() - began,
            result=result,
        )

    def _known(self, target: Target) -> Job | None:
        """The job that wrote this output with the same settings; None if there is none."""
        folder = JobFolder.beside(target.output)
        if not folder.is_job():
            return None
        job = Job.open(folder.path)
        if not job.wrote_output() or not self._merged_as_asked(folder.path):
            return None
        asked = NewJob(target.image, self.model, target.output, scene=target.scene, **self.options)
        source = asked.source(self.model)
        if job.spec.differences(asked.spec(source, self.model, target.output, asked.measured(source)[0])):
            return None
        where = asked.without_empty(asked.region(source, job.grid), job.where, source, job.grid)
        if where.digest != job.where.digest:
            return None
        return job if job.is_complete() or not job.files.has_stage() else Job.open(folder.path, model=self.model)

    def _merged_as_asked(self, folder: Path) -> bool:
        try:
            merge = own_record(folder)["merge"]
            kept = ObjectFilter(**merge["filter"])
            before = (merge["rule"], merge["min_iou"], merge["connectivity"])
        except (KeyError, TypeError, ValueError):
            return False
        asked = self.asked
        threshold = DEFAULT_MIN_IOU.get(asked.merge, 0.0) if asked.min_iou is None else float(asked.min_iou)
        wanted = (asked.merge, threshold, asked.connectivity)
        return before == wanted and kept == (asked.filter or ObjectFilter())
