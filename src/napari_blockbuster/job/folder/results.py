"""Records of the results that a job wrote, and how a job recognizes them.

Each result has a token of its own, in the attributes of the OME-Zarr and in a record in the job folder. A job may write several
results, each with its record::

    result.json           the result at the job's own output
    results/<name>.json   results elsewhere, one file for each path
    placing.json          a result that is being written (`napari_blockbuster.job.folder.placing`), until its record is there
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from napari_blockbuster.machine.ownership import Owner
from napari_blockbuster.output.groups import KEY
from napari_blockbuster.output.place import restore_old
from napari_blockbuster.output.result import job_folder

from .files import JobFiles
from .job_folder import JobFolder
from .lock import is_held

__all__ = [
    "is_recorded",
    "missing_in_result",
    "other_records",
    "own_record",
    "placed",
    "record_of",
    "restore_output",
    "result_token",
    "token_of",
    "where_of_result",
    "wrote",
]


# ------------------------------------------------------------------------------------------------------------- writing
def restore_output(target: Path) -> None:
    """Restore an output that a process had moved aside when it was killed.

    Not while a process holds the job: it may be between two steps of putting its own result in place.
    """
    if not is_held(JobFiles(job_folder(target)).lock, may_write=False):
        restore_old(target)


def placed(folder: Path, target: Path, provenance: dict[str, Any], owner: Owner) -> None:
    """Write the record of a result in place. It replaces the record of an earlier result at the same path."""
    path = _record_path(folder, target)
    path.parent.mkdir(exist_ok=True)
    owner.write(path, json.dumps({**provenance, "output": str(target)}, indent=2).encode())
    owner.remove(JobFolder(folder).placing)


def _record_path(folder: Path, target: Path) -> Path:
    job = JobFolder(folder)
    if JobFolder.beside(target) == job:
        return job.result
    return job.results / f"{hashlib.sha256(os.fsencode(target)).hexdigest()[:16]}.json"


# ------------------------------------------------------------------------------------------------------------- reading
def record_of(folder: Path, target: Path) -> dict[str, Any] | None:
    """Return the record of the labels at `target`; None if this job did not write them."""
    token = token_of(target)
    known = (own_record(folder), *other_records(folder)) if token else ()
    return next((record for record in known if record.get("result") == token), None)


def is_recorded(folder: Path, target: Path) -> bool:
    """Whether the labels at `target` are a result of this job."""
    return record_of(folder, target) is not None


def wrote(folder: Path, target: Path) -> bool:
    """Whether this job put the labels at `target` in place, and was killed before it wrote their record."""
    token, note = token_of(target), _read(JobFolder(folder).placing)
    return bool(token) and token in (note.get("result"), note.get("replaces"))


def own_record(folder: Path) -> dict[str, Any]:
    """Return the record of the last result at the job's own output; empty if there is none."""
    return _read(JobFolder(folder).result)


def other_records(folder: Path) -> list[dict[str, Any]]:
    """Return the records of results elsewhere. Damaged records are skipped."""
    return [record for path in sorted(JobFolder(folder).results.glob("*.json")) if (record := _read(path))]


def result_token(folder: Path) -> str:
    """Return the token of the last result at the job's own output; empty if there is none."""
    return str(own_record(folder).get("result", ""))


def missing_in_result(folder: Path, target: Path) -> list[int]:
    """Return the tiles that hold background in the labels at `target`."""
    with contextlib.suppress(KeyError, TypeError):
        tiles: list[int] = (record_of(folder, target) or {})["tiles"]["missing"]
        return tiles
    return []


def where_of_result(folder: Path, target: Path) -> str:
    """Return the digest of the region that the labels at `target` were written for; empty for the whole image."""
    with contextlib.suppress(KeyError, TypeError):
        return str((record_of(folder, target) or {})["where"]["digest"])
    return ""


def token_of(target: Path) -> str:
    """Return the token in the attributes of labels; empty if they have none."""
    for name in ("zarr.json", ".zattrs"):
        with contextlib.suppress(KeyError, TypeError, AttributeError):
            attributes = _read(target / name)
            return str(attributes.get("attributes", attributes)[KEY]["result"])
    return ""


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty if it cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(path.read_bytes())
        if isinstance(content, dict):
            return content
    return {}
