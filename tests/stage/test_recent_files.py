"""Files of tiles that a process has read before: parts come from memory, unless the tile was segmented again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_blockbuster.stage.records import tile_file
from napari_blockbuster.stage.records.tile_file import TileFile, packed

PIXELS = np.dtype("<u4")


def written(path: Path, value: int) -> str:
    band = np.full((8, 8), value, PIXELS)
    # A new name each time, as staging does.
    path.with_suffix(".tmp").write_bytes(packed({"index": 1}, {"0/low": band, "0/high": band + 1}))
    path.with_suffix(".tmp").replace(path)
    return str(path)


def band_of(name: str, part: str = "0/low") -> int:
    found = TileFile.recent(name).part(part, PIXELS)
    assert found is not None
    return int(found[0, 0])


def test_a_tile_that_was_segmented_again_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = written(tmp_path / "1.tile", 5)
    assert band_of(name) == 5
    read: list[str] = []
    monkeypatch.setattr(
        TileFile, "_read", lambda file, part, real=TileFile._read: read.append(part) or real(file, part)
    )
    assert band_of(name) == 5
    assert read == []
    written(tmp_path / "1.tile", 7)
    assert (band_of(name), band_of(name, "0/high")) == (7, 8)
    assert read == ["0/low", "0/high"]
    (tmp_path / "1.tile").unlink()
    with pytest.raises(FileNotFoundError):
        TileFile.recent(name)


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recent = tile_file._Recent(3000)
    monkeypatch.setattr(tile_file, "_recent", recent)
    names = [written(tmp_path / f"{n}.tile", n) for n in range(20)]
    for _ in range(2):
        for n, name in enumerate(names):
            assert (band_of(name), band_of(name, "0/high")) == (n, n + 1)
    assert 0 < recent._bytes <= 3000
    kept = [file for file, _ in recent._files.values()]
    assert recent._bytes == sum(len(f._data) + sum(map(len, (f._kept or {}).values())) for f in kept)
