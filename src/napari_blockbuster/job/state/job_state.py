"""The parts of a job and their state: what is staged, what is written, and the control of the running step."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.images import ImageSource
from napari_blockbuster.job.folder import results
from napari_blockbuster.job.folder.job_folder import JobFolder, naming_deletion
from napari_blockbuster.job.folder.settings import JobSpec
from napari_blockbuster.job.folder.where import Where
from napari_blockbuster.models import Model
from napari_blockbuster.stage.records.records import TileFailure
from napari_blockbuster.stage.store import StageStore
from napari_blockbuster.stage.tables.label_table import LabelTable

from .control import Control
from .inputs import Inputs
from .tiles import Tiles

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["JobState"]


class JobState:
    """The parts of a job.

    Attributes
    ----------
    files : JobFolder
        The names, the locks and the lifecycle of the job folder.
    inputs : Inputs
        Settings, image and model.
    tiles : Tiles
        The staged tiles and their tables.
    """

    def __init__(
        self,
        folder: JobFolder,
        spec: JobSpec,
        source: ImageSource | None,
        model: Model | None,
        others: ImageSource | None = None,
    ) -> None:
        self.files = folder
        self.inputs = Inputs(spec, source, model, others)
        self.tiles = Tiles(folder.stage, spec.grid.grid(), folder.load_where())
        self._control = Control()

    # ----------------------------------------------------------------------------------------------------------- parts
    @property
    def folder(self) -> Path:
        """The path of the job folder."""
        return self.files.path

    @property
    def spec(self) -> JobSpec:
        """The settings in ``job.json``."""
        return self.inputs.spec

    @property
    def source(self) -> ImageSource | None:
        """The image. Without it, a job can be merged and written, but not staged."""
        return self.inputs.source

    @property
    def model(self) -> Model | None:
        """The prepared model; None for a job opened without its function."""
        return self.inputs.model

    @property
    def grid(self) -> TileGrid:
        """The grid of tiles."""
        return self.tiles.grid

    @property
    def store(self) -> StageStore:
        """The stage on disk."""
        return self.tiles.store

    @property
    def where(self) -> Where:
        """Where the job segments."""
        return self.tiles.where

    @property
    def n_tiles(self) -> int:
        """Number of tiles of the whole image, staged or not."""
        return len(self.tiles)

    @property
    def n_chosen(self) -> int:
        """Number of tiles that a complete run segments, staged or not. The others are skipped."""
        return self.tiles.n_chosen

    # ----------------------------------------------------------------------------------------------------------- state
    def staged(self) -> set[int]:
        """Return the tiles whose labels are on disk."""
        with naming_deletion(self.files):
            return self.tiles.staged()

    def failed(self) -> dict[int, TileFailure]:
        """Return the tiles without labels, and the reason for each."""
        with naming_deletion(self.files):
            return self.tiles.failed()

    def wrote_output(self) -> bool:
        """Whether the labels at the job's output are a result of this job, and not something else."""
        return results.is_recorded(self.folder, Path(self.spec.output))

    def is_complete(self) -> bool:
        """Whether the output is a result of this job with every tile of its region in it."""
        target = Path(self.spec.output)
        if not self.wrote_output() or results.missing_in_result(self.folder, target):
            return False
        return results.where_of_result(self.folder, target) == self.where.digest

    def labels_table(self) -> LabelTable:
        """Return the table of labels in the tiles staged so far: how many in each tile, and how large."""
        with naming_deletion(self.files):
            return self.tiles.labels_table()

    def evidence(self, client: Client | None = None) -> np.ndarray:
        """Return the evidence of the tiles staged so far; see `Tiles.evidence`."""
        with naming_deletion(self.files):
            return self.tiles.evidence(client)

    # --------------------------------------------------------------------------------------------------------- control
    def cancel(self) -> None:
        """Stop staging, or the search for holes, after the tiles that run now. Thread-safe.

        Finished work is kept. Repeat the call to resume.
        """
        self._control.canceled.set()

    def prefer(self, tiles: Iterable[int]) -> None:
        """Run these tiles next, for example those in view. Thread-safe; no effect while nothing is staged."""
        self._control.prefer(tiles)

    def taken(self) -> set[int]:
        """Return the tiles that the running `stage` sent to a worker, those that landed included. Thread-safe."""
        return self._control.taken()

    def sent(self, start: int) -> list[int]:
        """Return the tiles in the order in which they were sent to workers, without the first `start`. Thread-safe."""
        return self._control.sent(start)
