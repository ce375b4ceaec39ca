"""TIFF as other programs write it: pyramids, scenes, files that belong together, sizes in every dialect, damage."""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images import (
    ImageReadError,
    ImageSource,
    ImageWarning,
    Scene,
    list_scenes,
    open_image,
    source_from_description,
)
from napari_blockbuster.images.tiff import source as tiff

RNG = np.random.default_rng(4)
PLANE = RNG.integers(0, 60000, (200, 240), dtype=np.uint16)
COLOR = RNG.integers(0, 255, (200, 240, 3), dtype=np.uint8)
STACK = RNG.integers(0, 60000, (4, 60, 70), dtype=np.uint16)


def pixels(source: ImageSource) -> np.ndarray:
    return source.read(Box((0,) * source.ndim, source.shape))


# ------------------------------------------------------------------------------------------------------------ pyramids
def write_pyramid(path: Path, kind: str, data: np.ndarray) -> None:
    options: dict[str, Any] = {"tile": (64, 64), "photometric": "rgb" if data.ndim == 3 else "minisblack"}
    levels = [data[::k, ::k] for k in (1, 2, 4)]
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    with tifffile.TiffWriter(path, ome=kind == "ome") as writer:
        if kind in ("ome", "plain"):
            metadata = {"axes": "YXS" if data.ndim == 3 else "YX", **sizes} if kind == "ome" else None
            writer.write(levels[0], subifds=2, metadata=metadata, **options)
            for level in levels[1:]:
                writer.write(level, subfiletype=1, **options)
        elif kind == "pages":
            for i, level in enumerate(levels):
                writer.write(level, subfiletype=int(i > 0), metadata=None, **options)
        else:
            # As Aperio's scanners: a thumbnail in strips comes second, and the size is in the description.
            text = "Aperio Image Library v11.2.1\r\n240x200|AppMag = 20|MPP = 0.5000"
            for level in (levels[0], levels[2], levels[1]):
                tiled = {"tile": (64, 64)} if level is not levels[2] else {}
                writer.write(level, photometric="rgb", description=text, metadata=None, **tiled)


PYRAMIDS = [("ome", PLANE), ("ome", COLOR), ("plain", PLANE), ("plain", COLOR), ("pages", PLANE), ("svs", COLOR)]


@pytest.mark.parametrize(("kind", "data"), PYRAMIDS, ids=[f"{k}-{d.ndim}d" for k, d in PYRAMIDS])
@pytest.mark.parametrize("level", [0, 1])
def test_a_pyramid_at_full_resolution_and_below(tmp_path: Path, kind: str, data: np.ndarray, level: int) -> None:
    path = tmp_path / f"a.{'svs' if kind == 'svs' else 'tif'}"
    write_pyramid(path, kind, data)
    truth = data[:: 2**level, :: 2**level]
    channel = 1 if data.ndim == 3 else None
    source = open_image(path, channel=channel, level=level)
    size = (0.5 if kind in ("ome", "svs") else 1.0) * 2**level
    assert source.scale == (size, size)
    for image in (source, pickle.loads(pickle.dumps(source)), source_from_description(source.describe())):
        np.testing.assert_array_equal(pixels(image), truth if channel is None else truth[..., channel])


def test_levels_that_do_not_exist(tmp_path: Path) -> None:
    write_pyramid(tmp_path / "a.tif", "ome", PLANE)
    with pytest.raises(
        ValueError, match=r"there is no level 3 .* Its levels are 0: 200 x 240; 1: 100 x 120; 2: 50 x 60"
    ):
        open_image(tmp_path / "a.tif", level=3)


# -------------------------------------------------------------------------------------------------------------- scenes
def write_scenes(path: Path, *parts: tuple[str, np.ndarray, float]) -> None:
    with tifffile.TiffWriter(path, ome=True) as writer:
        for name, data, size in parts:
            says = {"axes": "YX", "Name": name, "PhysicalSizeX": size, "PhysicalSizeY": size}
            writer.write(data, metadata=says)


def test_scenes_by_name_and_number(tmp_path: Path) -> None:
    write_scenes(tmp_path / "a.ome.tif", ("overview", PLANE[:50, :60], 4.0), ("tissue", PLANE, 0.5))
    assert list_scenes(tmp_path / "a.ome.tif") == [Scene("overview", (50, 60)), Scene("tissue", (200, 240))]
    for scene in (1, "1", "tissue"):
        source = open_image(tmp_path / "a.ome.tif", scene=scene)
        assert source.scale == (0.5, 0.5)
        np.testing.assert_array_equal(pixels(source_from_description(source.describe())), PLANE)
    assert open_image(tmp_path / "a.ome.tif", scene=0).scale == (4.0, 4.0)
    listed = r"0 \(overview, 50 x 60\), 1 \(tissue, 200 x 240\)"
    with pytest.raises(ValueError, match=rf"holds 2 images. Choose one with scene= \(--scene\): {listed}"):
        open_image(tmp_path / "a.ome.tif")
    with pytest.raises(ValueError, match=rf"there is no scene 'x' in .*. Its scenes are {listed}"):
        open_image(tmp_path / "a.ome.tif", scene="x")


def test_the_first_scene_is_meant_where_it_is_the_largest(tmp_path: Path) -> None:
    write_scenes(tmp_path / "a.ome.tif", ("tissue", PLANE, 0.5), ("label", PLANE[:50, :60], 4.0))
    np.testing.assert_array_equal(pixels(open_image(tmp_path / "a.ome.tif")), PLANE)
    write_scenes(tmp_path / "b.ome.tif", ("field 1", PLANE, 0.5), ("field 2", PLANE + 1, 0.5))
    with pytest.warns(ImageWarning, match=r"b\.ome\.tif holds 2 images. Number 0 is read"):
        np.testing.assert_array_equal(pixels(open_image(tmp_path / "b.ome.tif")), PLANE)


# -------------------------------------------------------------------------------------------- files that belong together
UUIDS = [f"urn:uuid:00000000-0000-0000-0000-00000000000{k}" for k in range(4)]


def head(own: str) -> str:
    space = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    return f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{space}" UUID="{own}">'


def image(i: int, shape: tuple[int, ...], files: Sequence[tuple[str, str]], size: float) -> str:
    planes = "".join(
        f'<TiffData FirstC="0" FirstT="0" FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{name}">{uuid}</UUID></TiffData>'
        for z, (name, uuid) in enumerate(files)
    )
    return (
        f'<Image ID="Image:{i}" Name="field"><Pixels ID="Pixels:{i}" DimensionOrder="XYZCT" Type="uint16" '
        f'SizeX="{shape[1]}" SizeY="{shape[0]}" SizeZ="{len(files)}" SizeC="1" SizeT="1" PhysicalSizeX="{size}" '
        f'PhysicalSizeY="{size}" PhysicalSizeZ="2"><Channel ID="Channel:{i}:0" SamplesPerPixel="1"/>{planes}</Pixels></Image>'
    )


def write_fields(folder: Path, shape: tuple[int, int], padding: int) -> list[np.ndarray]:
    """Two fields of one name and size in a file each; the OME-XML in both names both."""
    fields = [RNG.integers(0, 60000, shape, dtype=np.uint16) for _ in range(2)]
    names = ["f0.ome.tif", "f1.ome.tif"]
    body = "".join(image(i, shape, [(names[i], UUIDS[i])], 0.1 * (i + 1)) for i in range(2)) + "</OME>"
    for i, field in enumerate(fields):
        text = head(UUIDS[i]) + (f"<!--{'x' * padding}-->" if i else "") + body
        tifffile.imwrite(folder / names[i], field, description=text, metadata=None, rowsperstrip=shape[0])
    return fields


@pytest.mark.parametrize(("shape", "padding"), [((120, 130), 0), ((1600, 1500), 0), ((1600, 1500), 6000)])
def test_each_file_of_several_shows_its_own_pixels(tmp_path: Path, shape: tuple[int, int], padding: int) -> None:
    fields = write_fields(tmp_path, shape, padding)
    for i, name in enumerate(("f0.ome.tif", "f1.ome.tif")):
        source = pickle.loads(pickle.dumps(open_image(tmp_path / name)))
        np.testing.assert_array_equal(pixels(source), fields[i])
        assert source.scale == pytest.approx((0.1 * (i + 1),) * 2)
        other = open_image(tmp_path / name, scene=1 - i)
        np.testing.assert_array_equal(pixels(other), fields[1 - i])
        assert other.scale == pytest.approx((0.1 * (2 - i),) * 2)


def test_a_field_whose_other_files_were_left_behind(tmp_path: Path) -> None:
    fields = write_fields(tmp_path, (120, 130), 0)
    (tmp_path / "f0.ome.tif").unlink()
    source = open_image(tmp_path / "f1.ome.tif")
    np.testing.assert_array_equal(pixels(source), fields[1])
    assert source.scale == pytest.approx((0.2, 0.2))


@pytest.mark.parametrize("shape", [(40, 50), (1600, 1500)])
def test_planes_in_files_of_their_own(tmp_path: Path, shape: tuple[int, int]) -> None:
    """Small planes are read through a cache of whole pages; of large ones only the corner that is asked for."""
    stack = RNG.integers(0, 60000, (3, *shape), dtype=np.uint16)
    names = [f"z{k}.ome.tif" for k in range(3)]
    body = image(0, shape, list(zip(names, UUIDS, strict=False)), 0.5) + "</OME>"
    for k, name in enumerate(names):
        text = head(UUIDS[k]) + f"<!--{'x' * (1000 * k)}-->" + body
        order = "<>"[k % 2]
        tifffile.imwrite(
            tmp_path / name, stack[k], description=text, metadata=None, byteorder=order, rowsperstrip=shape[0]
        )
    for name in (names[0], names[2]):
        source = pickle.loads(pickle.dumps(open_image(tmp_path / name)))
        assert (source.axes, source.scale) == (("z", "y", "x"), (2.0, 0.5, 0.5))
        np.testing.assert_array_equal(pixels(source), stack)
        corner = Box((1, 20, 30), (3, 40, 45))
        np.testing.assert_array_equal(source.read(corner), stack[corner.slices])
    (tmp_path / names[1]).unlink()
    with pytest.raises(ImageReadError, match=r"1 of 3 planes are in files that are missing: z1\.ome\.tif"):
        open_image(tmp_path / names[0])


def test_a_file_whose_metadata_are_in_a_companion(tmp_path: Path) -> None:
    names = [f"c{k}.tif" for k in range(4)]
    body = image(0, STACK.shape[1:], list(zip(names, UUIDS, strict=True)), 0.5) + "</OME>"
    (tmp_path / "a.companion.ome").write_text(head("urn:uuid:all") + body)
    for k, name in enumerate(names):
        text = head(UUIDS[k]) + '<BinaryOnly MetadataFile="a.companion.ome" UUID="urn:uuid:all"/></OME>'
        tifffile.imwrite(tmp_path / name, STACK[k], description=text, metadata=None)
    for name in (names[0], names[2]):
        source = open_image(tmp_path / name)
        np.testing.assert_array_equal(pixels(source), STACK)
        assert source.scale == (2.0, 0.5, 0.5)
    with pytest.raises(ValueError, match=r"holds only metadata\. Pass one of the TIFF files"):
        open_image(tmp_path / "a.companion.ome")
    (tmp_path / "a.companion.ome").unlink()
    with pytest.warns(ImageWarning, match=r"its OME-XML is in a file that is missing, a\.companion\.ome"):
        np.testing.assert_array_equal(pixels(open_image(tmp_path / names[1])), STACK[1])


# -------------------------------------------------------------------------------------------------------------- damage
def good_xml(path: Path) -> str:
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(path, STACK, metadata={"axes": "ZYX", **sizes}, photometric="minisblack")
    xml = tifffile.TiffFile(path).ome_metadata
    assert xml is not None
    return xml


DAMAGE = {
    "cut off": lambda xml: xml[: len(xml) // 2],
    "not well-formed": lambda xml: xml.replace("</Pixels>", ""),
    "no number": lambda xml: xml.replace('SizeZ="4"', 'SizeZ="four"'),
    "attribute missing": lambda xml: xml.replace('SizeC="1"', ""),
    "other width": lambda xml: xml.replace('SizeX="70"', 'SizeX="71"'),
    "no image": lambda xml: re.sub("<Image.*</Image>", "", xml),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_ome_xml_costs_the_sizes_and_not_the_pixels(
    tmp_path: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    xml = DAMAGE[damage](good_xml(tmp_path / "good.ome.tif"))
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, description=xml, metadata=None, photometric="minisblack")
    with pytest.warns(ImageWarning, match=r"a\.ome\.tif: its OME-XML .*. Its pixels are read"):
        source = open_image(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(pixels(source), STACK)
    assert (source.scale, source.units) == ((1.0, 1.0, 1.0), (None, None, None))
    assert capfd.readouterr().err == ""


def test_planes_that_a_file_promises_but_does_not_have(tmp_path: Path) -> None:
    xml = good_xml(tmp_path / "good.ome.tif").replace('SizeZ="4"', 'SizeZ="9"')
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, description=xml, metadata=None, photometric="minisblack")
    with pytest.raises(ImageReadError, match="5 of 9 planes are not there, though its OME-XML names them"):
        open_image(tmp_path / "a.ome.tif")


def test_a_renamed_file_is_the_file_that_its_xml_means(tmp_path: Path) -> None:
    xml = good_xml(tmp_path / "good.ome.tif")
    own = re.search('UUID="(urn[^"]*)"', xml)
    assert own
    data = f'<TiffData IFD="0" PlaneCount="4"><UUID FileName="before.ome.tif">{own[1]}</UUID></TiffData>'
    named = xml.replace('<TiffData IFD="0" PlaneCount="4"/>', data)
    assert named != xml
    for text in (named, named.replace('UUID="urn', 'Was="urn', 1)):
        tifffile.imwrite(tmp_path / "after.ome.tif", STACK, description=text, metadata=None, photometric="minisblack")
        source = open_image(tmp_path / "after.ome.tif")
        np.testing.assert_array_equal(pixels(source), STACK)
        assert source.scale == (2.0, 0.5, 0.5)


# --------------------------------------------------------------------------------------------------------------- sizes
def test_sizes_are_those_that_ome_types_reads(tmp_path: Path) -> None:
    """A full model of OME-XML as the judge of the few attributes that are read here."""
    ome_types = pytest.importorskip("ome_types")
    says = {"axes": "TCZYX", "PhysicalSizeX": 250.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.25}
    says |= {"PhysicalSizeZ": 0.001, "PhysicalSizeZUnit": "mm", "TimeIncrement": 200.0, "TimeIncrementUnit": "ms"}
    says |= {"Channel": {"Name": ["0488", "DAPI, blue"]}}
    film = RNG.integers(0, 255, (3, 2, 4, 20, 30), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.ome.tif", film, metadata=says, photometric="minisblack")
    model = ome_types.from_tiff(tmp_path / "a.ome.tif").images[0].pixels
    source = open_image(tmp_path / "a.ome.tif", channel="DAPI, blue")
    quantities = (model.physical_size_z_quantity, model.physical_size_y_quantity, model.physical_size_x_quantity)
    assert source.spacing == pytest.approx([q.to("nm").magnitude for q in quantities])
    assert source.units == ("millisecond", "nanometer", "nanometer", "nanometer")
    assert source.scale[0] == model.time_increment
    with pytest.raises(ValueError, match=re.escape("0 (0488), 1 (DAPI, blue)")):
        open_image(tmp_path / "a.ome.tif")
    assert [c.name for c in model.channels] == ["0488", "DAPI, blue"]


@pytest.mark.parametrize(
    ("unit", "value", "size"),
    [("CENTIMETER", 20_000, 0.5), ("INCH", 50_800, 0.5), ("INCH", 72, None), ("NONE", 2, None), ("INCH", 300, None)],
)
def test_resolution_tags(tmp_path: Path, unit: str, value: int, size: float | None) -> None:
    """Programs that know nothing of a microscope write 72 or 300 dots per inch: no pixel is 0.35 mm wide."""
    tifffile.imwrite(tmp_path / "a.tif", PLANE, resolution=(value, value), resolutionunit=unit)
    source = open_image(tmp_path / "a.tif")
    assert source.scale == (size or 1.0,) * 2
    assert source.units == (("micrometer",) * 2 if size else (None, None))


@pytest.mark.parametrize(
    ("unit", "name"),
    [("um", "micrometer"), ("micron", "micrometer"), ("\\u00B5m", "micrometer"), ("nm", "nanometer"), ("pixel", None)],
)
def test_units_as_imagej_writes_them(tmp_path: Path, unit: str, name: str | None) -> None:
    says = {"axes": "ZYX", "spacing": 2.0, "unit": unit}
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, resolution=(4, 4), metadata=says)
    source = open_image(tmp_path / "a.tif")
    assert (source.scale, source.units) == ((2.0, 0.25, 0.25), (name,) * 3)


@pytest.mark.parametrize("spacing", [-0.6, 0.0, float("nan"), float("inf"), 1e9])
def test_a_spacing_that_cannot_be_is_unknown(tmp_path: Path, spacing: float) -> None:
    says = {"axes": "ZYX", "spacing": spacing, "unit": "um"}
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, resolution=(5, 5), metadata=says)
    with pytest.warns(ImageWarning, match=r"a\.tif: voxel size unknown along z .*. Used instead: 0\.2 micrometer"):
        source = open_image(tmp_path / "a.tif")
    assert (source.scale, source.units) == ((0.2, 0.2, 0.2), (None, "micrometer", "micrometer"))


# --------------------------------------------------------------------------------------------------- axes, types, names
def test_the_suffix_is_no_judge(tmp_path: Path) -> None:
    for name in ("a", "a.stk", "a.qptiff", "a.dat", "a.czi.bak"):
        tifffile.imwrite(tmp_path / name, PLANE)
        np.testing.assert_array_equal(pixels(open_image(tmp_path / name)), PLANE)
    (tmp_path / "b.tif").write_text("no TIFF")
    with pytest.raises(ImageReadError, match=r"b\.tif cannot be read as TIFF \(not a TIFF file"):
        open_image(tmp_path / "b.tif")


@pytest.mark.parametrize("ome", [True, False])
@pytest.mark.parametrize("planar", [True, False])
@pytest.mark.parametrize("size", [60, 1600])
def test_color_interleaved_and_planar(tmp_path: Path, ome: bool, planar: bool, size: int) -> None:
    data = RNG.integers(0, 255, (size, size + 10, 3), dtype=np.uint8)
    stored = np.moveaxis(data, -1, 0).copy() if planar else data
    options: dict[str, Any] = {"planarconfig": "separate"} if planar else {}
    axes = "SYX" if planar else "YXS"
    name = "a.ome.tif" if ome else "a.tif"
    tifffile.imwrite(
        tmp_path / name,
        stored,
        photometric="rgb",
        rowsperstrip=size,
        metadata={"axes": axes} if ome else None,
        **options,
    )
    for channel in range(3):
        source = open_image(tmp_path / name, channel=channel)
        np.testing.assert_array_equal(pixels(source), data[..., channel])
        corner = Box((size - 9, 5), (size, 16))
        np.testing.assert_array_equal(source.read(corner), data[size - 9 :, 5:16, channel])


def test_samples_beside_channels_are_channels_of_their_own(tmp_path: Path) -> None:
    data = RNG.integers(0, 255, (2, 3, 30, 40, 3), dtype=np.uint8)
    says = {"axes": "CZYXS", "Channel": {"Name": ["H&E", "IHC"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", data, photometric="rgb", metadata=says)
    for channel, (c, s) in {0: (0, 0), 4: (1, 1), "IHC B": (1, 2)}.items():
        source = open_image(tmp_path / "a.ome.tif", channel=channel)
        assert source.axes == ("z", "y", "x")
        np.testing.assert_array_equal(pixels(source_from_description(source.describe())), data[c, :, ..., s])
    several = open_image(tmp_path / "a.ome.tif", channel=(0, 1, 2))
    np.testing.assert_array_equal(pixels(several), data[0])
    with pytest.raises(ValueError, match=r"has 6 channels. .* 0 \(H&E R\), 1 \(H&E G\), .*5 \(IHC B\)"):
        open_image(tmp_path / "a.ome.tif")
    with pytest.raises(ValueError, match="has channels and color samples"):
        open_image(tmp_path / "a.ome.tif", channel=0, axes="tzyxc")


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_pixels_are_refused_before_work(tmp_path: Path, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PLANE.astype(dtype))
    with pytest.raises(ValueError, match=f"pixels of type {dtype}. .* Pass its magnitude"):
        open_image(tmp_path / "a.tif")


def test_large_uncompressed_pages_of_an_ome_tiff_are_not_read_whole(tmp_path: Path) -> None:
    """Bio-Formats puts the directory of a page before its pixels: pages are apart, each in one piece."""
    data = RNG.integers(0, 60000, (3, 1500, 1600), dtype=np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for plane in data:
            writer.write(plane, metadata=None, contiguous=False, rowsperstrip=1500)
    source = open_image(tmp_path / "a.tif")
    opened = tiff._open(source.path, source.series, source.level, source.opening)
    assert isinstance(opened.reader, tiff._Contiguous)
    np.testing.assert_array_equal(pixels(source), data)
