"""Read label images: their voxels, lazily, and their metadata."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .groups import KEY

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["labels_info", "open_labels"]


def open_labels(path: str | Path, level: int = 0) -> da.Array:
    """Return the labels of one level as a lazy dask array, with one chunk per shard.

    Raises
    ------
    FileNotFoundError, ValueError
        If there are no labels, or no such level.
    """
    import dask.array as da
    import zarr

    if not (Path(path) / str(level)).exists():
        n = len(labels_info(path)["shapes"])
        raise ValueError(f"there is no level {level} in the labels {path}. Its levels are 0 to {n - 1}")
    array = zarr.open_array(str(Path(path) / str(level)), mode="r")
    # from_zarr names an array after its path, so dask would mix an array with an older one at the same path.
    name = f"labels-{os.urandom(8).hex()}"
    labels: da.Array = da.from_array(array, chunks=array.shards or array.chunks, name=name, lock=False)
    return labels


def labels_info(path: str | Path) -> dict[str, Any]:
    """Return the metadata of a label image.

    ``axes``, ``units`` and ``translation`` (None without one), ``shapes`` and ``scales`` of its levels, ``provenance`` (of
    this package), and ``affine``: a matrix that moves the labels after scale and translation, or None.

    Raises
    ------
    FileNotFoundError, ValueError
        If there are no labels.
    """
    import zarr

    if not Path(path).exists():
        raise FileNotFoundError(f"there are no labels at {path}")
    try:
        said: dict[str, Any] = dict(zarr.open_group(str(path), mode="r").attrs.asdict())
        multiscale = said.get("ome", said)["multiscales"][0]
    except (OSError, KeyError, IndexError):
        raise ValueError(f"{path} is not a label image: it has no OME-Zarr multiscales metadata") from None
    steps = multiscale["datasets"][0]["coordinateTransformations"]
    paths = [dataset["path"] for dataset in multiscale["datasets"]]
    return {
        "axes": [axis["name"] for axis in multiscale["axes"]],
        "shapes": [tuple(zarr.open_array(str(Path(path) / p), mode="r").shape) for p in paths],
        "scales": [d["coordinateTransformations"][0]["scale"] for d in multiscale["datasets"]],
        "units": [axis.get("unit") for axis in multiscale["axes"]],
        "translation": next((s["translation"] for s in steps if s["type"] == "translation"), None),
        "affine": said.get(KEY, {}).get("affine"),
        "provenance": said.get(KEY, {}),
    }
