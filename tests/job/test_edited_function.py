"""A function that is edited between two runs of a job: the file is read anew, and tiles of two versions are not mixed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_blockbuster import Job, segment
from napari_blockbuster.cli.main import main
from napari_blockbuster.job.steps.second_try import SecondTry, tiles_again
from napari_blockbuster.machine.errors import JobMismatchError
from napari_blockbuster.models import as_model
from napari_blockbuster.stage.trial import TrialError

HEAD = "import numpy as np\nfrom scipy import ndimage\n\ndef f(tile):\n"
GOOD = HEAD + "    return ndimage.label(tile > 100)[0]\n"
BROKEN = HEAD + "    raise ValueError('a typing error')\n"
PICKY = HEAD + "    assert tile.max() < 250, 'too bright'\n    return ndimage.label(tile > 100)[0]\n"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Six tiles of 10 x 10 pixels; the first and the last hold a pixel that `PICKY` fails on."""
    pixels = np.zeros((20, 30), np.uint8)
    pixels[2:8, 2:28] = pixels[12:18, 2:28] = 200
    pixels[0, 0] = pixels[19, 29] = 255
    zarr.create_array(str(tmp_path / "image.zarr"), data=pixels, chunks=(10, 10))
    return tmp_path / "image.zarr"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "own.py"


def job_of(image: Path, file: Path, **options: Any) -> Job:
    return Job.create(image, f"{file}:f", image.with_name("labels.ome.zarr"), tile_shape=10, halo=2, **options)


def digest(file: Path) -> str:
    return as_model(f"{file}:f").settings()["sha256"]


def words(image: Path, file: Path) -> list[str]:
    output = image.with_name("labels.ome.zarr")
    return ["segment", str(image), "--model", f"{file}:f", "-o", str(output), "--tile", "10", "--halo", "2", "-q"]


def test_a_job_of_which_nothing_is_staged_takes_the_edited_function(image: Path, file: Path) -> None:
    file.write_text(BROKEN)
    job = job_of(image, file)
    with pytest.raises(TrialError, match="a typing error"):
        list(job.stage())
    file.write_text(GOOD)
    assert len(list(job.stage())) == 6
    assert tiles_again(job.folder) == {}
    for each in (job, Job.open(job.folder)):
        assert each.spec.model["sha256"] == each.spec.prepared["sha256"] == digest(file)
    # It is that job now: the same call continues it, and the old text is the edited one.
    assert len(job_of(image, file).staged()) == 6
    file.write_text(BROKEN)
    assert list(job.stage()) == []


def test_failed_tiles_run_with_the_edited_function_and_it_is_recorded(image: Path, file: Path) -> None:
    file.write_text(PICKY)
    job = job_of(image, file)
    list(job.stage())
    failed = sorted(job.failed())
    assert failed == [0, 5]
    before = {path: path.stat().st_mtime_ns for path in (job.store.folder / "tiles").glob("*/*")}

    file.write_text(GOOD)
    assert len(list(job.stage(tiles=failed))) == 2
    assert job.failed() == {}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert job.spec.model["sha256"] != digest(file)
    result = job.write(job.merge("touch"), keep_stage=True)
    recorded = result.provenance["tiles"]["segmented_again"]
    assert {int(index): each["sha256"] for index, each in recorded.items()} == dict.fromkeys(failed, digest(file))
    assert result.provenance["model"]["sha256"] != digest(file)
    # The same two bars of pixels as one run of the mended function gives, and its two bright pixels.
    assert result.n_objects == 4

    assert SecondTry(job).go_back([0]) == [0]
    assert sorted(tiles_again(job.folder)) == [5]


def test_an_edited_function_that_fails_again_is_not_recorded(image: Path, file: Path) -> None:
    file.write_text(PICKY)
    job = job_of(image, file)
    list(job.stage())
    file.write_text(BROKEN)
    list(job.stage())
    assert sorted(job.failed()) == [0, 5]
    assert job.write(job.merge("touch"), keep_stage=True).provenance["tiles"]["segmented_again"] == {}
    # Back to the first version: what it makes is the run's own.
    file.write_text(PICKY)
    list(job.stage())
    assert tiles_again(job.folder) == {}


def test_tiles_that_were_never_tried_are_refused(image: Path, file: Path) -> None:
    file.write_text(PICKY)
    job = job_of(image, file)
    list(job.stage(tiles=[0, 1, 2]))
    old = file.read_text()
    file.write_text(GOOD)
    sentence = r"own\.py:f' was edited after 2 of 6 tiles .* 3 of the tiles to run were never tried"
    for again in (job, Job.open(job.folder)):
        with pytest.raises(JobMismatchError, match=sentence):
            again.check_ready()
        with pytest.raises(JobMismatchError, match=sentence):
            list(again.stage())
    with pytest.raises(JobMismatchError, match=sentence):
        job_of(image, file)
    assert job.staged() == {1, 2}
    assert tiles_again(job.folder) == {}
    # The failed one alone may run; and with the file restored, all of them.
    list(Job.open(job.folder).stage(tiles=[0]))
    assert list(tiles_again(job.folder)) == [0]
    file.write_text(old)
    list(Job.open(job.folder).stage(tiles=[3, 4]))
    assert job.staged() == {0, 1, 2, 3, 4}
    file.write_text(GOOD)
    assert len(job_of(image, file, overwrite=True).staged()) == 0


def test_a_function_of_python_follows_the_same_rule(image: Path) -> None:
    def picky(tile: np.ndarray) -> np.ndarray:
        assert tile.max() < 250
        return tile > 100

    good = picky.__code__.replace(co_consts=tuple(1000 if c == 250 else c for c in picky.__code__.co_consts))
    output = image.with_name("labels.ome.zarr")
    first = segment(image, picky, output, tile_shape=10, halo=2, progress=False)
    assert sorted(first.failed_tiles) == [0, 5]
    picky.__code__ = good
    job = Job.open(output, model=picky)
    list(job.stage())
    assert sorted(tiles_again(job.folder)) == [0, 5]


def test_the_command_line_runs_what_the_file_says_now(
    image: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = image.with_name("labels.ome.zarr")
    file.write_text(BROKEN)
    assert main([*words(image, file), "--workers", "0"]) == 2
    assert "a typing error" in capsys.readouterr().err
    file.write_text(PICKY)
    assert main(["resume", str(output), "--workers", "0", "-q"]) == 1
    file.write_text(GOOD)
    assert main(["resume", str(output), "--workers", "0", "-q", "--retry-failed", "--keep-stage"]) == 0
    written = json.loads((output.with_name("labels.ome.zarr.job") / "result.json").read_text())
    assert sorted(written["tiles"]["segmented_again"]) == ["0", "5"]
    assert {each["sha256"] for each in written["tiles"]["segmented_again"].values()} == {digest(file)}


@pytest.mark.parametrize("again", ["resume", "segment"])
def test_the_command_line_refuses_to_mix_before_it_starts_workers(
    image: Path, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    file.write_text(GOOD)
    job = job_of(image, file)
    list(job.stage(tiles=[0]))
    file.write_text(PICKY)
    monkeypatch.setattr(
        "napari_blockbuster.cli.workers.WorkerOptions.connect", lambda *_: pytest.fail("workers were started")
    )
    call = words(image, file) if again == "segment" else ["resume", str(job.folder), "-q"]
    assert main([*call, "--workers", "2"]) == 2
    said = capsys.readouterr().err
    assert "was edited after 1 of 6 tiles" in said
    assert said.count("\n") == 1
    assert job.staged() == {0}


def test_a_file_that_cannot_be_read_any_more_is_said(image: Path, file: Path) -> None:
    file.write_text(GOOD)
    job = job_of(image, file)
    file.write_text("def f(tile:\n")
    for each in (job, Job.open(job.folder)):
        with pytest.raises((ValueError, RuntimeError), match=r"own\.py is not valid Python, line 1"):
            list(each.stage())
    file.unlink()
    with pytest.raises((OSError, RuntimeError), match=r"there is no file .*own\.py"):
        list(Job.open(job.folder).stage())
    file.write_text(GOOD)
    assert len(list(job.stage())) == 6


def test_a_model_that_traveled_keeps_its_text(file: Path) -> None:
    file.write_text(GOOD)
    model = as_model(f"{file}:f")
    there = pickle.loads(pickle.dumps(model))
    file.write_text(PICKY)
    assert model.read_anew().settings()["sha256"] == digest(file)
    # On another machine, the path may be that of another file.
    assert there.read_anew() is there
