"""Consolidated metadata of an image that labels were added to: readers that trust it must find the labels."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

__all__ = ["refresh_consolidated"]


def refresh_consolidated(group: Path) -> None:
    """Consolidate the metadata of a group again, if they are consolidated. Arrays and attributes stay as they are."""
    import zarr

    if not _is_consolidated(group):
        return
    try:
        with warnings.catch_warnings():
            # Version 3 warns that this is no part of its specification; the image's owner knew.
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(str(group))
    except (OSError, ValueError) as error:
        warnings.warn(
            f"The labels are written, but the consolidated metadata of {group} could not be updated ({error}). "
            "Run zarr.consolidate_metadata on it",
            stacklevel=2,
        )


def _is_consolidated(group: Path) -> bool:
    if (group / ".zmetadata").exists():
        return True
    try:
        return bool(json.loads((group / "zarr.json").read_bytes()).get("consolidated_metadata"))
    except (OSError, ValueError):
        return False
