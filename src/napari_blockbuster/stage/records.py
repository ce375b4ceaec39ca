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
from typing import TypeVar

from napari_blockbuster.machine.files import read_checked

__all__ = ["STAGE", "TileFailure", "TileRecord", "life_of", "marker_path", "name_in_life", "read_record"]

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
        Checksum of the table of objects. Labels and bands have their own checksums.
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


R = TypeVar("R", TileRecord, TileFailure)


def marker_path(stage: Path, index: int) -> Path:
    """Return the path of the marker that makes a tile staged; it holds the tile's `TileRecord`."""
    return stage / "tiles" / f"{index}.json"


def read_record(kind: type[R], path: Path) -> R:
    """Read a record.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    try:
        return kind(**read_checked(path))
    except TypeError:
        raise ValueError(f"{path} is damaged: it is not a {kind.__name__}") from None
