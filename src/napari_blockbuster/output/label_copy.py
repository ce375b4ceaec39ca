"""Write a label image that can be read box by box as OME-Zarr, tile by tile."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_blockbuster.execution.queue import TileQueue
from napari_blockbuster.execution.run import run
from napari_blockbuster.execution.work import Work
from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.images import ImageSource

from .groups import KEY
from .occupant import Occupant
from .place import part_of, put_in_place, take_back_part
from .work import WriteBlockWork
from .writer import LabelsWriter

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["check_target", "write_label_image"]


@dataclass
class _CopyWork(Work[int]):
    """Read tiles of a label image and write them, with their share of the pyramid."""

    writer: LabelsWriter
    source: ImageSource
    dtype: Any
    ends_with_run = True

    @property
    def folder(self) -> Path:
        return self.writer.path

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"source": self.source if self.source.shippable else None}

    def ahead(self, item: int) -> Callable[[], np.ndarray]:
        return functools.partial(self.source.read, self.writer.grid[item].core)

    def ship(self, item: int) -> Callable[[], np.ndarray] | None:
        return None if self.source.shippable else self.source.part(self.writer.grid[item].core).read

    def prepare(self, item: int, payload: Callable[[], np.ndarray] | None) -> np.ndarray:
        read = payload or self.ahead(item)
        return read().astype(self.dtype, copy=False)

    def __call__(self, item: int, prepared: np.ndarray) -> Callable[[], int]:
        if not prepared.any():
            return lambda: item
        pending = self.writer.write_tile(self.writer.grid[item], prepared)

        def finish() -> int:
            pending.result()
            return item

        return finish

    def lost(self, item: int, error: BaseException) -> int:
        raise error


def check_target(target: Path, source: ImageSource, overwrite: bool) -> Occupant:
    """Return what may be replaced at a path.

    Raises
    ------
    FileExistsError
        If something is there and `overwrite` is false.
    ValueError
        If it is the image itself.
    """
    if source.aliases(target):
        raise ValueError(f"The output {target} is one of the images. Choose another path, output= (-o).")
    there = Occupant.of(target)
    if not there.is_nothing and not overwrite:
        raise FileExistsError(f"{target} exists. Pass overwrite=True (--overwrite) to replace it.")
    return there


def write_label_image(
    source: ImageSource,
    target: Path,
    grid: TileGrid,
    *,
    dtype: Any,
    replaced: Occupant,
    provenance: dict[str, Any],
    version: str = "0.5",
    client: Client | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a label image next to its place, then put it in place.

    Parameters
    ----------
    source : ImageSource
    target : Path
    grid : TileGrid
        Tiles that are read and written at a time.
    dtype : numpy dtype
        uint32 or uint64.
    replaced : Occupant
        From `check_target`.
    provenance : dict
        For the attributes of the OME-Zarr.
    version : {"0.5", "0.4"}
    client : distributed.Client, optional
    progress : callable, optional
        Called with the tiles done and the number of tiles.

    Raises
    ------
    FileExistsError
        If something else appeared at the path.
    StoreError
        If the disk is full, read-only or gone.
    """
    token = uuid.uuid4().hex
    temporary = part_of(target, token)
    try:
        writer = LabelsWriter.create(
            temporary,
            grid=grid,
            dtype=dtype,
            axes=source.axes,
            scale=source.scale,
            units=source.units,
            translation=source.translation,
            name=target.name.removesuffix(".ome.zarr"),
            version=version,
        )
        done = 0
        for item in run(_CopyWork(writer, source, np.dtype(dtype)), TileQueue(range(len(grid))), client):
            done += item is not None
            if progress is not None:
                progress(done, len(grid))
        for blocks in writer.passes():
            for _ in run(WriteBlockWork(writer, blocks), TileQueue(range(len(blocks))), client):
                pass
        writer.finish({KEY: {"result": token, **provenance}})
        put_in_place(temporary, target, replaced)
    finally:
        take_back_part(target, token)
    return target
