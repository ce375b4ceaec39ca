"""Per-tile records: the staged marker, or the reason for failure."""

from __future__ import annotations

import json
import os
import re
import socket
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from napari_blockbuster.machine.files import read_checked

from .first_layout import first_marker
from .tile_file import TileFile

__all__ = [
    "SHARD",
    "STAGE",
    "TileFailure",
    "TileRecord",
    "in_shards",
    "life_of",
    "marker_name",
    "name_in_life",
    "read_failure",
    "read_record",
    "record_in",
    "shard_of",
]

STAGE = "stage"
"""Name of the folder of the staged tiles in a job folder, without the life of the job."""
_LIFE = re.compile(r"[0-9a-f]{12}$")


def name_in_life(name: str, life: str) -> str:
    """Return the name of a folder that belongs to one life of a job, and to no other.

    Parameters
    ----------
    name : str
    life : str
        The token that was drawn when the job was made. Jobs of version 0.1 have none.
    """
    return f"{name}-{life}" if life else name


def life_of(settings: Path) -> str:
    """Return the life of the job with this settings file; empty for jobs of version 0.1, or if it cannot be read."""
    try:
        life = str(json.loads(settings.read_bytes()).get("life", ""))
    except (OSError, ValueError, AttributeError):
        return ""
    return life if _LIFE.match(life) else ""


@dataclass(frozen=True)
class TileRecord:
    """Content of the marker of a staged tile.

    Attributes
    ----------
    index : int
    n_objects : int
        Objects with at least one voxel in the core; their ids are 1..n_objects.
    model_seconds, seconds : float
        Wall time inside the model, and of the whole tile.
    host, pid : str, int
        Where the model ran.
    staged_at : float
        Seconds since the epoch.
    typical_size, n_whole : float, int
        Median voxels of the objects that no border of the read box inside the image cuts, and their number.
    bands : list of str
        Bands of the tile, as ``"axis/side"``.
    objects_crc32 : int
        Checksum of the table of objects.
    turn_seconds : float
        Wall time in which the tile had the model, or the device, to itself.
    read_seconds, write_seconds : float
        Wall time of reading the pixels, and of writing the labels. Both happen while the model computes on other tiles.
    read_wait, write_wait, other_wait : float
        Seconds that the model was idle before this tile (see `napari_blockbuster.execution.turns.Turn`).
    network_tiles : int
        Network tiles of which the model computed this tile; 0 if it does not count them.
    gpu_busy : float
        Part of the time in which the GPU computed, as its driver says; negative if unknown.
    """

    index: int
    n_objects: int
    typical_size: float = 0.0
    n_whole: int = 0
    model_seconds: float = 0.0
    seconds: float = 0.0
    host: str = ""
    pid: int = 0
    staged_at: float = 0.0
    bands: list[str] = field(default_factory=list)
    objects_crc32: int = 0
    turn_seconds: float = 0.0
    read_seconds: float = 0.0
    write_seconds: float = 0.0
    read_wait: float = 0.0
    write_wait: float = 0.0
    other_wait: float = 0.0
    network_tiles: int = 0
    gpu_busy: float = -1.0


@dataclass(frozen=True)
class TileFailure:
    """Reason why a tile could not be staged."""

    index: int
    error: str
    message: str
    traceback: str = ""
    host: str = ""
    pid: int = 0
    failed_at: float = 0.0

    @classmethod
    def of(cls, index: int, error: BaseException) -> TileFailure:
        """Return the record of an exception, with its traceback as text."""
        text = "".join(traceback.format_exception(error))
        return cls(index, type(error).__name__, str(error), text, socket.gethostname(), os.getpid(), time.time())


SHARD = 1000
"""Tiles whose files share a folder: many files in one folder slow down some disks."""


def in_shards(folder: Path | str, index: int, suffix: str) -> str:
    """Return the name of a tile's file of one kind, such as ``tiles/3000-3999/3141.tile``.

    It is text, because a tile looks for the files of all its neighbors, and making a path takes longer than that.
    """
    return f"{folder}/{shard_of(index)}/{index}.{suffix}"


def shard_of(index: int) -> str:
    """Return the name of the folder that a tile shares with its neighbors in number."""
    first = index // SHARD * SHARD
    return f"{first}-{first + SHARD - 1}"


def marker_name(stage: Path, index: int) -> str:
    """Return the name of the file that makes a tile staged (see `napari_blockbuster.stage.records.tile_file`)."""
    return in_shards(f"{stage}/tiles", index, "tile")


def read_record(stage: Path, index: int) -> TileRecord:
    """Return the record of a staged tile.

    Raises
    ------
    FileNotFoundError
        If the tile is not staged.
    ValueError
        If the record is damaged.
    """
    try:
        return record_in(TileFile(marker_name(stage, index)))
    except FileNotFoundError:
        if not os.path.exists(old := first_marker(stage, index)):
            raise
    return _record(TileRecord, read_checked(Path(old)), old)


def record_in(file: TileFile) -> TileRecord:
    """Return the record in a tile's file."""
    return _record(TileRecord, file.record, file.name)


def read_failure(path: Path) -> TileFailure:
    """Read the reason why a tile failed.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    return _record(TileFailure, read_checked(path), str(path))


R = TypeVar("R", TileRecord, TileFailure)


def _record(kind: type[R], values: dict[str, Any], name: str) -> R:
    try:
        return kind(**values)
    except TypeError:
        raise ValueError(f"{name} is damaged: it is not a {kind.__name__}") from None
