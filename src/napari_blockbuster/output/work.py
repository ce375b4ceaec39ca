"""Work on tiles and blocks while the merged labels are written."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_blockbuster.execution.work import Work
from napari_blockbuster.geometry.roi import Roi
from napari_blockbuster.machine.disk import damage_named
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.merge.region.inside import clipped
from napari_blockbuster.stage.labels import lookup
from napari_blockbuster.stage.regions.store import RegionStore
from napari_blockbuster.stage.store import StageStore

from .writer import LabelsWriter

__all__ = ["WriteBlockWork", "WriteTileWork"]


@dataclass
class WriteTileWork(Work[int]):
    """Relabel staged tiles and write them, with their share of the pyramid."""

    store: StageStore
    writer: LabelsWriter
    merged: Merge | None
    clip: Roi | None = None
    """Voxels outside of it become background."""
    ends_with_run = True

    @property
    def folder(self) -> Path:
        """The folder that workers must see."""
        return self.store.folder

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"merged": None}

    def ship(self, item: int) -> tuple[np.ndarray, bool, Any]:
        assert self.merged is not None
        return self.merged.table(item), self.merged.fills(item), None

    def ahead(self, item: int) -> tuple[np.ndarray, bool, Any]:
        table, with_holes, _ = self.ship(item)
        return table, with_holes, self._read(item, with_holes)

    def _read(self, item: int, with_holes: bool) -> Any:
        """Start reading the values that the table maps: labels, or labels and pieces of background."""
        tile = self.store.grid[item]
        return RegionStore(self.store).read(tile) if with_holes else self.store.read_labels(tile)

    def __call__(self, item: int, payload: tuple[np.ndarray, bool, Any]) -> Callable[[], int]:
        table, with_holes, reading = payload
        tile = self.store.grid[item]
        with damage_named(self.store.folder.parent):
            merged = lookup(table, (reading or self._read(item, with_holes)).result())
        pending = self.writer.write_tile(tile, clipped(merged, self.clip, tile.core))
        return functools.partial(_wait, pending, item)

    def lost(self, item: int, error: BaseException) -> int:
        raise error


@dataclass
class WriteBlockWork(Work[int]):
    """Write blocks of the pyramid's coarse levels, from the level below."""

    writer: LabelsWriter
    blocks: list[Any]
    ends_with_run = True

    def ahead(self, item: int) -> Any:
        return self.blocks[item]

    ship = ahead

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"blocks": []}

    def __call__(self, item: int, payload: Any) -> Callable[[], int]:
        self.writer.write_block(*payload)
        return lambda: item

    def lost(self, item: int, error: BaseException) -> int:
        raise error


def _wait(pending: Any, item: int) -> int:
    pending.result()
    return item
