"""Where the labels of many images go."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_blockbuster.images import Collection, Member, list_scenes
from napari_blockbuster.images.places import is_remote, name_of
from napari_blockbuster.output.result import labels_name

__all__ = ["ALL", "Target", "targets_of"]

ALL = "all"
"""The scene that stands for each of them."""


@dataclass(frozen=True)
class Target:
    """One image, and where its labels go.

    Attributes
    ----------
    name : str
        For people, unique among the images of a batch.
    image : str
        Path or address.
    scene : int, str or None
    output : Path
        OME-Zarr of the labels.
    """

    name: str
    image: str
    scene: int | str | None
    output: Path


def targets_of(
    images: Collection, output: str | Path | None, name: str, scene: int | str | None = None
) -> list[Target]:
    """Decide where the labels of each image go: beside the image, in the fields of a plate, or in a folder.

    Parameters
    ----------
    images : Collection
    output : path or None
        Folder of the labels. None: ``<image>.labels.ome.zarr`` beside each image, ``labels/<name>`` in each field of a plate.
    name : str
        Name of the labels in the fields of a plate.
    scene : int, str or None
        ``"all"``: every image of every file.

    Raises
    ------
    ValueError
        If labels of two images would have one path, or an image on the web has no folder.
    """
    if Path(name).name != name or name in ("", ".", ".."):
        raise ValueError(f"the name of the labels is {name!r}. Give a plain name without slashes, such as cells")
    folder = None if output is None else Path(output).expanduser().absolute()
    if folder is not None and any((folder / marker).exists() for marker in ("zarr.json", ".zgroup", ".zarray")):
        raise ValueError(f"the output {folder} is an OME-Zarr. For many images, give a folder for their labels")
    found = [
        _target(member, chosen, label, folder, name)
        for member in images.members
        for chosen, label in _scenes(member, scene)
    ]
    return _distinct(found)


def _scenes(member: Member, scene: int | str | None) -> list[tuple[int | str | None, str]]:
    """The scenes of one file to segment, each with the text that distinguishes its labels from the others."""
    if scene != ALL:
        return [(scene, "")]
    try:
        found = list_scenes(member.path)
    except (OSError, ValueError, ImportError):
        # Opening it says why, and costs no other image.
        return [(None, "")]
    if len(found) < 2:
        return [(None, "")]
    names = [_plain(s.name) for s in found]
    return [(i, n if n and names.count(n) == 1 else str(i)) for i, n in enumerate(names)]


def _plain(name: str) -> str:
    """A scene's name as part of a file's name."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("._")[:80]


def _target(member: Member, scene: int | str | None, label: str, folder: Path | None, name: str) -> Target:
    shown = f"{member.name} [{label}]" if label else member.name
    extra = f".{label}" if label else ""
    if folder is not None:
        inside = Path(member.name)
        return Target(shown, member.path, scene, folder / inside.parent / labels_name(inside.name, extra))
    if is_remote(member.path):
        raise ValueError(f"{member.path} has no folder on this machine: say where the labels go, output= (-o)")
    path = Path(member.path)
    beside = path.with_name(labels_name(name_of(member.path), extra))
    return Target(shown, member.path, scene, path / "labels" / f"{name}{extra}" if member.in_plate else beside)


def _distinct(targets: Sequence[Target]) -> list[Target]:
    """Refuse two labels at one path: the second would replace the first."""
    taken: dict[Path, Target] = {}
    for target in targets:
        other = taken.setdefault(target.output, target)
        if other is not target:
            raise ValueError(
                f"the labels of {other.name} and {target.name} would both be {target.output}. Rename one of the images, or "
                "segment them in two calls with different outputs"
            )
    return list(targets)
