"""TIFF in all its forms: read page by page or tile by tile, never whole."""

from __future__ import annotations

import functools
import itertools
import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images.base import ImageReadError, ImageSource, Layout
from napari_blockbuster.images.chunks import CachedReader
from napari_blockbuster.images.metadata.axes import (
    Request,
    check_dtype,
    check_level,
    image_axes,
    make_layout,
    resolve_axes,
)
from napari_blockbuster.images.metadata.scenes import Scene, pick_scene
from napari_blockbuster.images.metadata.sizes import level_factor, say, voxel_sizes
from napari_blockbuster.images.places import Place
from napari_blockbuster.images.zarr.source import new_opening

from .files import OpenTiff, check_complete, open_tiff
from .metadata import facts_of

__all__ = ["TiffSource", "accepts", "open_place", "scenes"]

LARGE = 2**22
"""Bytes of a page or strip above which a box is read without the rest of it, where nothing is compressed."""
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class TiffSource(ImageSource):
    """One image of a TIFF file at one level: a small handle that each worker opens for itself."""

    def __init__(self, path: str, layout: Layout, level: int = 0, series: int = 0) -> None:
        self.path, self.layout, self.level, self.series = path, layout, level, series
        self.opening = new_opening()
        self.name = Path(path).name
        opened = _open(path, series, level, self.opening)
        self.shape = layout.pick(opened.shape)
        self.dtype = np.dtype(opened.dtype).newbyteorder("=")
        self.chunks = self.read_chunks = layout.pick(opened.chunks)

    def _read(self, box: Box) -> np.ndarray:
        with _reading:
            return _open(self.path, self.series, self.level, self.opening).reader[self.layout.index(box)]

    @property
    def decodes_chunks(self) -> bool:
        return isinstance(_open(self.path, self.series, self.level, self.opening).reader, CachedReader)

    def describe(self) -> dict[str, Any]:
        return self._description("tiff", path=self.path, level=self.level)

    @property
    def shippable(self) -> bool:
        return True

    @property
    def local_path(self) -> Path | None:
        return Path(self.path)

    def aliases(self, path: Path) -> bool:
        own, target = Path(self.path).resolve(), path.resolve()
        return own.is_relative_to(target) or target.is_relative_to(own)


# ------------------------------------------------------------------------------------------------------------- opening
def accepts(place: Place) -> bool:
    """Any file that begins like a TIFF, whatever it is called; one that is only called so is refused as damaged."""
    called_so = place.path is not None and place.path.is_file() and place.path.suffix.lower() in (".tif", ".tiff")
    return called_so or place.start(4) in MAGIC


def scenes(place: Place) -> list[Scene]:
    """Images in a TIFF file, and in the files that its OME-XML names."""
    with open_tiff(place.text) as tiff:
        return _scenes(tiff)


def _scenes(tiff: OpenTiff) -> list[Scene]:
    return [Scene(series.name or "", tuple(series.shape)) for series in tiff.series]


def open_place(place: Place, request: Request) -> TiffSource:
    """Open one image of a TIFF file.

    Raises
    ------
    ImageReadError
        If the file cannot be read, or if pages lie in a file that is missing.
    ValueError
        If it does not have what was asked for.
    """
    path = place.text
    with open_tiff(path) as tiff:
        found = _scenes(tiff)
        index = pick_scene(found, request.scene, path, _obvious_scene(tiff))
        series = tiff.series[index]
        check_complete(tiff, index)
        levels = [tuple(level.shape) for level in series.levels]
        check_level(request.level, levels, path)
        check_dtype(np.dtype(series.dtype), path)
        facts = facts_of(tiff, index)
        name = Path(path).name
        if request.scene is None and len(found) > 1 and _same_size(found, index):
            say(f"{name} holds {len(found)} images. Number {index} is read. Choose with scene= (--scene)")
        if facts.damage:
            say(f"{name}: {facts.damage}. Its pixels are read, but not what it says of them")
        stored = _stored_axes(request, series.axes, levels[request.level], path)
        axes = image_axes(stored)
        full = dict(zip(stored, levels[0], strict=True))
        here = dict(zip(stored, levels[request.level], strict=True))
        sizes = voxel_sizes(
            axes,
            [full[a] for a in axes],
            facts.sizes,
            facts.units,
            name,
            spacing=request.spacing,
            # A level says nothing of its own scale: it follows from how much smaller it is.
            factors={a: level_factor(full[a], here[a]) for a in axes},
        )
        layout = make_layout(stored, levels[request.level], request, sizes, path, channels=facts.channels)
    return TiffSource(path, layout, request.level, index)


def _obvious_scene(tiff: OpenTiff) -> int | None:
    """The scene that is meant where the user names none; None where that is not clear."""
    own = [i for i, series in enumerate(tiff.series) if tiff.holds(series)] if len(tiff.series) > 1 else []
    candidates = own or list(range(len(tiff.series)))
    if len(candidates) == 1:
        return candidates[0]
    sizes = [math.prod(tiff.series[i].shape) for i in candidates]
    # Thumbnails, labels and overviews come after the image. Where a larger one follows, nothing is clear.
    return candidates[0] if sizes[0] == max(sizes) else None


def _same_size(found: list[Scene], index: int) -> bool:
    return any(scene.shape == found[index].shape for i, scene in enumerate(found) if i != index)


def _stored_axes(request: Request, own: str, shape: tuple[int, ...], path: str) -> str:
    """Axes of a series: the user's, or those in tifffile's letters, if an image can have them."""
    letters = own.lower()
    both = "c" in letters and "s" in letters
    if request.axes is not None:
        if both and "s" not in request.axes:
            raise ValueError(
                f"axes={request.axes!r}, but {path} has channels and color samples: its axes are {letters!r}. "
                "Leave axes out, or name the samples s. Every sample counts as a channel"
            )
        return resolve_axes(request.axes, shape, path)
    known = set(letters) <= set("tczyxs") and len(set(letters)) == len(letters)
    return resolve_axes(letters if known else None, shape, path)


# ------------------------------------------------------------------------------------------------------------- reading
@dataclass(frozen=True)
class _Opened:
    shape: tuple[int, ...]
    dtype: Any
    chunks: tuple[int, ...]
    reader: CachedReader | _Contiguous


@dataclass(frozen=True)
class _Page:
    """Where the pixels of a page begin, in the file that holds them."""

    path: str
    offset: int
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class _Contiguous:
    """Pixels that lie in files as they lie in memory: nothing is decoded, no page is read for one of its corners."""

    pages: tuple[_Page, ...]
    shape: tuple[int, ...]
    """Of the pages, as they are arranged, and then of one page."""
    leading: int
    """Number of axes along which pages are arranged."""

    def __getitem__(self, index: tuple[slice | int, ...]) -> np.ndarray:
        grid, page_shape = self.shape[: self.leading], self.shape[self.leading :]
        chosen = [[i] if isinstance(i, int) else range(*i.indices(n)) for i, n in zip(index, grid, strict=False)]
        inside = index[self.leading :]
        parts = []
        for place in itertools.product(*chosen):
            page = self.pages[int(np.ravel_multi_index(place, grid)) if place else 0]
            # Mapped anew for each box: what stays mapped counts as memory of this process.
            parts.append(np.array(np.memmap(page.path, page.dtype, "r", page.offset, page_shape)[inside]))
        extents = [len(c) for c, i in zip(chosen, index, strict=False) if not isinstance(i, int)]
        return parts[0] if not self.leading else np.stack(parts).reshape(*extents, *parts[0].shape)


# tifffile's handle has one file position.
_reading = threading.RLock()


@functools.lru_cache(maxsize=16)
def _open(path: str, series_index: int, level: int, opening: str) -> _Opened:
    import tifffile
    import zarr

    try:
        # Stays open as long as it is in the cache: chunks are read through it.
        tiff = open_tiff(path)
        check_complete(tiff, series_index)
        series = tiff.series[series_index].levels[level]
        _check_codec(tifffile.TIFF.DECOMPRESSORS, series.keyframe.compression, path)
        _check_codec(tifffile.TIFF.UNPREDICTORS, series.keyframe.predictor, path)
        # Level 0 of this very level: of a pyramid, the store would be a group of all of them.
        array = zarr.open_array(series.aszarr(level=0), mode="r")
        reader: CachedReader | _Contiguous = CachedReader(array, array.chunks)
        if math.prod(array.chunks) * array.dtype.itemsize > LARGE:
            reader = _contiguous(series) or reader
    except ImageReadError:
        raise
    except Exception as error:
        raise ImageReadError(f"{path} cannot be read as TIFF ({str(error)[:300]})") from error
    return _Opened(array.shape, array.dtype, array.chunks, reader)


def _contiguous(series: Any) -> _Contiguous | None:
    """A reader of pages that are neither compressed nor cut into scattered pieces; None for others."""
    shape = tuple(series.shape)
    if not series.is_multifile and series.dataoffset is not None:
        return _Contiguous((_page(series.keyframe, series.dataoffset, series.dtype),), shape, 0)
    pages = list(series)
    page_shape = tuple(series.keyframe.shape)
    leading = len(shape) - len(page_shape)
    if leading < 1 or shape[leading:] != page_shape or math.prod(shape[:leading]) != len(pages):
        return None
    if not all(_in_one_piece(page) for page in pages):
        return None
    return _Contiguous(tuple(_page(p, p.dataoffsets[0], series.dtype) for p in pages), shape, leading)


def _page(page: Any, offset: int, dtype: Any) -> _Page:
    return _Page(page.parent.filehandle.path, offset, np.dtype(page.parent.byteorder + np.dtype(dtype).char))


def _in_one_piece(page: Any) -> bool:
    # Frames are described by their keyframe, but their strips lie where they lie.
    if page is None or not page.is_memmappable or not len(page.dataoffsets):
        return False
    ends = [a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
    return ends[-1] - page.dataoffsets[0] >= page.nbytes and all(
        end == start for end, start in zip(ends[:-1], page.dataoffsets[1:], strict=True)
    )


def _check_codec(known: Any, code: int, path: str) -> None:
    # tifffile would say so at the first pixel: after the job was made.
    try:
        known[code]
    except KeyError:
        name = getattr(code, "name", code)
        raise ImageReadError(
            f"{path} is compressed with {name}, which needs the package imagecodecs: pip install imagecodecs"
        ) from None
