"""Scenes: the images that one file or folder holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from napari_blockbuster.machine.units import shape_text

__all__ = ["Scene", "pick_scene"]


@dataclass(frozen=True)
class Scene:
    """One image of several in a file.

    Attributes
    ----------
    name : str
        As the file names it; may be empty.
    shape : tuple of int or None
        As stored, channels included; None where finding out would mean opening it.
    """

    name: str
    shape: tuple[int, ...] | None = None

    def __str__(self) -> str:
        size = shape_text(self.shape) if self.shape else ""
        return ", ".join(part for part in (self.name, size) if part)


def listed(scenes: Sequence[Scene], most: int = 12) -> str:
    """Numbers and names, for messages."""
    parts = [f"{i} ({scene})" if str(scene) not in ("", str(i)) else str(i) for i, scene in enumerate(scenes[:most])]
    return ", ".join(parts) + (f" and {len(scenes) - most} more" if len(scenes) > most else "")


def pick_scene(scenes: Sequence[Scene], scene: int | str | None, what: str, default: int | None = 0) -> int:
    """The index of a scene that the user named or numbered.

    Parameters
    ----------
    scenes : sequence of Scene
    scene : int, str or None
    what : str
        Name of the image for messages.
    default : int or None
        Scene where the user says nothing; None: the user must say.

    Raises
    ------
    ValueError
        If there is no such scene, or if none was given and none is obvious. The message lists the scenes.
    """
    if scene is None:
        if default is not None:
            return default
        raise ValueError(f"{what} holds {len(scenes)} images. Choose one with scene= (--scene): {listed(scenes)}")
    names = [s.name for s in scenes]
    if isinstance(scene, str) and scene in names:
        if names.count(scene) > 1:
            raise ValueError(f"{what} has several scenes called {scene!r}. Choose by number: {listed(scenes)}")
        return names.index(scene)
    index = int(scene) if str(scene).isdecimal() else -1
    if not 0 <= index < len(scenes):
        raise ValueError(f"there is no scene {scene!r} in {what}. Its scenes are {listed(scenes)}")
    return index
