"""The job folder: one home for each name, and a job that is deleted without a trace."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import zarr

import napari_blockbuster
from napari_blockbuster import Job
from napari_blockbuster.job.folder.job_folder import JobFolder
from napari_blockbuster.job.folder.lock import JobLockedError, holding
from napari_blockbuster.job.state.tiles import Tiles
from napari_blockbuster.job.steps.second_try import SecondTry
from napari_blockbuster.machine.errors import JobError, TakenOverError
from napari_blockbuster.machine.ownership import Owner
from napari_blockbuster.models import get_model

PACKAGE = Path(napari_blockbuster.__file__).parent


@pytest.fixture
def job(tmp_path: Path) -> Job:
    pixels = np.zeros((32, 32), np.uint8)
    pixels[4:12, 10:22] = 200
    zarr.save_array(str(tmp_path / "image.zarr"), pixels)
    job = Job.create(tmp_path / "image.zarr", "threshold", tmp_path / "o.ome.zarr", tile_shape=16, halo=4)
    list(job.stage())
    return job


def strings(path: Path) -> set[str]:
    """The string literals of a module."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_each_name_of_a_job_folder_stands_in_one_module() -> None:
    files = JobFolder(Path("folder"))
    names = {path.name for path in (*files.content, *files.locks, files.again_tried)} - {"results"}
    assert {"job.json", "lock.json", "decisions.json", "again.json", "result.json", "driver.json"} < names
    modules = {path: strings(path) for path in PACKAGE.rglob("*.py")}
    homes = {name: [path for path, found in modules.items() if name in found] for name in names}
    assert {name: paths for name, paths in homes.items() if len(paths) != 1} == {}


def test_a_deleted_job_leaves_its_results_and_nothing_else(job: Job, tmp_path: Path) -> None:
    second = SecondTry(job)
    list(second.stage([0], get_model("threshold", threshold=150)))
    second.accept([0])
    result = job.write(job.merge(), keep_stage=True)
    elsewhere = job.with_output(tmp_path / "elsewhere.ome.zarr")
    other = elsewhere.write(elsewhere.merge("none"), keep_stage=True)
    with holding(job.files.driver_lock, "detached run"), pytest.raises(JobLockedError):
        job.files.delete()
    assert job.files.is_job(), "a job in use is not deleted"
    job.files.delete()
    assert not job.folder.exists()
    assert result.path.exists()
    assert other.path.exists()


def test_a_life_that_begins_while_the_owner_is_asleep_is_not_swept(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    dead, theirs = job.folder / "stage-0123456789ab", job.folder / "stage-ba9876543210"
    (dead / "tiles").mkdir(parents=True)
    with job.files.holding("test") as owner:
        monkeypatch.setattr(Owner, "check", lambda _: (theirs / "tiles").mkdir(parents=True))
        job.files.sweep(owner)
    assert not dead.exists()
    assert theirs.exists()
    monkeypatch.undo()
    with pytest.raises(TakenOverError):
        job.files.sweep(owner)
    assert theirs.exists(), "a former owner sweeps nothing"


def test_a_deletion_that_is_refused_leaves_the_owner_alone(job: Job) -> None:
    with job.files.holding("stage") as owner:
        # As the message says, because the holder seems to be gone.
        job.files.lock.unlink()
        with holding(job.files.driver_lock, "detached run"), pytest.raises(JobLockedError):
            job.files.delete()
        assert not owner.is_over()


@pytest.mark.parametrize("when", ["merge", "check_ready", "stage", "staged"])
def test_tiles_that_another_process_deleted_are_named(job: Job, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Asleep between any two steps, while another process completes the same job."""
    other = Job.open(job.folder)
    real = Tiles.evidence

    def late(tiles: Tiles, client: object = None) -> np.ndarray:
        monkeypatch.undo()
        other.write(other.merge())
        return real(tiles, None)

    if when == "merge":
        monkeypatch.setattr(Tiles, "evidence", late)
    else:
        other.write(other.merge())
    with pytest.raises(JobError, match="were deleted after the result was written"):
        list(getattr(job, when)())


def test_another_output_leaves_the_job_as_it_is(job: Job, tmp_path: Path) -> None:
    before = job.files.settings.read_bytes()
    with pytest.raises(ValueError, match="is the image itself"):
        job.with_output(tmp_path / "image.zarr", overwrite=True)
    other = job.with_output(tmp_path / "elsewhere.ome.zarr")
    other.write(other.merge())
    assert job.spec.output == str(tmp_path / "o.ome.zarr")
    assert not job.wrote_output()
    assert other.wrote_output()
    assert job.files.settings.read_bytes() == before
