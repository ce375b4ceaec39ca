"""The command line starts its cluster while it opens the image and prepares the model."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from jobs import write_image

from napari_blockbuster.cli.main import main
from napari_blockbuster.execution.local_cluster import starter as local_cluster
from napari_blockbuster.job.folder.job_folder import JobFolder
from napari_blockbuster.machine.limits import cpu_count


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Processes of clusters that were started, and "job" where a job was made, in this order."""
    found: list[object] = []
    start, make = local_cluster._start, JobFolder.make

    def spied_start(plan: dict) -> subprocess.Popen:
        found.append(start(plan))
        return found[-1]

    def spied_make(self: JobFolder, *args: object) -> object:
        found.append("job")
        return make(self, *args)

    monkeypatch.setattr(local_cluster, "_start", spied_start)
    monkeypatch.setattr(JobFolder, "make", spied_make)
    return found


@pytest.mark.skipif(cpu_count() < 2, reason="a run on one CPU needs no cluster")
def test_a_cluster_starts_before_the_job_is_made(tmp_path: Path, steps: list) -> None:
    write_image(tmp_path / "image.zarr")
    words = ["segment", str(tmp_path / "image.zarr"), "--model", "threshold", "--tile", "16", "--halo", "2", "-q"]
    assert main(words) == 0
    process, job = steps
    assert job == "job"
    assert process.poll() is not None


def test_a_cluster_that_no_run_needs_is_ended(tmp_path: Path, steps: list) -> None:
    write_image(tmp_path / "image.zarr")
    image = str(tmp_path / "image.zarr")
    assert main(["segment", image, "--model", "threshold", "-o", image, "--workers", "2", "-q"]) == 2
    (process,) = steps
    assert process.poll() is not None
