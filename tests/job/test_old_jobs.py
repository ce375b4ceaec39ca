"""Job folders made by version 0.1.0 before the packages were rearranged still open, resume, merge and write."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from napari_blockbuster import Job
from napari_blockbuster.job.steps.second_try import SecondTry
from napari_blockbuster.machine.errors import JobMismatchError
from napari_blockbuster.models import get_model

ARCHIVE = Path(__file__).parents[1] / "data" / "jobs_0.1.zip"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The stored jobs, and the image that they were made from, in a folder of their own."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def digest(labels: object) -> str:
    return hashlib.sha256(np.asarray(labels).astype("<u4").tobytes()).hexdigest()


def expected(old: Path, name: str) -> dict[str, object]:
    return json.loads((old / "expected.json").read_text())[name]


@pytest.mark.parametrize(("name", "rule"), [("threshold.ome.zarr", "touch"), ("voronoi.ome.zarr", "overlap")])
def test_a_finished_old_job_merges_to_the_same_labels(old: Path, name: str, rule: str) -> None:
    job = Job.open(old / f"{name}.job", image=old / "image.zarr")
    merged = job.merge(rule)
    assert {"n_objects": merged.n_objects, "sha": digest(merged.labels)} == expected(old, name)


@pytest.mark.parametrize(("name", "rule"), [("threshold.ome.zarr", "touch"), ("voronoi.ome.zarr", "overlap")])
def test_a_finished_old_job_is_written_again(old: Path, name: str, rule: str) -> None:
    job = Job.open(old / f"{name}.job", image=old / "image.zarr")
    result = job.write(job.merge(rule), overwrite=True, keep_stage=True)
    assert digest(result.labels) == expected(old, name)["sha"]


def test_a_stopped_old_job_resumes_to_the_same_labels(old: Path) -> None:
    job = Job.open(old / "stopped.ome.zarr.job", image=old / "image.zarr")
    done = len(job.staged())
    assert 0 < done < job.n_tiles
    assert len(list(job.stage())) == job.n_tiles - done
    result = job.write(job.merge("touch"))
    assert digest(result.labels) == expected(old, "threshold.ome.zarr")["sha"]


def test_a_stopped_old_job_of_the_default_model_resumes(old: Path) -> None:
    job = Job.open(old / "stopped-voronoi.ome.zarr.job", image=old / "image.zarr")
    list(job.stage())
    result = job.write(job.merge("overlap"))
    assert digest(result.labels) == expected(old, "voronoi.ome.zarr")["sha"]


def test_an_old_job_of_the_default_model_keeps_its_outlines(old: Path) -> None:
    folder = old / "stopped-voronoi.ome.zarr.job"
    with pytest.raises(JobMismatchError, match=r"model\.height_scale: 0\.05 in the job, 0\.1 now"):
        Job.open(folder, image=old / "image.zarr", model=get_model("voronoi-otsu", diameter=6))
    model = get_model("voronoi-otsu", diameter=6, height_scale=0.05)
    job = Job.open(folder, image=old / "image.zarr", model=model)
    list(job.stage())
    assert digest(job.write(job.merge("overlap")).labels) == expected(old, "voronoi.ome.zarr")["sha"]


def test_the_same_call_again_resumes_an_old_job(old: Path) -> None:
    job = Job.create(old / "image.zarr", "threshold", old / "stopped.ome.zarr", tile_shape=(8, 12, 10), halo=3)
    assert 0 < len(job.staged()) < job.n_tiles
    list(job.stage())
    assert digest(job.merge("touch").labels) == expected(old, "threshold.ome.zarr")["sha"]


# ------------------------------------------------------------------------------------------- the layout of their tiles
@pytest.fixture
def half(old: Path) -> Job:
    """A stopped job whose other tiles were staged by this version: a folder with both layouts."""
    job = Job.open(old / "stopped.ome.zarr.job", image=old / "image.zarr")
    list(job.stage())
    return job


def old_tile(job: Job) -> int:
    return min(int(path.stem) for path in (job.store.folder / "tiles").glob("*.json"))


def test_the_check_knows_both_layouts(half: Job) -> None:
    report = half.check()
    assert report.sound
    assert report.n_staged == half.n_tiles
    tile = old_tile(half)
    for name, path in {
        "objects": half.store.folder / "objects" / f"{tile}.npy",
        "bands": half.store.folder / "bands" / "0" / "low" / "c" / "0" / "0" / "0",
        "marker": half.store.folder / "tiles" / f"{tile}.json",
    }.items():
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        assert list(half.check().damaged) == [tile], name
        path.write_bytes(content)
    (half.store.folder / "bands" / "0" / "low" / "zarr.json").unlink()
    assert "low" in half.check().layout[0]
    assert half.check(repair=True).repaired
    assert half.check().sound


def test_a_damaged_old_tile_is_segmented_again_in_the_present_layout(old: Path, half: Job) -> None:
    tile = old_tile(half)
    (half.store.folder / "objects" / f"{tile}.npy").write_bytes(b"")
    assert list(half.check(repair=True).damaged) == [tile]
    assert [event.tile.index for event in half.stage()] == [tile]
    assert half.check().sound
    assert not (half.store.folder / "tiles" / f"{tile}.json").exists()
    assert digest(half.merge("touch").labels) == expected(old, "threshold.ome.zarr")["sha"]


def test_an_old_tile_comes_back_after_a_second_try(old: Path, half: Job) -> None:
    tile, second = old_tile(half), SecondTry(half)
    list(second.stage([tile], get_model("threshold", threshold=250)))
    second.accept([tile])
    assert digest(half.merge("touch").labels) != expected(old, "threshold.ome.zarr")["sha"]
    second.go_back([tile])
    assert digest(half.merge("touch").labels) == expected(old, "threshold.ome.zarr")["sha"]
    assert half.check().sound
