"""The result that a job wrote before it was opened, and whether the current merge is the written one. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from napari_blockbuster.job.folder.results import record_of
from napari_blockbuster.job.job import Job
from napari_blockbuster.job.steps.publication import is_merge_of_record
from napari_blockbuster.output.result import StagedMerge

__all__ = ["EarlierResult"]


@dataclass(frozen=True)
class EarlierResult:
    """Labels at the output of a job that this job wrote.

    Attributes
    ----------
    path : Path
    record : dict
        See `napari_blockbuster.job.folder.results`.
    """

    path: Path
    record: dict[str, Any]

    @classmethod
    def of(cls, job: Job) -> Self | None:
        """Return the result at the output of a job; None if there is none, or if something else wrote it."""
        path = Path(job.spec.output)
        record = record_of(job.folder, path)
        return None if record is None else cls(path, record)

    def is_of(self, merged: StagedMerge, job: Job) -> bool:
        """Return whether this is the result of a merge."""
        region = (self.record.get("where") or {}).get("digest", "")
        return region == job.tiles.where.digest and is_merge_of_record(merged, self.record)
