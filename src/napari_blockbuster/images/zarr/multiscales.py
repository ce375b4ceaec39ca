"""Metadata of OME-Zarr images, versions 0.1 to 0.6: levels, axes, sizes, channels. Read leniently, never guessed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from napari_blockbuster.images.base import ImageReadError
from napari_blockbuster.images.metadata.axes import axes_of_names
from napari_blockbuster.images.metadata.sizes import Sizes, say

__all__ = ["LevelPlace", "Multiscale", "attributes_of_image", "channel_names", "multiscales_of"]

KNOWN = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6")


def attributes_of_image(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that OME-Zarr defines: at the top until 0.4, under ``ome`` since 0.5."""
    inner = attributes.get("ome")
    return dict(inner) if isinstance(inner, dict) else dict(attributes)


def multiscales_of(attributes: Mapping[str, Any], what: str) -> list[Multiscale]:
    """The images of a group; empty where there are none.

    Raises
    ------
    ImageReadError
        If the metadata is damaged, or of a version that is not known here.
    """
    said = attributes_of_image(attributes)
    entries = said.get("multiscales")
    if not entries:
        return []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ImageReadError(f"{what}: its multiscales metadata is damaged (no list of images)")
    return [_multiscale(entry, str(said.get("version") or entry.get("version") or ""), what) for entry in entries]


def channel_names(attributes: Mapping[str, Any]) -> list[str]:
    """Names of the channels, "" for one without; empty where the image names none."""
    omero = attributes_of_image(attributes).get("omero")
    channels = omero.get("channels") if isinstance(omero, dict) else None
    if not isinstance(channels, list):
        return []
    return [str(c.get("label") or "") if isinstance(c, dict) else "" for c in channels]


@dataclass(frozen=True)
class LevelPlace:
    """Size of a voxel and place of the first one, by axis, as stored."""

    scale: dict[str, Any] = field(default_factory=dict)
    translation: dict[str, float] = field(default_factory=dict)

    def moved(
        self, axes: str, sizes: Sizes, finest: Mapping[str, Any], factors: Mapping[str, float]
    ) -> tuple[float, ...] | None:
        """The translation in the units of `sizes`; None where there is none."""
        if not any(self.translation.get(a) for a in axes):
            return None
        result = []
        for axis, scale in zip(axes, sizes.scale, strict=True):
            value = self.translation.get(axis, 0.0)
            own = finest.get(axis)
            # What brought the size into another unit brings the place there.
            ratio = scale / factors.get(axis, 1.0) / own if isinstance(own, int | float) and own > 0 else 1.0
            result.append(value * ratio if math.isfinite(ratio) else value)
        return tuple(result)


@dataclass(frozen=True)
class Multiscale:
    """One image: its levels, the finest first.

    Attributes
    ----------
    paths : list of str
    axes : list of dict or None
        None where the version has none (0.1, 0.2).
    transforms : list of list
        For each level, what is applied to it in order: ``(kind, values)``.
    """

    paths: list[str]
    axes: list[dict[str, Any]] | None
    transforms: list[list[tuple[str, Any]]]

    def letters(self, ndim: int, what: str) -> str:
        """One letter for each axis.

        Raises
        ------
        ImageReadError
            If the metadata name other axes than an image has, or another number of them.
        """
        if self.axes is None:
            return "tczyx"[-ndim:]
        names = [a.get("name") for a in self.axes]
        kinds = [a.get("type") for a in self.axes]
        found = axes_of_names(names, kinds) if len(names) == ndim else None
        if found is None:
            told = ", ".join(f"{name} ({kind})" if kind else str(name) for name, kind in zip(names, kinds, strict=True))
            raise ImageReadError(
                f"{what} names the axes {told}, and its pixels have {ndim}: these are not those of an image. "
                f"Say which they are with axes= (--axes), as {'tczyx'[-ndim:]}"
            )
        return found

    def units(self, stored: str) -> dict[str, Any]:
        """Unit of each axis, as stored."""
        axes = self.axes if self.axes is not None and len(self.axes) == len(stored) else []
        return {letter: axis.get("unit") for letter, axis in zip(stored, axes, strict=False)}

    def place(self, level: int, stored: str, what: str) -> LevelPlace:
        """Size and place of a level's voxels: its own transformations, then those of the whole image."""
        scale: dict[str, Any] = {}
        translation: dict[str, float] = {}
        for kind, values in self.transforms[level]:
            by_axis = _by_axis(values, stored, kind, what)
            if by_axis is None:
                continue
            if kind == "scale":
                scale |= {a: _product(scale.get(a), v) for a, v in by_axis.items()}
                translation = {a: v * (_plain(by_axis.get(a)) or 1.0) for a, v in translation.items()}
            else:
                translation |= {a: translation.get(a, 0.0) + (_plain(v) or 0.0) for a, v in by_axis.items()}
        return LevelPlace(scale, translation)


def _plain(value: Any) -> float | None:
    """A finite number; None for anything else."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _product(before: Any, value: Any) -> Any:
    """A size after one more scale. What is no number is kept, to be reported as it stands."""
    first, second = _plain(before), _plain(value)
    return value if before is None or first is None or second is None else first * second


def _by_axis(values: Any, stored: str, kind: str, what: str) -> dict[str, Any] | None:
    """Numbers of a transformation by axis; None where they cannot be used."""
    if not isinstance(values, list):
        say(f"{what}: a {kind} of its coordinateTransformations is no list of numbers ({values!r:.60}). It is ignored")
        return None
    if len(values) == len(stored):
        return dict(zip(stored, values, strict=True))
    space = [a for a in stored if a in "zyx"]
    if len(values) == len(space):
        say(
            f"{what}: a {kind} has {len(values)} numbers {values} for {len(stored)} axes ({stored}). "
            f"They are taken for {', '.join(space)}"
        )
        return dict(zip(space, values, strict=True))
    say(f"{what}: a {kind} has {len(values)} numbers {values} for {len(stored)} axes ({stored}). It is ignored")
    return None


# ------------------------------------------------------------------------------------------------------------- parsing
def _multiscale(entry: dict[str, Any], version: str, what: str) -> Multiscale:
    plain = version.partition("-")[0]
    known = next((v for v in KNOWN if plain == v or plain.startswith(f"{v}.")), None)
    if known is None and version:
        raise ImageReadError(f"{what} is OME-Zarr {version}. Versions {KNOWN[0]} to {KNOWN[-1]} can be read")
    datasets = entry.get("datasets")
    if not isinstance(datasets, list) or not datasets or not all(_has_path(d) for d in datasets):
        raise ImageReadError(f"{what}: its multiscales metadata is damaged (no datasets with a path)")
    paths = [str(dataset["path"]) for dataset in datasets]
    if known == "0.6" or "coordinateSystems" in entry:
        return _version_06(entry, datasets, paths, what)
    common = _simple(entry.get("coordinateTransformations"))
    transforms = [_simple(dataset.get("coordinateTransformations")) + common for dataset in datasets]
    return Multiscale(paths, _axes(entry.get("axes")), transforms)


def _has_path(dataset: Any) -> bool:
    return isinstance(dataset, dict) and isinstance(dataset.get("path"), str | int)


def _axes(axes: Any) -> list[dict[str, Any]] | None:
    if not isinstance(axes, list) or not axes:
        return None
    return [axis if isinstance(axis, dict) else {"name": axis} for axis in axes]


def _simple(steps: Any) -> list[tuple[str, Any]]:
    """Scales and translations of versions 0.4 and 0.5."""
    found = []
    for step in steps if isinstance(steps, list) else []:
        kind = step.get("type") if isinstance(step, dict) else None
        if kind in ("scale", "translation"):
            found.append((str(kind), step.get(kind)))
    return found


def _version_06(entry: dict[str, Any], datasets: Sequence[dict[str, Any]], paths: list[str], what: str) -> Multiscale:
    systems = {s.get("name"): s for s in entry.get("coordinateSystems") or [] if isinstance(s, dict)}
    transforms, outputs = [], []
    for dataset in datasets:
        steps = dataset.get("coordinateTransformations") or []
        if len(steps) != 1:
            raise ImageReadError(
                f"{what} is OME-Zarr 0.6 with {len(steps)} transformations of one level, where one is meant. "
                "It cannot be read"
            )
        outputs.append(_name_of_system(steps[0].get("output")))
        transforms.append(_steps_06(steps[0], what))
    if len(set(outputs)) != 1 or outputs[0] not in systems:
        raise ImageReadError(f"{what} is OME-Zarr 0.6 whose levels do not share one coordinate system: {outputs}")
    return Multiscale(paths, _axes(systems[outputs[0]].get("axes")), transforms)


def _name_of_system(output: Any) -> Any:
    return output.get("name") if isinstance(output, dict) else output


def _steps_06(step: Mapping[str, Any], what: str) -> list[tuple[str, Any]]:
    kind = step.get("type")
    if kind == "identity":
        return []
    if kind in ("scale", "translation") and isinstance(step.get(str(kind)), list):
        return [(str(kind), step[str(kind)])]
    if kind == "sequence":
        return [found for inner in step.get("transformations") or [] for found in _steps_06(inner, what)]
    raise ImageReadError(
        f"{what} is OME-Zarr 0.6 with a transformation of type {kind!r}. Only scale, translation, identity and "
        "sequences of these can be read"
    )
