"""An output that a killed process moved aside is restored, and never under the hands of a process that works on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_blockbuster import Job, segment
from napari_blockbuster.job.folder.files import JobFiles
from napari_blockbuster.job.folder.lock import holding
from napari_blockbuster.machine.errors import JobLockedError
from napari_blockbuster.machine.files import beside
from napari_blockbuster.output.place import OLD
from napari_blockbuster.output.result import job_folder


def test_an_output_is_restored_only_when_nobody_works_on_it(tmp_path: Path) -> None:
    image = np.zeros((16, 16), np.uint8)
    image[4:8, 4:8] = 9
    output = tmp_path / "o.ome.zarr"
    segment(image, "threshold", output, tile_shape=16, halo=0, progress=False)
    aside = beside(output, OLD)
    output.rename(aside)
    with holding(JobFiles(job_folder(output)).lock, "write"):
        with pytest.raises(JobLockedError):
            Job.create(image, "threshold", output, tile_shape=16, halo=0)
        assert aside.exists()
        assert not output.exists()
    with pytest.raises(FileExistsError):
        Job.create(image, "threshold", output, tile_shape=16, halo=0)
    assert output.exists()
    assert not aside.exists()


def test_two_processes_that_restore_an_output_do_not_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_blockbuster.output import place

    output = tmp_path / "o"
    aside = beside(output, OLD)
    aside.mkdir()
    (aside / "labels").touch()
    rename = place.os.rename

    def second(old: Path, new: Path) -> None:
        rename(old, new)
        rename(old, new)

    monkeypatch.setattr(place.os, "rename", second)
    place.restore_old(output)
    assert (output / "labels").exists()
