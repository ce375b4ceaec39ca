"""Labels in an image whose metadata is consolidated are seen by readers that use that."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from jobs import components

from napari_blockbuster import segment

OPTIONS: dict = {"tile_shape": 32, "halo": 4, "merge": "touch", "progress": False}


def write_image(path: Path, zarr_format: int) -> np.ndarray:
    pixels = np.zeros((64, 64), np.uint8)
    pixels[10:40, 10:40] = 200
    axes = [{"name": name, "type": "space"} for name in "yx"]
    said = {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}
    attributes = {"ome": {"version": "0.5", **said}} if zarr_format == 3 else said
    group = zarr.open_group(str(path), mode="w", zarr_format=zarr_format, attributes=attributes)
    group.create_array("0", data=pixels, chunks=(32, 32))
    return pixels


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
def test_labels_are_in_the_consolidated_metadata(zarr_format: int, tmp_path: Path) -> None:
    """Of the image, and of a plate that holds it; again when they are replaced by labels with other arrays."""
    plate, image = tmp_path / "plate.zarr", tmp_path / "plate.zarr" / "A" / "1" / "0"
    zarr.create_group(str(plate), zarr_format=zarr_format)
    for well in ("A", "A/1"):
        zarr.open_group(str(plate / well), mode="w", zarr_format=zarr_format)
    pixels = write_image(image, zarr_format)
    for group in (image, plate):
        zarr.consolidate_metadata(str(group), zarr_format=zarr_format)
    for name, overwrite in (("one", False), ("two", False), ("one", True)):
        segment(image, components, image / "labels" / name, overwrite=overwrite, **OPTIONS)
    for opened in (zarr.open_consolidated(str(image)), zarr.open_consolidated(str(plate))["A/1/0"]):
        assert sorted(opened["labels"].group_keys()) == ["one", "two"]
        attributes = opened["labels"].attrs
        assert (attributes["ome"] if zarr_format == 3 else attributes)["labels"] == ["one", "two"]
        found = opened["labels/one/0"][...]
        np.testing.assert_array_equal(found > 0, pixels > 100)
        provenance = opened["labels/one"].attrs["napari-blockbuster"]
        stored = zarr.open_group(str(image / "labels" / "one"), use_consolidated=False).attrs["napari-blockbuster"]
        assert provenance["result"] == stored["result"]
        assert sorted(opened["tables"].group_keys()) == ["one", "two"]
        np.testing.assert_array_equal(opened["tables/one/obs/label"][...], [1])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_image_without_consolidated_metadata_gets_none(zarr_format: int, tmp_path: Path) -> None:
    image = tmp_path / "image.zarr"
    write_image(image, zarr_format)
    before = (image / ("zarr.json" if zarr_format == 3 else ".zattrs")).read_bytes()
    segment(image, components, image / "labels" / "one", **OPTIONS)
    assert (image / ("zarr.json" if zarr_format == 3 else ".zattrs")).read_bytes() == before
    assert not (image / ".zmetadata").exists()


def test_consolidated_metadata_that_cannot_be_updated_is_reported(tmp_path: Path) -> None:
    image = tmp_path / "image.zarr"
    write_image(image, 2)
    (image / ".zmetadata").write_text(json.dumps(["of another program"]))
    with pytest.warns(UserWarning, match=r"consolidated metadata in .*\.zmetadata cannot be updated"):
        result = segment(image, components, image / "labels" / "one", **OPTIONS)
    assert result.n_objects == 1
    assert json.loads((image / ".zmetadata").read_text()) == ["of another program"]
