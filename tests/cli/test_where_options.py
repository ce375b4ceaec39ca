"""Where to segment, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import zarr
from command_line import mistake, numbers, run
from jobs import SHAPE, write_image

WORDS = ["--model", "threshold", "--tile", 8, 12, 10, "--halo", 3, "--workers", 0, "-q"]


def test_a_box_a_polygon_and_chosen_tiles_on_the_command_line(tmp_path: Path) -> None:
    image = write_image(tmp_path / "image.zarr")
    output = tmp_path / "labels.zarr"
    done = run("segment", image, "-o", output, *WORDS, "--where", "0:8,:,0:10", "--inside", "clip")
    assert numbers(done.stdout)["tiles"] == "3 of 3, 24 tiles skipped"
    labels = zarr.open_array(str(output / "0"))[:]
    assert labels.any()
    assert not labels[8:].any()
    assert not labels[:, :, 10:].any()
    said = json.loads(run("info", output, "--json").stdout)
    assert said["tiles"] == "27: 3 staged, 0 failed, 0 missing, 24 skipped"
    assert said["where"] == "box 0:8,:,0:10 (inside [0:8, 0:30, 0:10], objects: clip)"
    assert "complete" in run("resume", output).stdout

    square = [[11, 1], [24, 1], [24, 9], [11, 9], [11, 1]]
    (tmp_path / "one.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [square]}))
    region = ["--where", tmp_path / "one.geojson", "--where", "0:8,:,0:10"]
    grown = run("segment", image, "-o", output, *WORDS, *region, "--overwrite")
    assert numbers(grown.stdout)["tiles"] == "9 of 9, 18 tiles skipped"
    assert "9 tiles now, 3 tiles before. 3 of them are staged already" in grown.stderr

    tiles = run("segment", image, "-o", tmp_path / "tiles.zarr", *WORDS, "--where", "tiles:0,4-5")
    assert numbers(tiles.stdout)["tiles"] == "3 of 3, 24 tiles skipped"
    assert np.shape(labels) == SHAPE


def test_regions_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    image = write_image(tmp_path / "image.zarr")
    assert "outside the image" in mistake("segment", image, "-o", tmp_path / "a.zarr", *WORDS, "--where", "99:100,:,:")
    assert "neither a file nor a box" in mistake("segment", image, "-o", tmp_path / "a.zarr", *WORDS, "--where", "mask")
    assert "--inside clip needs --where" in mistake("segment", image, "-o", tmp_path / "a.zarr", "--inside", "clip")
