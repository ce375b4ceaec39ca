"""Everything that is written is opened by the readers of the field, with the same pixels, and is valid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from napari_blockbuster import convert, segment, segment_many
from napari_blockbuster.output.label_image import open_labels

PIXELS = np.full((2, 6, 70, 300), 100, np.uint16)
PIXELS[:, 2:5, 10:30, 10:30] = PIXELS[0, 1:4, 40:60, 200:260] = 900
VERSIONS = ["0.5", "0.4"]


@pytest.fixture(scope="module", params=VERSIONS)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A converted image, labels beside it and inside it, and labels of a TIFF."""
    folder = tmp_path_factory.mktemp("written")
    metadata = {"axes": "CZYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    metadata |= {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", (2, 0.5, 0.5), strict=True)}
    tifffile.imwrite(folder / "a.ome.tif", PIXELS, metadata=metadata)
    options: dict[str, Any] = {"channel": 0, "tile_shape": 64, "halo": 8, "progress": False}
    options["ome_zarr_version"] = request.param
    image = convert(folder / "a.ome.tif", progress=False, ome_zarr_version=request.param)
    labels = segment(image, "threshold", folder / "labels.ome.zarr", **options).path
    inside = segment(image, "threshold", image / "labels" / "cells", **options).path
    of_tiff = segment(folder / "a.ome.tif", "threshold", folder / "of tiff.ome.zarr", **options).path
    return {"image": image, "labels": labels, "inside": inside, "of a TIFF": of_tiff}


@pytest.fixture(scope="module", params=VERSIONS)
def plate(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plate with one segmented field."""
    version = request.param
    path = tmp_path_factory.mktemp("plate") / "plate.ome.zarr"
    wells = [{"path": "A/1", "rowIndex": 0, "columnIndex": 0}]
    said = {"columns": [{"name": "1"}], "rows": [{"name": "A"}], "wells": wells, "name": "plate", "field_count": 1}
    group(path, version, {"plate": said})
    group(path / "A", version, None)
    group(path / "A" / "1", version, {"well": {"images": [{"path": "0"}]}})
    tifffile.imwrite(path.parent / "f.tif", PIXELS[0, 2])
    convert(path.parent / "f.tif", path / "A" / "1" / "0", progress=False, ome_zarr_version=version)
    result = segment_many(path, "threshold", name="cells", progress=False)
    assert result.exit_code == 0
    return path


def group(path: Path, version: str, said: dict[str, Any] | None) -> None:
    if said is None:
        zarr.create_group(str(path), zarr_format=3 if version == "0.5" else 2)
    elif version == "0.5":
        zarr.create_group(str(path), zarr_format=3, attributes={"ome": {"version": "0.5", **said}})
    else:
        inner = {name: {"version": "0.4", **value} for name, value in said.items()}
        zarr.create_group(str(path), zarr_format=2, attributes=inner)


# --------------------------------------------------------------------------------------------------------------- images
def ome_zarr_py(path: Path) -> np.ndarray:
    pytest.importorskip("ome_zarr")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    # Of labels, it opens the image as well.
    nodes = [node for node in Reader(parse_url(str(path)))() if node.data]
    node = next(node for node in nodes if Path(str(node.zarr.basename())).name == path.name)
    return np.asarray(node.data[0])


def ngio_image(path: Path) -> np.ndarray:
    ngio = pytest.importorskip("ngio")
    image = ngio.open_ome_zarr_container(str(path)).get_image()
    size = image.pixel_size
    assert (size.z, size.y, size.x) == (2, 0.5, 0.5)
    assert list(image.channel_labels) == ["DAPI", "GFP"]
    return np.asarray(image.get_as_numpy())


def bioio_image(path: Path) -> np.ndarray:
    bioio = pytest.importorskip("bioio")
    pytest.importorskip("bioio_ome_zarr")
    image = bioio.BioImage(path)
    assert tuple(image.physical_pixel_sizes) == (2, 0.5, 0.5)
    return np.asarray(image.data).squeeze()


@pytest.mark.parametrize("read", [ome_zarr_py, ngio_image, bioio_image])
def test_a_converted_image(written: dict[str, Path], read: Callable[[Path], np.ndarray]) -> None:
    np.testing.assert_array_equal(read(written["image"]), PIXELS)


# --------------------------------------------------------------------------------------------------------------- labels
def ngio_labels(path: Path) -> np.ndarray:
    ngio = pytest.importorskip("ngio")
    return np.asarray(ngio.open_label(str(path)).get_as_numpy())


def bioio_labels(path: Path) -> np.ndarray:
    bioio = pytest.importorskip("bioio")
    pytest.importorskip("bioio_ome_zarr")
    return np.asarray(bioio.BioImage(path).data).squeeze()


@pytest.mark.parametrize("read", [ome_zarr_py, ngio_labels, bioio_labels])
def test_labels(written: dict[str, Path], read: Callable[[Path], np.ndarray]) -> None:
    expected = open_labels(written["labels"]).compute()
    assert expected.max() == 2
    for name, path in written.items():
        # bioio knows OME-Zarr by its suffix.
        if name != "image" and not (read is bioio_labels and name == "inside"):
            np.testing.assert_array_equal(read(path), expected)


def test_labels_are_found_through_their_image(written: dict[str, Path]) -> None:
    ngio = pytest.importorskip("ngio")
    container = ngio.open_ome_zarr_container(str(written["image"]))
    assert container.list_labels() == ["cells"]
    assert container.get_label("cells").get_as_numpy().max() == 2


def test_a_plate(plate: Path) -> None:
    ngio = pytest.importorskip("ngio")
    opened = ngio.open_ome_zarr_plate(str(plate))
    (image,) = opened.get_images().values()
    assert image.list_labels() == ["cells"]
    labels = plate / "A" / "1" / "0" / "labels" / "cells"
    np.testing.assert_array_equal(image.get_label("cells").get_as_numpy(), open_labels(labels).compute())


# --------------------------------------------------------------------------------------------------------------- tables
def test_tables(written: dict[str, Path]) -> None:
    ngio = pytest.importorskip("ngio")
    for path, name in ((written["labels"], "objects"), (written["image"], "cells")):
        container = ngio.open_ome_zarr_container(str(path))
        assert container.list_tables() == [name]
        frame = container.get_table(name).dataframe
        assert frame.index.tolist() == [1, 2]
        assert frame["intensity_max-DAPI"].tolist() == [900, 900]
    assert ngio.open_ome_zarr_container(str(written["image"])).get_table("cells").reference_label == "cells"


def test_tables_of_spatialdata(written: dict[str, Path]) -> None:
    spatialdata = pytest.importorskip("spatialdata")
    for path, name, region in (
        (written["labels"], "objects", "labels.ome.zarr"),
        (written["image"], "cells", "cells"),
    ):
        table = spatialdata.read_zarr(path, selection=("tables",)).tables[name]
        spatialdata.models.TableModel().validate(table)
        assert spatialdata.models.get_table_keys(table) == (region, "region", "label")
        assert table.obs["label"].tolist() == [1, 2]


# ------------------------------------------------------------------------------------------------------------- validity
def test_all_is_valid(written: dict[str, Path], plate: Path) -> None:
    yaozarrs = pytest.importorskip("yaozarrs")
    for path in (*written.values(), plate, plate / "A" / "1" / "0" / "labels" / "cells"):
        yaozarrs.validate_zarr_store(str(path))
