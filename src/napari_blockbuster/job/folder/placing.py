"""The result that is being written: noted before its first byte, so that a process that takes the job over can take it back.

Labels are written next to their place, in a folder whose name only this attempt has (`napari_blockbuster.output.place`). A former
owner that continues finds that folder gone, and can neither put its labels in place nor move the present ones away.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from napari_blockbuster.machine.ownership import Owner
from napari_blockbuster.output.place import take_back_part

from .files import JobFiles

__all__ = ["note_result", "take_back"]


def note_result(folder: Path, token: str, target: Path, owner: Owner, replaces: str = "") -> None:
    """Record the result that is about to be written, and where. A run killed after placing it recognizes it by its token.

    Parameters
    ----------
    folder : Path
    token : str
        Of the new result.
    target : Path
    owner : Owner
    replaces : str, optional
        Token of a result of this job at the target that has no record, because its run was killed after placing it.
    """
    note = {"result": token, "target": os.fsencode(target).decode("utf-8", "surrogateescape"), "replaces": replaces}
    owner.write(JobFiles(folder).placing, json.dumps(note).encode())


def take_back(folder: Path) -> None:
    """Take back what a former owner of the job was writing. What it has put in place stays. Call it with the lock."""
    try:
        note = json.loads(JobFiles(folder).placing.read_bytes())
        token, target = str(note["result"]), Path(os.fsdecode(str(note["target"]).encode("utf-8", "surrogateescape")))
    except (OSError, ValueError, KeyError, TypeError):
        # None, or one of version 0.1.
        return
    take_back_part(target, token)
