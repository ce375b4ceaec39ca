"""Many images in one call: folders, patterns and plates; each with its labels, its job folder and its exit code."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import tifffile
import zarr
from command_line import numbers, run

from napari_blockbuster import Job, segment, segment_many
from napari_blockbuster.images import find_images, open_image
from napari_blockbuster.models.loaded_model import load_once
from napari_blockbuster.models.networks.base import NetworkModel, NetworkSegmenter
from napari_blockbuster.output.label_image import open_labels

if TYPE_CHECKING:
    from distributed import Client

OPTIONS: dict[str, Any] = {"tile_shape": 32, "halo": 6, "merge": "touch", "progress": False}


def squares(n: int) -> np.ndarray:
    """An image of 60 x 50 pixels with n bright squares, one of them over a seam."""
    pixels = np.full((60, 50), 100, np.uint16)
    for i in range(n):
        pixels[5 + 14 * i : 13 + 14 * i, 28:36] = 900
    return pixels


def bright(pixels: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    if pixels.max() > 60_000:
        raise RuntimeError("too bright")
    return ndimage.label(pixels > 500)[0]


def write_field(path: Path, pixels: np.ndarray) -> None:
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "yx"]
    steps = [{"type": "scale", "scale": [0.5, 0.5]}]
    said = {
        "version": "0.5",
        "multiscales": [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}],
    }
    zarr.create_group(str(path), attributes={"ome": said})
    zarr.create_array(str(path / "0"), data=pixels, chunks=(32, 32))


def write_plate(path: Path) -> dict[str, int]:
    """A plate of two wells with two fields each, and a third well that was never imaged; objects of each field."""
    wells = [{"path": p, "rowIndex": i, "columnIndex": 0} for i, p in enumerate(("A/1", "B/1", "C/1"))]
    plate = {"version": "0.5", "rows": [{"name": r} for r in "ABC"], "columns": [{"name": "1"}], "wells": wells}
    zarr.create_group(str(path), attributes={"ome": {"version": "0.5", "plate": plate}})
    objects = {}
    for row, well in enumerate(("A/1", "B/1")):
        images = [{"path": "0"}, {"path": "1"}]
        zarr.create_group(str(path / well), attributes={"ome": {"version": "0.5", "well": {"images": images}}})
        for field in (0, 1):
            objects[f"{well}/{field}"] = 1 + 2 * row + field
            write_field(path / well / str(field), squares(1 + 2 * row + field))
    return objects


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two TIFFs, an OME-Zarr, a damaged TIFF, and things that are no images."""
    folder = tmp_path / "images"
    folder.mkdir()
    for n in (2, 3):
        tifffile.imwrite(folder / f"f{n}.tif", squares(n))
    write_field(folder / "g1.ome.zarr", squares(1))
    (folder / "h.tif").write_text("no image")
    (folder / "notes.txt").write_text("no image either")
    (folder / "results").mkdir()
    return folder


def test_a_folder_is_segmented_image_by_image(folder: Path) -> None:
    result = segment_many(folder, bright, **OPTIONS)
    assert [(o.name, o.status, o.n_objects, o.exit_code) for o in result] == [
        ("f2.tif", "done", 2, 0),
        ("f3.tif", "done", 3, 0),
        ("g1.ome.zarr", "done", 1, 0),
        ("h.tif", "failed", None, 2),
    ]
    assert result.exit_code == 2
    assert result.summary() == "4 images, 6 objects, 1 without labels"
    for outcome in result[:3]:
        assert outcome.output == folder / f"{outcome.name.partition('.')[0]}.labels.ome.zarr"
        one = segment(outcome.image, bright, folder.parent / outcome.name, **OPTIONS)
        np.testing.assert_array_equal(open_labels(outcome.output), one.labels)
    assert "not a TIFF file" in str(result[3].error)
    # Labels and job folders beside the images are no images, and what is done stays.
    again = segment_many(str(folder / "[fg]*"), bright, **OPTIONS)
    assert [(o.name, o.status, o.n_objects) for o in again] == [
        ("f2.tif", "unchanged", 2),
        ("f3.tif", "unchanged", 3),
        ("g1.ome.zarr", "unchanged", 1),
    ]


def test_other_settings_are_another_run(folder: Path) -> None:
    result = segment_many([folder / "f2.tif"], bright, **OPTIONS)
    assert result.exit_code == 0
    for changed in ({"merge": "none"}, {"tile_shape": 40}):
        refused = segment_many([folder / "f2.tif"], bright, **OPTIONS | changed)
        assert refused.exit_code == 2
        assert "exists" in str(refused[0].error)
    replaced = segment_many([folder / "f2.tif"], bright, overwrite=True, **OPTIONS | {"merge": "none"})
    assert (replaced[0].status, replaced[0].n_objects) == ("done", 4)


def test_failed_tiles_are_tried_again(folder: Path, client: Client) -> None:
    pixels = squares(2)
    pixels[50:, :10] = 65_000
    tifffile.imwrite(folder / "f2.tif", pixels)
    first = segment_many(folder / "f*.tif", bright, client=client, **OPTIONS)
    assert [(o.status, o.n_missing, o.exit_code) for o in first] == [("failed tiles", 1, 1), ("done", 0, 0)]
    assert first.exit_code == 1
    # The table says which, and the reader of the table needs no Python.
    row = next(csv.DictReader(first.table().splitlines()))
    assert (row["status"], row["failed_tiles"], row["objects"]) == ("failed tiles", "1", "2")
    second = segment_many(folder / "f*.tif", bright, client=client, **OPTIONS)
    assert [o.status for o in second] == ["failed tiles", "unchanged"]
    assert Job.open(first[0].output).staged() == {0, 1, 3}


def test_a_plate_keeps_its_layout(tmp_path: Path) -> None:
    objects = write_plate(tmp_path / "plate.zarr")
    with pytest.warns(UserWarning, match=r"1 of 3 wells are not there: C/1"):
        result = segment_many(tmp_path / "plate.zarr", bright, name="squares", **OPTIONS)
    assert {o.name: o.n_objects for o in result} == objects
    for name in objects:
        labels = tmp_path / "plate.zarr" / name / "labels"
        said = json.loads((labels / "zarr.json").read_text())["attributes"]["ome"]
        assert said["labels"] == ["squares"]
        assert open_labels(labels / "squares").max() == objects[name]
    # Elsewhere, in the same layout; the labels in the plate are not taken for images.
    elsewhere = segment_many(tmp_path / "plate.zarr" / "B" / "1", bright, tmp_path / "out", **OPTIONS)
    assert [o.output for o in elsewhere] == [tmp_path / "out" / f"{i}.labels.ome.zarr" for i in (0, 1)]


@pytest.mark.filterwarnings("ignore:.*wells are not there")
def test_a_field_is_a_scene_of_its_plate(tmp_path: Path) -> None:
    write_plate(tmp_path / "p.zarr")
    field = open_image(tmp_path / "p.zarr", scene="B/1/0")
    assert (field.shape, field.scale) == ((60, 50), (0.5, 0.5))
    with pytest.raises(
        ValueError, match=r"plate of many images. Pass the path of one field, as .*/p.zarr/A/1/0.*4 with"
    ):
        open_image(tmp_path / "p.zarr")


def test_all_scenes_of_a_file(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "two.ome.tif", ome=True) as writer:
        for n, name in ((1, "left"), (3, "right / top")):
            writer.write(squares(n), metadata={"axes": "YX", "Name": name})
    result = segment_many(tmp_path / "two.ome.tif", bright, tmp_path / "out", scene="all", **OPTIONS)
    assert [(o.output.name, o.n_objects) for o in result] == [
        ("two.left.labels.ome.zarr", 1),
        ("two.right_top.labels.ome.zarr", 3),
    ]


def test_files_of_one_image_are_one_image(tmp_path: Path) -> None:
    uuids = [f"urn:uuid:0000000{i}-0000-0000-0000-000000000000" for i in range(2)]
    planes = "".join(
        f'<TiffData FirstZ="{i}" IFD="0" PlaneCount="1"><UUID FileName="z{i}.ome.tif">{u}</UUID></TiffData>'
        for i, u in enumerate(uuids)
    )
    for i, uuid in enumerate(uuids):
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{uuid}"><Image ID="Image:0" Name="z"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
            f'SizeX="50" SizeY="60" SizeZ="2" SizeC="1" SizeT="1">{planes}</Pixels></Image></OME>'
        )
        tifffile.imwrite(tmp_path / f"z{i}.ome.tif", squares(i + 1), description=xml, metadata=None)
    with pytest.warns(UserWarning, match="1 files belong to images in several files"):
        found = find_images(tmp_path)
    assert found is not None
    assert [m.name for m in found.members] == ["z0.ome.tif"]
    assert found.others == ("z1.ome.tif",)


def test_what_cannot_be_a_batch_is_refused_before_work(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\*\.czi: there are no images"):
        segment_many(folder / "*.czi", bright)
    shutil.copy(folder / "f2.tif", folder / "f2.tiff")
    with pytest.raises(ValueError, match=r"labels of f2.tif and f2.tiff would both be"):
        segment_many(folder, bright)
    with pytest.raises(ValueError, match="give a folder for their labels"):
        segment_many(folder, bright, folder / "g1.ome.zarr")
    with pytest.raises(TypeError, match="unexpected keyword argument 'tiles'"):
        segment_many(folder, bright, tiles=3)
    with pytest.raises(TypeError, match="Pass paths"):
        segment_many(np.zeros((3, 3)), bright)  # type: ignore[arg-type]
    assert not list(folder.glob("*.job"))


def test_command_line(folder: Path, tmp_path: Path) -> None:
    (folder / "h.tif").unlink()
    listed = run("info", folder)
    assert numbers(listed.stdout)["images"] == "3"
    assert numbers(listed.stdout)["g1.ome.zarr"] == "60 x 50 (y x), uint16"
    assert "notes.txt" in numbers(listed.stdout)["left out"]
    options = ["--model", "threshold", "--workers", 0, "--quiet"]
    done = run("segment", folder / "*", "-o", tmp_path / "out", *options)
    assert numbers(done.stdout)["images"] == "3 images, 6 objects"
    assert done.stdout.splitlines()[0].startswith("[1/3] f2.tif: 2 objects, ")
    rows = list(csv.DictReader((tmp_path / "out" / "segmentation.csv").read_text().splitlines()))
    assert [row["objects"] for row in rows] == ["2", "3", "1"]
    (folder / "h.tif").write_text("no image")
    some = run("segment", folder / "h.tif", folder / "f2.tif", "-o", tmp_path / "out", *options, code=2)
    assert "[1/2] h.tif: failed: " in some.stderr
    assert "[2/2] f2.tif: 2 objects, unchanged" in some.stdout


# ---------------------------------------------------------------------------------------------------------- the network
class _Settings(NetworkModel):
    family: ClassVar[str] = "counted"
    summary: ClassVar[str] = "counts how often it is loaded"
    PERCENTILES: ClassVar[tuple[float, float]] = (1.0, 99.0)
    threshold: float = 0.5
    loads: ClassVar[int] = 0

    def load(self) -> Any:
        type(self).loads += 1
        return _Segmenter(self)


class _Segmenter(NetworkSegmenter):
    def __init__(self, settings: _Settings) -> None:
        self._settings = settings
        self.network = object()

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        return (self._settings.scaled(tile) > self._settings.threshold).astype(int)


def test_a_network_is_loaded_once_for_images_of_other_brightness() -> None:
    dim, light = (_Settings(spacing=(1, 1), sha256="0", low=0, high=high) for high in (10, 100))
    tile = np.full((4, 4), 20)
    first, second = load_once(dim), load_once(light)
    assert _Settings.loads == 1
    assert first.network is second.network  # type: ignore[attr-defined]
    assert (first(tile).max(), second(tile).max()) == (1, 0)
    load_once(light.model_copy(update={"threshold": 0.1}))
    load_once(light.model_copy(update={"spacing": (2, 2), "threshold": 0.1}))
    assert _Settings.loads == 3
