"""Zarr groups on disk: their attributes, and the consolidated metadata that some stores keep of all groups and arrays."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from napari_blockbuster.machine.files import write_atomically

__all__ = ["KEY", "plain_text", "refresh_consolidated", "update_attributes", "utf8"]

KEY = "napari-blockbuster"
"""The attribute with the provenance of a result."""


def update_attributes(group: Path, changes: dict[str, Any]) -> None:
    """Add attributes to a group of zarr version 2 or 3. Other attributes stay.

    The file is replaced as a whole, so that a reader sees the old attributes or the new ones.
    """
    v3 = group / "zarr.json"
    if v3.exists():
        document = json.loads(v3.read_bytes())
        document["attributes"] = {**document.get("attributes", {}), **changes}
        _write(v3, document)
        return
    v2 = group / ".zattrs"
    known = json.loads(v2.read_bytes()) if v2.exists() else {}
    _write(v2, {**known, **changes})


def refresh_consolidated(folder: Path) -> list[Path]:
    """Update the consolidated metadata of all groups around a folder with the content of the folder.

    Parameters
    ----------
    folder : Path
        A group or array that was written, replaced or changed.

    Returns
    -------
    list of Path
        Files with consolidated metadata that could not be written. Readers that use them do not see the folder.
    """
    stale = []
    for group in _groups_around(folder):
        for name, refresh in (("zarr.json", _refreshed_v3), (".zmetadata", _refreshed_v2)):
            path = group / name
            try:
                document = json.loads(path.read_bytes())
                if refresh(document, group, folder):
                    _write(path, document)
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                stale.append(path)
    return stale


def _groups_around(folder: Path) -> list[Path]:
    """Return the groups that contain a folder, innermost first."""
    found = []
    for parent in folder.parents:
        if not (parent / "zarr.json").exists() and not (parent / ".zgroup").exists():
            break
        found.append(parent)
    return found


def _refreshed_v3(document: dict[str, Any], group: Path, folder: Path) -> bool:
    held = document.get("consolidated_metadata")
    if not held:
        return False
    entries = _without(held["metadata"], _key(group, folder))
    for path in _documents(folder, group, "zarr.json"):
        entry = json.loads(path.read_bytes())
        if entry.get("node_type") == "group":
            # Nested groups are part of this list, and zarr-python expects an entry that says so.
            entry["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": {}}
        entries[_key(group, path.parent)] = entry
    held["metadata"] = _in_order(entries)
    return True


def _refreshed_v2(document: dict[str, Any], group: Path, folder: Path) -> bool:
    entries = _without(document["metadata"], _key(group, folder))
    for name in (".zgroup", ".zarray", ".zattrs"):
        for path in _documents(folder, group, name):
            entry = json.loads(path.read_bytes())
            if name == ".zgroup":
                # As zarr-python writes it: groups in groups are not found without.
                entry["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": {}}
            entries[f"{_key(group, path.parent)}/{name}"] = entry
    document["metadata"] = _in_order(entries)
    return True


def _in_order(entries: dict[str, Any]) -> dict[str, Any]:
    """Return entries with the content of each group together: zarr-python loses members that are listed apart."""
    return dict(sorted(entries.items(), key=lambda item: (item[0].count("/"), item[0])))


def _documents(folder: Path, group: Path, name: str) -> list[Path]:
    """Return the metadata files of one name in a label image, in its levels, and in the groups up to `group`."""
    above = [p for p in folder.parents if p.is_relative_to(group) and p != group]
    candidates = [p / name for p in (folder, *above)]
    # The levels of labels hold no groups, but many chunks. The groups of a table are nested.
    inside = folder.rglob(name) if folder.parent.name == "tables" else folder.glob(f"*/{name}")
    return list(dict.fromkeys([*(p for p in candidates if p.exists()), *sorted(inside)]))


def _without(entries: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the entries without those of a folder and its former content."""
    return {k: v for k, v in entries.items() if k != key and not k.startswith(f"{key}/")}


def _key(group: Path, path: Path) -> str:
    return utf8(path.relative_to(group).as_posix())


def _write(path: Path, document: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(document, indent=2).encode())


# --------------------------------------------------------------------------------------------------------------- text
def utf8(text: str) -> str:
    """Return text that every reader of JSON takes: bytes of a file name that are not UTF-8 become a replacement character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text).decode("utf-8", "replace") if os.name == "posix" else ascii(text)[1:-1]
    return text


def plain_text(value: Any) -> Any:
    """Return attributes whose text is all `utf8`."""
    if isinstance(value, str):
        return utf8(value)
    if isinstance(value, dict):
        return {utf8(str(key)): plain_text(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_text(inner) for inner in value]
    return value
