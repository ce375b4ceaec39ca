"""Settings of a job in one JSON file: the image, the tiles, the model, and the versions of packages.

The file holds no code, and opening it runs none.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError, model_validator

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.models.registry import settings_of_labels, upgraded_settings

__all__ = ["JobSpec", "Measured"]

FORMAT = 1
MOST_TILES = 10**8
"""A petavoxel in tiles of 200 voxels; a grid of more is a mistake."""
OF_EVERY_JOB = ("napari-blockbuster", "numpy")
"""Packages whose versions must not be mixed within a job, for any model."""


def _check_output(output: Any) -> str:
    if not isinstance(output, str) or not Path(output).name or "\0" in output:
        raise ValueError("not the path of a file")
    return output


# The string type of pydantic refuses names that are not UTF-8.
OutputPath = Annotated[str, PlainValidator(_check_output), PlainSerializer(lambda output: output)]


class GridSpec(BaseModel):
    """The parameters of a `TileGrid`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[int, ...]
    tile_shape: tuple[int, ...]
    halo: tuple[int, ...]
    separate_axes: int
    band_depth: int

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Refuse numbers that make no grid, or a grid with too many tiles."""
        tiles = math.prod(self.grid().grid_shape)
        if tiles > MOST_TILES:
            raise ValueError(f"{tiles} tiles are more than {MOST_TILES}")
        return self

    @classmethod
    def of(cls, grid: TileGrid) -> GridSpec:
        return cls(
            shape=grid.shape,
            tile_shape=grid.tile_shape,
            halo=grid.halo,
            separate_axes=grid.separate_axes,
            band_depth=grid.band_depth,
        )

    def grid(self) -> TileGrid:
        return TileGrid(
            self.shape,
            self.tile_shape,
            self.halo,
            separate_axes=self.separate_axes,
            band_depth=self.band_depth,
        )


class Measured(BaseModel):
    """The measured channels of a job.

    Attributes
    ----------
    names : tuple of str
        Names of all measured channels, in the order of the sums; "" for an image without channels. Empty in jobs of earlier
        versions.
    others : dict or None
        How to open those that the model does not see (see `napari_blockbuster.images`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[str, ...] = ()
    others: dict[str, Any] | None = None

    def settings(self) -> list[Any]:
        """Return the indices of the channels in `others`: tiles with other channels must not be mixed."""
        channels = None if self.others is None else self.others.get("channel")
        return [] if channels is None else list(channels) if isinstance(channels, list | tuple) else [channels]


class JobSpec(BaseModel):
    """The content of ``job.json``.

    Attributes
    ----------
    life : str
        Drawn when the job is made, also where it replaces another one. The tiles are in a folder with this name, so that a
        process that still works for a replaced job finds nothing of this one. Empty in jobs of version 0.1.
    image, identity : dict
        How to open the image again, and how to recognize it (see `napari_blockbuster.images`).
    model, prepared : dict
        Settings of the model as requested, and with values measured on the whole image.
    measured : Measured
        The channels whose intensities are summed for each label.
    depends_on : tuple of str
        Distributions that the model's labels depend on, in addition to numpy (`Model.depends_on`).
    versions : dict
        Python and the packages that the result depends on.
    """

    model_config = ConfigDict(extra="forbid")

    format: int = FORMAT
    life: Annotated[str, Field(pattern=r"^([0-9a-f]{12})?$")] = ""
    created: str
    output: OutputPath
    image: dict[str, Any]
    identity: dict[str, Any]
    measured: Measured = Measured()
    grid: GridSpec
    model: dict[str, Any]
    prepared: dict[str, Any]
    depends_on: tuple[str, ...] = ()
    versions: dict[str, str]

    def to_json(self) -> bytes:
        """Return the settings as JSON in ASCII, which holds every path that the system allows."""
        return json.dumps(_portable(self.model_dump()), indent=2).encode()

    @classmethod
    def load(cls, path: Path) -> JobSpec:
        """Read a job's settings.

        Raises
        ------
        JobError
            If the file is missing, damaged, or of a later format.
        """
        try:
            spec = cls.model_validate(_native(json.loads(path.read_bytes())))
        except FileNotFoundError:
            raise JobError(f"{path.parent} is not a job folder: it has no {path.name}") from None
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise JobError(
                f"{path} cannot be read as a job ({place}: {first['msg']}). It was edited or damaged"
            ) from None
        except (ValueError, RecursionError):
            raise JobError(f"{path} cannot be read as a job (it is not JSON). It was edited or damaged") from None
        if spec.format != FORMAT:
            raise JobError(
                f"{path} has format {spec.format}, this version reads {FORMAT}: use the version that made it"
            )
        # A model may have gained settings since; the job keeps the rules that its tiles were made with.
        models = {name: upgraded_settings(getattr(spec, name)) for name in ("model", "prepared")}
        return spec.model_copy(update=models)

    def differences(self, other: JobSpec) -> list[str]:
        """Return the settings that differ between two runs, as text; empty if their tiles may be mixed."""
        return [
            f"{name}: {_short(mine)} in the job, {_short(theirs)} now"
            for name, mine, theirs in _leaves(*self._fingerprints(other))
        ]

    def is_same_but_for_code(self, model: dict[str, Any]) -> bool:
        """Whether the settings of a model name the function of this job with the same options, whatever its code."""
        known = self.model
        return known.get("model") == model.get("model") == "function" and {**known, "sha256": ""} == {
            **model,
            "sha256": "",
        }

    def remedy(self, other: JobSpec) -> str:
        """Return the sentence after a list of differences: how to resume, and how to start again."""
        start = (
            "start again: choose another output to keep these tiles, or overwrite=True (--overwrite) to discard them"
        )
        mine, theirs = self._fingerprints(other)
        versions = _leaves(mine.pop("versions"), theirs.pop("versions"))
        if _leaves(mine, theirs):
            return f"Restore what the job was made from to resume it, or {start}"
        wanted = (f"install {name} {old}" if old else f"uninstall {name}" for name, old, _ in versions)
        steps = " and ".join(wanted)
        return f"{steps[:1].upper()}{steps[1:]} to resume the job, or {start}"

    def _fingerprints(self, other: JobSpec) -> tuple[dict[str, Any], dict[str, Any]]:
        # Jobs of version 0.1.0 did not record the packages of their model, and another model is a difference by itself.
        packages = (*OF_EVERY_JOB, *(name for name in self.depends_on if name in other.depends_on))
        return self._fingerprint(packages), other._fingerprint(packages)

    def _fingerprint(self, packages: Iterable[str]) -> dict[str, Any]:
        return {
            "image": self.identity,
            "grid": self.grid.model_dump(mode="json"),
            "measure": self.measured.settings(),
            "model": settings_of_labels(self.model),
            "versions": {name: self.versions.get(name) for name in packages},
        }


def _leaves(a: Any, b: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(a, dict) and isinstance(b, dict):
        found = []
        for key in [*a, *(k for k in b if k not in a)]:
            found += _leaves(a.get(key), b.get(key), f"{name}.{key}" if name else key)
        return found
    a, b = _plain(a), _plain(b)
    return [] if a == b else [(name, a, b)]


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _portable(value: Any) -> Any:
    """Return settings whose paths do not depend on the encoding of file names: UTF-8 with escaped bytes."""
    return _converted(value, lambda text: os.fsencode(text).decode("utf-8", "surrogateescape"))


def _native(value: Any) -> Any:
    """Return settings written by `_portable`, with paths in the encoding of this process."""
    return _converted(value, lambda text: os.fsdecode(text.encode("utf-8", "surrogateescape")))


def _converted(value: Any, convert: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _converted(inner, convert) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_converted(inner, convert) for inner in value]
    if isinstance(value, str) and not value.isascii() and os.name == "posix":
        try:
            return convert(value)
        except UnicodeError:
            return value
    return value


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:28]}…{text[-28:]}"
