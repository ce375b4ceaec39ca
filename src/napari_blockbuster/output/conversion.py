"""Convert an image of any format into an OME-Zarr with small chunks in large shards, and a pyramid."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_blockbuster.geometry.chunks import finest_block, rounded_up
from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images import ImageSource
from napari_blockbuster.machine.disk import writing_to
from napari_blockbuster.machine.files import beside
from napari_blockbuster.machine.system import sync, syncs, tensorstore_path

from .groups import plain_text
from .ngff import Level, axis_attributes, check_version, plan_levels
from .occupant import Occupant
from .place import put_in_place
from .writer import array_options, write_errors

__all__ = ["Conversion"]

SIDES = {1: 2**22, 2: 2048, 3: 128}
"""Side of a block of a coarse level, by the number of spatial axes."""
DONE = "done-blocks.txt"


@dataclass(frozen=True)
class Conversion:
    """An image and where it goes: time, then channels, then space.

    The result appears at its place when it is complete. Until then it is a hidden folder next to it; the same call
    continues one that was interrupted.

    Attributes
    ----------
    channels : sequence of ImageSource
        The same image, opened at each of its channels.
    names : sequence of str
        Of the channels; may be empty.
    target : Path
    version : {"0.5", "0.4"}
    """

    channels: Sequence[ImageSource]
    names: Sequence[str]
    target: Path
    version: str = "0.5"

    def run(self, overwrite: bool = False, progress: Callable[[int, int], None] | None = None) -> Path:
        """Convert the image and return the path of the result.

        Raises
        ------
        FileExistsError
            If there is something at the path and `overwrite` is false.
        ValueError
            If it is the image itself.
        StoreError
            If the disk is full or read-only.
        """
        check_version(self.version)
        first = self.channels[0]
        if first.aliases(self.target):
            raise ValueError(
                f"the output {self.target} is the image itself, or holds it. Choose another one, output= (-o)"
            )
        there = Occupant.of(self.target)
        if not there.is_nothing and not overwrite:
            raise FileExistsError(f"{self.target} exists. Pass overwrite=True (--overwrite) to replace it")
        part = self._part()
        with writing_to(self.target.parent):
            if not (part / DONE).exists():
                self._create(part)
        self._write(part, progress)
        with writing_to(self.target.parent):
            (part / DONE).unlink()
            put_in_place(part, self.target, there)
        return self.target

    # ------------------------------------------------------------------------------------------------------- layout
    @property
    def _has_channels(self) -> bool:
        return len(self.channels) > 1

    @property
    def _time(self) -> int:
        return self.channels[0].separate_axes

    @property
    def _leading(self) -> int:
        """Axes that no level reduces."""
        return self._time + self._has_channels

    def _with_channels(self, values: Sequence[Any], channel: Any) -> tuple[Any, ...]:
        more = (channel,) if self._has_channels else ()
        return (*values[: self._time], *more, *values[self._time :])

    @property
    def axes(self) -> tuple[str, ...]:
        """Axes of the result."""
        return self._with_channels(self.channels[0].axes, "c")

    def levels(self) -> list[Level]:
        """The levels of the result, the finest first."""
        first = self.channels[0]
        shape = self._with_channels(first.shape, len(self.channels))
        return plan_levels(shape, self._with_channels(first.scale, 1.0), self._leading)

    def _blocks(self, levels: Sequence[Level]) -> list[tuple[int, ...]]:
        """For each level, the block that is written at a time: one shard."""
        space = levels[0].shape[self._leading :]
        thick = max(1, sum(n > 1 for n in space))
        quantum = 256 if thick < 3 else 64
        finest = finest_block(space, self.channels[0].read_chunks[self._time :], quantum)
        coarse = [[rounded_up(min(n, SIDES[thick]), quantum) for n in level.shape[self._leading :]] for level in levels]
        return [(1,) * self._leading + tuple(block) for block in (finest, *coarse[1:])]

    def _part(self) -> Path:
        """The hidden folder of this very image: another one never continues it."""
        first = self.channels[0]
        said = json.dumps([first.identity(), first.describe(), len(self.channels), self.version], sort_keys=True)
        return beside(self.target, f".{hashlib.sha256(said.encode()).hexdigest()[:12]}.converting")

    def _create(self, part: Path) -> None:
        import zarr

        shutil.rmtree(part, ignore_errors=True)
        part.parent.mkdir(parents=True, exist_ok=True)
        levels = self.levels()
        zarr_format: Any = 3 if self.version == "0.5" else 2
        zarr.create_group(str(part), zarr_format=zarr_format, attributes=plain_text(self._attributes(levels)))
        for number, (level, block) in enumerate(zip(levels, self._blocks(levels), strict=True)):
            options = array_options(block, self.version, self.axes)
            dtype = self.channels[0].dtype
            zarr.create_array(str(part / str(number)), shape=level.shape, dtype=dtype, fill_value=0, **options)
        (part / DONE).touch()

    def _attributes(self, levels: Sequence[Level]) -> dict[str, Any]:
        first = self.channels[0]
        scale = self._with_channels(first.scale, 1.0)
        units = self._with_channels(first.units, None)
        origin = self._with_channels(first.translation or (0.0,) * first.ndim, 0.0)
        datasets = []
        for number, level in enumerate(levels):
            size = [s * f for s, f in zip(scale, level.factors, strict=True)]
            # A voxel is the mean of several: its center lies between theirs.
            place = [o + s * (f - 1) / 2 for o, s, f in zip(origin, scale, level.factors, strict=True)]
            steps: list[dict[str, Any]] = [{"type": "scale", "scale": size}]
            if any(place):
                steps.append({"type": "translation", "translation": place})
            datasets.append({"path": str(number), "coordinateTransformations": steps})
        multiscale: dict[str, Any] = {
            "name": self.target.name.removesuffix(".ome.zarr"),
            "axes": [axis_attributes(a, u) for a, u in zip(self.axes, units, strict=True)],
            "datasets": datasets,
            "type": "mean",
        }
        said: dict[str, Any] = {"multiscales": [multiscale]}
        if self._has_channels and any(self.names):
            said["omero"] = {"channels": [self._channel(i) for i in range(len(self.channels))]}
        if self.version == "0.5":
            return {"ome": {"version": self.version, **said}}
        multiscale["version"] = self.version
        return said

    def _channel(self, number: int) -> dict[str, Any]:
        """Name and display of a channel: a color is required, and a window."""
        name = self.names[number] if number < len(self.names) else ""
        dtype = self.channels[0].dtype
        low, high = (0.0, 1.0) if dtype.kind in "fb" else (float(np.iinfo(dtype).min), float(np.iinfo(dtype).max))
        window = {"min": low, "max": high, "start": low, "end": high}
        return {"label": name or f"channel {number}", "color": "FFFFFF", "active": True, "window": window}

    # -------------------------------------------------------------------------------------------------------- pixels
    def _write(self, part: Path, progress: Callable[[int, int], None] | None) -> None:
        levels = self.levels()
        shards = zip(levels, self._blocks(levels), strict=True)
        blocks = [(n, box) for n, (level, block) in enumerate(shards) for box in _boxes(level.shape, block)]
        arrays = [_opened(part / str(n), self.version) for n in range(len(levels))]
        done = {int(line) for line in (part / DONE).read_text().split()}
        with (part / DONE).open("a") as finished:
            for number, (level, box) in enumerate(blocks):
                if number not in done:
                    pixels = self._finest(box) if level == 0 else self._reduced(arrays, levels, level, box)
                    with write_errors(part):
                        arrays[level][box.slices].write(np.ascontiguousarray(pixels)).result()
                    with writing_to(self.target.parent):
                        finished.write(f"{number}\n")
                        sync(finished)
                if progress is not None:
                    progress(number + 1, len(blocks))

    def _finest(self, box: Box) -> np.ndarray:
        if not self._has_channels:
            return self.channels[0].read(box)
        channel, place = box.start[self._time], self._time
        inner = Box(box.start[:place] + box.start[place + 1 :], box.stop[:place] + box.stop[place + 1 :])
        return np.expand_dims(self.channels[channel].read(inner), place)

    def _reduced(self, arrays: Sequence[Any], levels: Sequence[Level], number: int, box: Box) -> np.ndarray:
        below, here = levels[number - 1], levels[number]
        steps = [h // b for h, b in zip(here.factors, below.factors, strict=True)]
        region = tuple(
            slice(a * s, min(b * s, n)) for a, b, s, n in zip(box.start, box.stop, steps, below.shape, strict=True)
        )
        return mean_of_blocks(arrays[number - 1][region].read().result(), steps)


def mean_of_blocks(pixels: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """Mean of blocks of voxels, rounded for integers; blocks at the far edges may be smaller. Bools: any."""
    result = pixels.astype(np.float64 if pixels.dtype.itemsize > 2 else np.float32)
    for axis, step in enumerate(steps):
        if step > 1:
            starts = np.arange(0, result.shape[axis], step)
            sizes = np.diff(np.append(starts, result.shape[axis]))
            shape = [len(sizes) if k == axis else 1 for k in range(result.ndim)]
            result = np.add.reduceat(result, starts, axis=axis) / sizes.reshape(shape).astype(result.dtype)
    if pixels.dtype.kind == "b":
        return result.astype(bool)
    return (np.rint(result) if pixels.dtype.kind in "iu" else result).astype(pixels.dtype)


def _boxes(shape: Sequence[int], block: Sequence[int]) -> Iterator[Box]:
    grid = [range(0, n, b) for n, b in zip(shape, block, strict=True)]
    for start in itertools.product(*grid):
        yield Box(start, tuple(min(a + b, n) for a, b, n in zip(start, block, shape, strict=True)))


def _opened(path: Path, version: str) -> Any:
    import tensorstore as ts

    driver = "zarr3" if version == "0.5" else "zarr"
    metadata = path / ("zarr.json" if version == "0.5" else ".zarray")
    store = {"driver": "file", "path": tensorstore_path(path), "file_io_sync": syncs(metadata)}
    return ts.open({"driver": driver, "kvstore": store}, open=True).result()
