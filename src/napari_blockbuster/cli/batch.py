"""Segment many images from a terminal: a line for each, one summary, one exit code."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_blockbuster.machine.units import count_text

from .options import ImageOptions, ModelOptions, UsageError
from .run import Interrupted, RunOptions
from .terminal import print_rows
from .unexpected import UNEXPECTED, is_expected, write_log

if TYPE_CHECKING:
    from napari_blockbuster.images import Collection
    from napari_blockbuster.job.batch.report import ImageOutcome

__all__ = ["BatchOptions", "collection_of", "run_batch"]

SEVERAL = 10**6
"""Tiles that the workers of a batch are started for: nobody counts them before."""


@dataclass(frozen=True)
class BatchOptions:
    """Options of a batch besides those of each image.

    Attributes
    ----------
    output : Path or None
        Folder of the labels.
    name : str
        Name of the labels in the fields of a plate.
    table : Path or None
        CSV file with a row for each image. None: ``segmentation.csv`` in the folder of the labels, if there is one.
    """

    output: Path | None
    name: str
    table: Path | None

    @property
    def file(self) -> Path | None:
        """Where the table goes."""
        return self.table or (self.output / "segmentation.csv" if self.output is not None else None)


def collection_of(images: tuple[str, ...], part: ImageOptions) -> Collection | None:
    """Return the images that the arguments name if they are many: a folder, a pattern, a plate, all scenes of a file."""
    from napari_blockbuster.images import Collection, Member, find_images
    from napari_blockbuster.images.formats.planes import find_planes
    from napari_blockbuster.images.places import name_of

    if len(images) == 1 and part.axes is not None and find_planes(images[0], part.axes) is not None:
        return None
    found = find_images(images[0] if len(images) == 1 else images)
    if found is None and part.scene == "all":
        return Collection("list", images[0], (Member(name_of(images[0]), images[0]),))
    return found


def run_batch(
    found: Collection, model: ModelOptions, part: ImageOptions, run: RunOptions, many: BatchOptions, **sizes: Any
) -> int:
    """Segment the images of a collection and print a line for each. Return the exit code.

    Raises
    ------
    Interrupted
        On Ctrl-C or SIGTERM.
    """
    if run.detach:
        raise UsageError("--detach leaves one image to a driver. Leave it out, or give one image at a time")
    from napari_blockbuster.job.batch.report import BatchResult
    from napari_blockbuster.job.batch.run import Batch
    from napari_blockbuster.job.batch.targets import targets_of

    targets = targets_of(found, many.output, many.name, part.scene)
    options = {key: value for key, value in part.arguments().items() if key != "scene"}
    batch = Batch(targets, model.make(), run.finish(), {**options, **sizes}, run.workers.tile_timeout)
    outcomes: list[ImageOutcome] = []
    try:
        with run.workers.connect(SEVERAL) as client:
            for outcome in batch.run(client, progress=not run.output.quiet):
                outcomes.append(outcome)
                _report(outcome, len(outcomes), len(targets))
                _save(many.file, BatchResult(outcomes))
    except KeyboardInterrupt:
        done = f"{len(outcomes)} of {count_text(len(targets), 'image')} are done"
        raise Interrupted(f"{done}. To resume: run the same command again") from None
    result = BatchResult(outcomes)
    rows = [("images", result.summary())]
    if many.file is not None:
        rows.append(("table", str(many.file)))
    print_rows(rows)
    unexpected = any(o.error is not None and not is_expected(o.error) for o in outcomes)
    return UNEXPECTED if unexpected else result.exit_code


def _report(outcome: ImageOutcome, number: int, total: int) -> None:
    line = f"[{number}/{total}] {outcome.name}: {outcome.line}"
    if outcome.error is not None and not is_expected(outcome.error):
        line += f". Report this error with the log file {write_log(outcome.error, sys.argv[1:])}"
    print(line, file=sys.stderr if outcome.exit_code else sys.stdout, flush=True)


def _save(file: Path | None, result: Any) -> None:
    """Keep the table up to date: a run may be killed."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        result.save(file)
