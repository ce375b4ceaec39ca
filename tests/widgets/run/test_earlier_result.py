"""A job that is opened again knows whether its merge is the one on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_blockbuster import Job
from napari_blockbuster.widgets.run.control.earlier_result import EarlierResult
from napari_blockbuster.widgets.run.control.open_job import OpenJob


def components(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.int32)


def test_a_merge_is_compared_with_the_result_on_disk(tmp_path: Path) -> None:
    pixels = np.zeros((20, 40), np.uint8)
    pixels[5:15, 12:28] = 1
    pixels[2:4, 2:6] = 2
    target = tmp_path / "labels.ome.zarr"
    job = Job.create(pixels, components, target, tile_shape=20, halo=4)
    list(job.stage())
    assert EarlierResult.of(job) is None

    # Labels of somebody else at the output are not those of the job.
    target.mkdir()
    opened = OpenJob()
    opened.job, opened.merged = job, job.merge()
    assert EarlierResult.of(job) is None
    assert (opened.saved_note, opened.written_path) == ("Not written yet.", None)

    target.rmdir()
    job.write(job.merge(), keep_stage=True)
    again = Job.open(job.folder, image=pixels)
    opened = OpenJob()
    opened.job, opened.earlier, opened.merged = again, EarlierResult.of(again), again.merge()
    assert (opened.saved_note, opened.written_path) == ("Written.", target)
    pair = tuple((int(row[f"{end}"]), int(row[f"{end}_id"])) for row in opened.merged.seams for end in ("low", "high"))
    opened.merged = again.merge(cut=[pair])
    assert opened.saved_note == "Changed since the labels were written."
    opened.merged = again.merge("none")
    assert opened.saved_note == "Changed since the labels were written."
