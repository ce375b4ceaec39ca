"""Small files of microscope makers. CZI, IMS and N5 are written by their libraries; ND2 and LIF as their formats lay them out."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


# ----------------------------------------------------------------------------------------------------------------- CZI
def write_czi(path: Path, scenes: Sequence[np.ndarray], channels: Sequence[str], voxel: tuple[float, ...]) -> Path:
    """Scenes side by side, each (t, c, z, y, x) or (t, c, z, y, x, 3); the size of a voxel in micrometers along z, y, x."""
    from pylibCZIrw import czi

    with czi.create_czi(str(path)) as document:
        x = 0
        for number, pixels in enumerate(scenes):
            for t, c, z in np.ndindex(pixels.shape[:3]):
                plane = pixels[t, c, z]
                # Colors are stored as blue, green, red.
                data = plane[..., ::-1] if plane.ndim == 3 else plane[..., None]
                place = {"T": t, "C": c, "Z": z}
                document.write(np.ascontiguousarray(data), plane=place, scene=number, location=(x, 0))
            x += pixels.shape[4] + 500
        z, y, x = (size * 1e-6 for size in voxel)
        names = dict(enumerate(channels))
        document.write_metadata("image", channel_names=names, scale_x=x, scale_y=y, scale_z=z)
    return path


# ----------------------------------------------------------------------------------------------------------------- IMS
def write_ims(path: Path, levels: Sequence[np.ndarray], channels: Sequence[str], voxel: tuple[float, ...]) -> Path:
    """Levels of (t, c, z, y, x), stored in data sets that are larger than the image, as Imaris does."""
    import h5py

    def text(value: object) -> np.ndarray:
        return np.frombuffer(str(value).encode(), "S1")

    with h5py.File(path, "w") as file:
        for number, pixels in enumerate(levels):
            chunks = (4, 16, 16)
            for t, c in np.ndindex(pixels.shape[:2]):
                group = file.create_group(f"DataSet/ResolutionLevel {number}/TimePoint {t}/Channel {c}")
                for axis, n in zip("ZYX", pixels.shape[2:], strict=True):
                    group.attrs[f"ImageSize{axis}"] = text(n)
                padded = [-(-n // k) * k for n, k in zip(pixels.shape[2:], chunks, strict=True)]
                data = group.create_dataset("Data", padded, pixels.dtype, chunks=chunks, compression="gzip")
                data[tuple(slice(n) for n in pixels.shape[2:])] = pixels[t, c]
        image = file.create_group("DataSetInfo/Image")
        for axis, (n, size) in enumerate(zip(levels[0].shape[:1:-1], voxel[::-1], strict=True)):
            image.attrs[f"ExtMin{axis}"], image.attrs[f"ExtMax{axis}"] = text(100), text(100 + n * size)
        image.attrs["Unit"] = text("um")
        for number, name in enumerate(channels):
            file.create_group(f"DataSetInfo/Channel {number}").attrs["Name"] = text(name)
    return path


# ------------------------------------------------------------------------------------------------------------------ N5
def write_n5(path: Path, pixels: np.ndarray, **attributes: Any) -> Path:
    """A dataset; attributes are those of N5, in which x comes first."""
    import json

    import tensorstore as ts

    metadata = {
        "dimensions": pixels.shape[::-1],
        "blockSize": [16] * pixels.ndim,
        "dataType": str(pixels.dtype),
        "compression": {"type": "gzip"},
    }
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{path}/"}, "metadata": metadata}
    ts.open(spec, create=True).result().T.write(pixels).result()
    said = path / "attributes.json"
    said.write_text(json.dumps(json.loads(said.read_text()) | attributes))
    return path


# ----------------------------------------------------------------------------------------------------------------- LIF
def write_lif(path: Path, images: dict[str, np.ndarray], voxel: tuple[float, ...]) -> Path:
    """Images of (t, c, z, y, x) by name."""
    blocks, elements = [], []
    for number, (name, pixels) in enumerate(images.items()):
        n, size = pixels.shape, pixels.dtype.itemsize
        steps = [s // size * size for s in np.zeros(n, pixels.dtype).strides]
        one = f'DataType="0" ChannelTag="0" Resolution="{8 * size}" NameOfMeasuredQuantity="" Min="0" Max="1" Unit=""'
        channels = "".join(
            f'<ChannelDescription {one} LUTName="Gray" IsLUTInverted="0" BytesInc="{c * steps[1]}" BitInc="0"/>'
            for c in range(n[1])
        )
        axes = ((1, 4, voxel[2]), (2, 3, voxel[1]), (3, 2, voxel[0]), (4, 0, 3e6))
        dimensions = "".join(
            f'<DimensionDescription DimID="{dim}" NumberOfElements="{n[a]}" Origin="0" Length="{(n[a] - 1) * step * 1e-6}" '
            f'Unit="{"s" if dim == 4 else "m"}" BitInc="0" BytesInc="{steps[a]}"/>'
            for dim, a, step in axes
            if n[a] > 1
        )
        said = f"<Channels>{channels}</Channels><Dimensions>{dimensions}</Dimensions>"
        elements.append(
            f'<Element Name="{name}" UniqueID="{number}"><Data><Image><ImageDescription>{said}</ImageDescription></Image>'
            f'</Data><Memory Size="{pixels.nbytes}" MemoryBlockID="MemBlock_{number}"/></Element>'
        )
        label = f"MemBlock_{number}".encode("utf-16-le")
        head = struct.pack("<IIBQBI", 0x70, 14 + len(label), 0x2A, pixels.nbytes, 0x2A, len(label) // 2)
        blocks.append(head + label + np.ascontiguousarray(pixels).tobytes())
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="all" UniqueID="x"><Memory Size="0" MemoryBlockID="MemBlock_x"/>'
        f"<Children>{''.join(elements)}</Children></Element></LMSDataContainerHeader>"
    ).encode("utf-16-le")
    start = struct.pack("<IIBI", 0x70, len(xml) + 5, 0x2A, len(xml) // 2)
    path.write_bytes(start + xml + b"".join(blocks))
    return path


# ----------------------------------------------------------------------------------------------------------------- ND2
UNLIT = {"pFluorescentProbe": {"m_uiCount": 0}, "pFilterPath": {"m_uiCount": 0}}
"""A channel without a dye or a filter."""


def write_nd2(
    path: Path, pixels: np.ndarray, channels: Sequence[str], voxel: tuple[float, ...], *, written: int | None = None
) -> Path:
    """Positions, times and planes (p, t, z, y, x, c) of an ND2 3.0 file; only the first `written` of its frames, if given."""
    positions, times, planes, height, width, count = pixels.shape
    frames = pixels.reshape(-1, height, width, count)
    frames = frames[: len(frames) if written is None else written]
    attributes = {
        "uiWidth": width,
        "uiWidthBytes": width * count * pixels.itemsize,
        "uiHeight": height,
        "uiComp": count,
        "uiBpcInMemory": 8 * pixels.itemsize,
        "uiBpcSignificant": 8 * pixels.itemsize,
        "uiSequenceCount": len(frames),
        "eCompression": 2,
    }
    named = {f"a{i}": {"sDescription": name, "uiCompCount": 1, **UNLIT} for i, name in enumerate(channels)}
    metadata = {
        "bCalibrated": True,
        "dCalibration": float(voxel[2]),
        "sPicturePlanes": {"uiCount": count, "sPlaneNew": named},
    }
    stack = _loop(4, {"uiCount": planes, "dZLow": 0.0, "dZHigh": voxel[0] * (planes - 1), "dZStep": float(voxel[0])})
    film = _loop(1, {"uiCount": times, "dStart": 0.0, "dPeriod": 1000.0, "dDuration": 1000.0 * times}, stack)
    points = {f"p{i}": {"dPosX": 1.0 * i, "dPosY": 0.0, "dPosName": f"well {i}"} for i in range(positions)}
    chunks = {
        b"ImageAttributesLV!": _level("SLxImageAttributes", attributes),
        b"ImageMetadataSeqLV|0!": _level("SLxPictureMetadata", metadata),
        b"ImageMetadataLV!": _level("SLxExperiment", _loop(2, {"Points": points}, film)),
        # The pixels follow eight bytes that hold the time.
        **{f"ImageDataSeq|{i}!".encode(): bytes(8) + frame.tobytes() for i, frame in enumerate(frames)},
    }
    _write_chunks(path, chunks)
    return path


def _loop(kind: int, parameters: dict[str, Any], inner: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"eType": kind, "uLoopPars": parameters, **({"ppNextLevelEx": {"i0": inner}} if inner else {})}


def _level(name: str, values: dict[str, Any]) -> bytes:
    """A level of named values, and the table of their offsets."""
    items = b"".join(_item(key, value) for key, value in values.items())
    head = _head(11, name)
    return head + struct.pack("<IQ", len(values), len(head) + 12 + len(items)) + items + bytes(8 * len(values))


def _item(name: str, value: Any) -> bytes:
    if isinstance(value, dict):
        return _level(name, value)
    if isinstance(value, bool):
        return _head(1, name) + bytes([value])
    if isinstance(value, int):
        return _head(3, name) + struct.pack("<I", value)
    if isinstance(value, float):
        return _head(6, name) + struct.pack("<d", value)
    return _head(8, name) + value.encode("utf-16-le") + b"\0\0"


def _head(kind: int, name: str) -> bytes:
    return bytes([kind, len(name) + 1]) + name.encode("utf-16-le") + b"\0\0"


def _write_chunks(path: Path, chunks: dict[bytes, bytes]) -> None:
    magic, room = 0x0ABECEDA, 4072
    with path.open("wb") as file:
        file.write(
            struct.pack("<IIQ", magic, 32, 64) + b"ND2 FILE SIGNATURE CHUNK NAME01!" + b"Ver3.0".ljust(64, b"\0")
        )
        file.write(bytes(4096 - file.tell()))
        places = b""
        for name, data in chunks.items():
            places += name + struct.pack("<QQ", file.tell(), len(data))
            # Pixels begin 4096 bytes after the start of their chunk: a head of 16, the name, and the time.
            file.write(struct.pack("<IIQ", magic, room, len(data)) + name.ljust(room, b"\0") + data)
        start = file.tell()
        end = b"ND2 CHUNK MAP SIGNATURE 0000001!"
        table = places + end + struct.pack("<Q", start)
        file.write(struct.pack("<IIQ", magic, 32, len(table)) + b"ND2 FILEMAP SIGNATURE NAME 0001!" + table)
