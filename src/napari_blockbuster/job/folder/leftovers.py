"""Files that killed processes left in a job folder."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from napari_blockbuster.machine.files import discard
from napari_blockbuster.machine.ownership import PRIVATE, Owner

from .files import JobFiles

__all__ = ["is_leftover", "sweep"]


def is_leftover(files: JobFiles, path: Path) -> bool:
    """Return whether a crash while a job was made or replaced can have left this file."""
    if path in files.lives():
        # Earlier versions kept the model of a second try in a file of its own.
        tries = {each.name for each in (files.again_new, files.again_before, files.again_tried)} | {"model.json"}
        children = {child.name for child in path.iterdir() if not child.name.startswith(".")}
        return not children or not children.isdisjoint({"tiles", "labels"}) or children <= tries
    if path in files.locks or (path in files.content and path != files.settings):
        return True
    return path.name.startswith(".") and path.name.endswith((".tmp", ".deleted", PRIVATE))


def sweep(files: JobFiles, owner: Owner, alive: Collection[Path]) -> None:
    """Delete half-written and half-deleted files, and lives other than those that are alive. Call it with the lock."""
    dead = [life for life in files.lives() if life not in alive and is_leftover(files, life)]
    leftovers = [*files.path.glob(".*.tmp"), *files.path.glob(".*.deleted")]
    # After the look: what is in it is not of the next owner, also if this process is asleep from here on.
    owner.check()
    for life in dead:
        discard(life)
    for leftover in leftovers:
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
