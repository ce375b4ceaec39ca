"""A job is not resumed with other versions of the packages that its model depends on, and workers must have the same ones."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from forked import command_line

from napari_blockbuster import Job, make_local_cluster, segment
from napari_blockbuster.machine.errors import JobError, JobMismatchError
from napari_blockbuster.models import get_model
from napari_blockbuster.models.function.model import FunctionModel

MODEL = """
from typing import ClassVar

import numpy as np
from napari_blockbuster.models import Model


class Net(Model):
    family: ClassVar[str] = "net-of-a-test"
    summary: ClassVar[str] = "A network whose library has versions"
    packages: ClassVar[tuple[str, ...]] = ("netlib-of-a-test",)

    def load(self):
        return lambda tile: (tile > 0).astype(np.int32)
"""
TILES = {"tile_shape": 10, "halo": 2}


def install(folder: Path, name: str, version: str, **files: str) -> None:
    """A distribution as pip leaves it, in place of its other versions."""
    for old in folder.glob(f"{name.replace('-', '_')}-*.dist-info"):
        shutil.rmtree(old)
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    for file, text in files.items():
        (info / file).with_suffix(".txt").write_text(text)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages: a registered model, and version 1.0 of the library that it depends on."""
    folder = tmp_path / "site"
    entry = "[napari_blockbuster.models]\nnet-of-a-test = net_of_a_test:Net\n"
    install(folder, "net-of-a-test", "0.1", entry_points=entry)
    install(folder, "netlib-of-a-test", "1.0")
    (folder / "net_of_a_test.py").write_text(MODEL)
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("net_of_a_test", None)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    pixels = np.zeros((20, 20), np.uint8)
    pixels[7:13, 7:13] = 1
    tifffile.imwrite(tmp_path / "image.tif", pixels)
    return tmp_path / "image.tif"


def half_done(image: Path, output: Path) -> Job:
    job = Job.create(image, "net-of-a-test", output, **TILES)
    events = job.stage()
    next(events)
    events.close()
    assert len(job.staged()) == 1
    return job


SAID = (
    r"versions\.netlib-of-a-test: 1\.0 in the job, 2\.0 now\n"
    r"Install netlib-of-a-test 1\.0 to resume the job, or start again: choose another output to keep these tiles, "
    r"or overwrite=True \(--overwrite\) to discard them"
)


def test_a_job_is_not_resumed_with_another_version(site: Path, image: Path, tmp_path: Path) -> None:
    output = tmp_path / "o.ome.zarr"
    job = half_done(image, output)
    assert job.spec.versions["netlib-of-a-test"] == "1.0"
    install(site, "netlib-of-a-test", "2.0")
    with pytest.raises(JobMismatchError, match=SAID):
        segment(image, "net-of-a-test", output, **TILES, progress=False)
    with pytest.raises(JobMismatchError, match=SAID):
        next(Job.open(job.folder).stage())
    assert len(job.staged()) == 1
    # What is staged can still be looked at and merged.
    assert Job.open(job.folder).merge().n_objects == 1

    # The first way on: the old version.
    install(site, "netlib-of-a-test", "1.0")
    assert segment(image, "net-of-a-test", output, **TILES, progress=False).n_objects == 1


def test_the_other_ways_on(site: Path, image: Path, tmp_path: Path) -> None:
    half_done(image, tmp_path / "o.ome.zarr")
    install(site, "netlib-of-a-test", "2.0")
    other = segment(image, "net-of-a-test", tmp_path / "other.ome.zarr", **TILES, progress=False)
    again = segment(image, "net-of-a-test", tmp_path / "o.ome.zarr", **TILES, progress=False, overwrite=True)
    for result in (other, again):
        assert result.provenance["versions"]["netlib-of-a-test"] == "2.0"
        assert not result.missing_tiles


def test_a_library_that_is_gone_is_missed(site: Path, image: Path, tmp_path: Path) -> None:
    job = half_done(image, tmp_path / "o.ome.zarr")
    shutil.rmtree(site / "netlib_of_a_test-1.0.dist-info")
    with pytest.raises(
        JobMismatchError, match=r"netlib-of-a-test: 1\.0 in the job, None now\nInstall netlib-of-a-test 1"
    ):
        next(Job.open(job.folder).stage())


def test_on_the_command_line(site: Path, image: Path, tmp_path: Path) -> None:
    output = tmp_path / "o.ome.zarr"
    asked = ("segment", image, "--model", "net-of-a-test", "-o", output, "--tile", 10, "--halo", 2, "--workers", 0)
    half_done(image, output)
    install(site, "netlib-of-a-test", "2.0")
    for words in (asked, ("resume", output, "--workers", 0)):
        done = command_line(*words)
        assert done.returncode == 2, done.stderr
        assert "versions.netlib-of-a-test: 1.0 in the job, 2.0 now" in done.stderr
        assert "Install netlib-of-a-test 1.0 to resume the job, or start again" in done.stderr
        assert "Traceback" not in done.stderr
    install(site, "netlib-of-a-test", "1.0")
    done = command_line("resume", output, "--workers", 0)
    assert done.returncode == 0, done.stderr


def test_workers_must_have_the_version_of_the_job(site: Path, image: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    install(newer, "netlib-of-a-test", "2.0")

    def prefer(folder: str) -> None:
        import sys

        sys.path.insert(0, folder)

    client, cluster = make_local_cluster(n_workers=1)
    try:
        client.run(prefer, str(site))
        output = tmp_path / "o.ome.zarr"
        assert segment(image, "net-of-a-test", output, **TILES, client=client, progress=False).n_objects == 1
        client.run(prefer, str(newer))
        wanted = (
            r"worker .* has netlib-of-a-test 2\.0, this process has 1\.0\. Install netlib-of-a-test 1\.0 on the workers"
        )
        with pytest.raises(JobError, match=wanted):
            segment(image, "net-of-a-test", tmp_path / "p.ome.zarr", **TILES, client=client, progress=False)
    finally:
        client.close()
        cluster.close()


def test_models_of_this_package_name_what_they_depend_on(image: Path, tmp_path: Path) -> None:
    job = Job.create(image, get_model("voronoi-otsu", diameter=6), tmp_path / "o.ome.zarr", **TILES)
    assert set(job.spec.depends_on) == {"scipy", "scikit-image"}
    assert {"scipy", "scikit-image", "numpy"} <= job.spec.versions.keys()
    function = FunctionModel.from_source("scipy.ndimage:grey_erosion", size=3)
    job = Job.create(image, function, tmp_path / "p.ome.zarr", **TILES)
    assert job.spec.depends_on == ("scipy",)


def test_numpy_counts_for_every_model(image: Path, tmp_path: Path) -> None:
    job = Job.create(image, "threshold", tmp_path / "o.ome.zarr", **TILES)
    text = (job.folder / "job.json").read_text()
    (job.folder / "job.json").write_text(text.replace(f'"numpy": "{np.__version__}"', '"numpy": "1.26.4"'))
    with pytest.raises(JobMismatchError, match=r"versions\.numpy: 1\.26\.4 in the job, .*\nInstall numpy 1\.26\.4"):
        next(Job.open(job.folder).stage())
