"""The result of a job, written or not yet written, and the paths of outputs and job folders."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from napari_blockbuster.images import ImageSource
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.merge.region.inside import clipped
from napari_blockbuster.output.tables.parquet import read_parquet
from napari_blockbuster.stage.labels import lookup
from napari_blockbuster.stage.regions.store import RegionStore
from napari_blockbuster.stage.store import StageStore

from .label_image import open_labels

if TYPE_CHECKING:
    import dask.array as da
    import pandas as pd

__all__ = [
    "Result",
    "StagedMerge",
    "converted_output",
    "default_output",
    "job_folder",
    "labels_name",
    "lazy_labels",
    "output_of",
    "tissue_output",
]

JOB_SUFFIX = ".job"
IMAGE_SUFFIXES = (
    *(".ome.zarr", ".zarr", ".n5", ".ome.tiff", ".ome.tif", ".tiff", ".tif", ".ome.btf", ".btf", ".tf8"),
    *(".czi", ".nd2", ".lif", ".lof", ".xlif", ".ims", ".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".bif"),
)
"""Suffixes that the name of the labels does not keep."""


@dataclass(frozen=True)
class Result:
    """Merged labels on disk.

    Attributes
    ----------
    path : Path
        The OME-Zarr of the labels.
    n_objects : int
    failed_tiles : dict of int to str
        Tiles that hold background because they could not be segmented, and why.
    missing_tiles : list of int
        Tiles that hold background because they were not staged (yet), failed ones included. Skipped tiles are not among them.
    seams : numpy.ndarray
        The evidence of all pairs at the seams (`napari_blockbuster.stage.seams.evidence.evidence_dtype`).
    joined : numpy.ndarray of bool
        For each row of `seams`, whether the pair became one object.
    provenance : dict
        Versions, settings, counts and the merge rule; also in the attributes of the OME-Zarr.
    table_path : Path or None
        Parquet file of the table, next to the labels; None if the result has no table.
    n_skipped : int
        Number of tiles that hold background because nobody asked for them: outside the region of interest, or proven empty.
    """

    path: Path
    n_objects: int
    failed_tiles: dict[int, str]
    missing_tiles: list[int]
    seams: np.ndarray
    joined: np.ndarray
    provenance: dict[str, Any]
    table_path: Path | None = None
    n_skipped: int = 0

    @property
    def table(self) -> pd.DataFrame:
        """One row for each object: size, place, shape, intensities and seams. It is read from the disk.

        Raises
        ------
        FileNotFoundError
            If the result has no table, or it was moved; the message says why.
        """
        if self.table_path is None:
            raise FileNotFoundError(f"{self.path} has no table. {self.provenance.get('no_table', '')}")
        return read_parquet(self.table_path, self.provenance.get("result"))

    @property
    def labels(self) -> da.Array:
        """Merged labels at full resolution, lazy, with the shape of the image (time and space)."""
        array: da.Array = open_labels(self.path)
        return array

    def __repr__(self) -> str:
        gaps = f", {len(self.missing_tiles)} tiles missing" if self.missing_tiles else ""
        gaps += f", {self.n_skipped} tiles skipped" if self.n_skipped else ""
        return f"Result({str(self.path)!r}, n_objects={self.n_objects}{gaps})"


@dataclass(frozen=True, repr=False)
class StagedMerge(Merge):
    """A merge of staged tiles, with the merged labels before they are written."""

    store: StageStore | None = None

    @classmethod
    def of(cls, merged: Merge, store: StageStore) -> Self:
        return cls(**{f.name: getattr(merged, f.name) for f in fields(Merge)}, store=store)

    @property
    def labels(self) -> da.Array:
        """Merged labels with the shape of the image, relabeled when read; background where no tile is staged."""
        assert self.store is not None
        return lazy_labels(self.store, self)


def lazy_labels(store: StageStore, merged: Merge) -> da.Array:
    """Return staged labels as a dask array, one chunk per tile, relabeled when a chunk is computed."""
    import dask.array as da

    name = f"merged-labels-{id(merged):x}-{os.urandom(4).hex()}"
    grid = store.grid
    graph = {(name, *grid.position(i)): (_read_merged, store, i, merged) for i in range(len(grid))}
    chunks = tuple(tuple(axis.core(p)[1] - axis.core(p)[0] for p in range(len(axis))) for axis in grid.axes)
    return da.Array(graph, name, chunks, dtype=merged.new_ids.dtype)


def _read_merged(store: StageStore, index: int, merged: Merge) -> np.ndarray:
    tile = store.grid[index]
    table = merged.table(index)
    if len(table) == 1:
        return np.zeros(tile.core.shape, table.dtype)
    reading = RegionStore(store).read(tile) if merged.fills(index) else store.read_labels(tile)
    return clipped(lookup(table, reading.result()), merged.clip, tile.core)


# -------------------------------------------------------------------------------------------------------------- places
def default_output(source: ImageSource) -> Path:
    """Return ``<image>.labels.ome.zarr`` next to the image.

    Raises
    ------
    ValueError
        If the image is not a file or folder of this machine.
    """
    path = _path_of(source, "labels go, output='labels.ome.zarr' (-o)")
    return path.with_name(labels_name(path.name))


def converted_output(source: ImageSource) -> Path:
    """Return ``<image>.ome.zarr`` next to the image.

    Raises
    ------
    ValueError
        If the image is not a file of this machine, or has this name itself.
    """
    path = _path_of(source, "result goes, output='image.ome.zarr' (-o)")
    target = path.with_name(f"{_stem(path.name)}.ome.zarr")
    if target == path:
        raise ValueError(f"{path} has the name of the result itself: say where the result goes, output= (-o)")
    return target


def tissue_output(source: ImageSource) -> Path:
    """Return ``<image>.tissue.ome.zarr`` next to the image.

    Raises
    ------
    ValueError
        If the image is not a file or folder of this machine.
    """
    path = _path_of(source, "mask goes, output= (-o)")
    return path.with_name(f"{_stem(path.name)}.tissue.ome.zarr")


def _path_of(source: ImageSource, remedy: str) -> Path:
    if source.local_path is None:
        raise ValueError(f"this image has no folder of its own: say where the {remedy}")
    return source.local_path


def labels_name(image: str, extra: str = "") -> str:
    """Return the name of the labels of an image: its own without the suffix, and ``.labels.ome.zarr``."""
    return f"{_stem(image)}{extra}.labels.ome.zarr"


def _stem(image: str) -> str:
    suffix = next((s for s in IMAGE_SUFFIXES if image.lower().endswith(s) and len(image) > len(s)), "")
    return image[: len(image) - len(suffix)]


def job_folder(output: Path) -> Path:
    """Return the job folder of an output: ``<output>.job``, or next to the image for labels inside an OME-Zarr image."""
    if not output.name:
        raise ValueError(f"the output is {output}, which is no name of a file. Choose a path such as labels.ome.zarr")
    if output.parent.name == "labels" and _is_zarr_group(output.parent.parent):
        image = output.parent.parent
        return image.with_name(f"{image.name}.{output.name}{JOB_SUFFIX}")
    return output.with_name(f"{output.name}{JOB_SUFFIX}")


def output_of(folder: Path) -> Path:
    """Return the output next to a job folder that was moved."""
    name = folder.name.removesuffix(JOB_SUFFIX)
    return folder.with_name(name if name != folder.name else f"{name}.ome.zarr")


def _is_zarr_group(path: Path) -> bool:
    return (path / ".zgroup").exists() or (path / "zarr.json").exists()
