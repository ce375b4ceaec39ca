"""Put finished labels in their place, so that at every moment either the old or the new ones are complete on disk.

Labels are written next to their place in a *part*: a hidden folder whose name holds the token of the result::

    .<name>.<token>.part/labels       the new labels, until they are in place
    .<name>.<token>.part/labels.old   the old ones, while they make room on a disk that cannot swap two names

All renames are from or into the part. A process that takes the job over moves the part away (`take_back_part`), so that no
rename of the former owner succeeds after that.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from napari_blockbuster.machine.files import beside, discard
from napari_blockbuster.machine.system import exchange as _exchange

from .groups import refresh_consolidated, update_attributes, utf8
from .occupant import Occupant

__all__ = ["clear_parts", "part_of", "put_in_place", "restore_old", "take_back_part"]

LABELS, OLD = "labels", ".old"


# ---------------------------------------------------------------------------------------------------------------- parts
def part_of(final: Path, token: str) -> Path:
    """Return the path at which labels are written before they are put in place; its parent is the part.

    Parameters
    ----------
    final : Path
    token : str
        Hexadecimal, drawn for this result.
    """
    return beside(final, f".{token[:8]}.part") / LABELS


def take_back_part(final: Path, token: str) -> None:
    """Delete the part of a process that must not put its labels in place any more. Its old labels are restored."""
    if re.fullmatch("[0-9a-f]{8,}", token):
        _discard_part(part_of(final, token).parent, final)


def clear_parts(final: Path, check: Callable[[], None]) -> None:
    """Delete what interrupted writes left: nothing records which of their blocks are complete.

    Parameters
    ----------
    final : Path
    check : callable
        Raises if this process does not own the job any more. Called between the look and the deletion: what was there before
        is not of the next owner, also if this process is asleep after the check.
    """
    parts = _parts(final)
    check()
    for part in parts:
        _discard_part(part, final)


def _parts(final: Path) -> list[Path]:
    if not final.parent.is_dir():
        return []
    token = "?" * 8
    start = beside(final, f".{token}.part").name.removesuffix(f"{token}.part")
    return sorted(final.parent.glob(f"{glob.escape(start)}{token}.part"))


def _discard_part(part: Path, final: Path) -> None:
    # Its writer may just be moving the old labels into it: none can after this.
    mine = part_of(final, uuid.uuid4().hex).parent
    try:
        os.rename(part, mine)
    except FileNotFoundError:
        return
    _restore(mine / f"{LABELS}{OLD}", final)
    discard(mine)


def _restore(old: Path, final: Path) -> None:
    if os.path.lexists(old) and not os.path.lexists(final):
        try:
            os.rename(old, final)
        except OSError:
            # Another process has just restored it, or put something there.
            if os.path.lexists(old) and not os.path.lexists(final):
                raise


# --------------------------------------------------------------------------------------------------------------- placing


def put_in_place(temporary: Path, final: Path, overwrite: bool | Occupant) -> None:
    """Move finished labels to their final path. Either the old or the new result is complete on disk at any moment.

    Parameters
    ----------
    temporary, final : Path
        `temporary` is from `part_of`.
    overwrite : bool or Occupant
        What may be replaced at `final`: False nothing, True whatever is there now, an `Occupant` only that.

    Raises
    ------
    FileExistsError
        If something else is there. It is not changed.
    """
    restore_old(final)
    there = Occupant.of(final)
    expected = overwrite if isinstance(overwrite, Occupant) else there if overwrite else Occupant()
    if not there.is_nothing and there != expected:
        raise _taken(final, overwrite)
    old = temporary.with_name(f"{temporary.name}{OLD}")
    if there.is_nothing:
        _rename_to_free(temporary, final, overwrite)
    elif _exchange(temporary, final):
        if Occupant.of(temporary) != expected:
            # It appeared between the look and the swap.
            _swap_back(temporary, final)
            raise _taken(final, overwrite)
        _remove(temporary)
    else:
        _replace_in_two_steps(temporary, final, old, expected)
    if final.parent.name == "labels":
        _register(final)


def restore_old(final: Path) -> None:
    """Restore an output that a process had moved aside when it was killed."""
    if os.path.lexists(final):
        return
    # The first one is of version 0.1.
    for old in (beside(final, OLD), *(part / f"{LABELS}{OLD}" for part in _parts(final))):
        _restore(old, final)


def _taken(final: Path, overwrite: bool | Occupant) -> FileExistsError:
    if overwrite is False or overwrite == Occupant():
        return FileExistsError(f"{final} exists. Pass overwrite=True (--overwrite) to replace it")
    return FileExistsError(
        f"{final} is not what overwrite=True was meant for, because it changed in the meantime. It was not replaced."
    )


def _rename_to_free(temporary: Path, final: Path, overwrite: bool | Occupant) -> None:
    try:
        os.rename(temporary, final)
    except OSError as error:
        if os.path.lexists(final):
            raise _taken(final, overwrite) from error
        raise


def _swap_back(temporary: Path, final: Path) -> None:
    """Undo a swap. Files of others never stay under the temporary name, where they would be deleted."""
    if not _exchange(temporary, final):
        os.rename(temporary, final.with_name(f"{final.name}.found-{os.urandom(4).hex()}"))


def _replace_in_two_steps(temporary: Path, final: Path, old: Path, expected: Occupant) -> None:
    """Replace labels on a file system that cannot swap two names."""
    os.rename(final, old)
    if Occupant.of(old) != expected:
        os.rename(old, final)
        raise _taken(final, expected)
    try:
        os.rename(temporary, final)
    except OSError as error:
        if os.path.lexists(final):
            # Another process restored the old output between the two steps.
            raise _taken(final, expected) from error
        os.rename(old, final)
        raise
    # The old output stays complete under its other name if this process is killed.
    os.rename(old, temporary)
    _remove(temporary)


def _remove(path: Path) -> None:
    """Remove a folder, or a link to one (never its target)."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _register(labels: Path) -> None:
    """List the labels in the ``labels`` group of their OME-Zarr image, as the specification requires."""
    import zarr

    image = labels.parent.parent
    if not (image / "zarr.json").exists() and not (image / ".zgroup").exists():
        return
    # In the format of the image, so that its readers find the list.
    zarr_format: Literal[2, 3] = 3 if (image / "zarr.json").exists() else 2
    group = zarr.open_group(str(labels.parent), mode="a", zarr_format=zarr_format, use_consolidated=False)
    known: dict[str, Any] = dict(group.attrs.asdict())
    holder = known.get("ome", {}) if zarr_format == 3 else known
    names = [*holder.get("labels", [])]
    if utf8(labels.name) not in names:
        names.append(utf8(labels.name))
        listed = {"labels": names}
        changed = {"ome": {"version": "0.5", **holder, **listed}} if zarr_format == 3 else listed
        update_attributes(labels.parent, changed)
    if stale := refresh_consolidated(labels):
        warnings.warn(
            f"The labels are at {labels}, but the consolidated metadata in {', '.join(map(str, stale))} cannot be updated. "
            "Programs that read the consolidated metadata do not show them. Consolidate the image's metadata again.",
            stacklevel=2,
        )
