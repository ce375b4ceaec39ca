"""The seam report for tissue with known seams: clean, without a halo, cut on purpose."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import tissue
from alarm_cases import checkers, noisy, perfect, run, with_debris

from napari_blockbuster.inspect.seam_report import AxisReport, SeamReport, seam_report
from napari_blockbuster.merge.filters import ObjectFilter


def report_of(folder: Path, truth: np.ndarray, model: object, tile: object, halo: int, **rule: object) -> SeamReport:
    job, merged = run(folder, truth, model, tile, halo, **rule)
    return seam_report(merged, job.store, names="zyx"[-truth.ndim :])


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return tissue.voronoi_tissue((640, 640), 24, 11)


def test_clean_tissue_shows_no_seams(truth: np.ndarray, tmp_path: Path) -> None:
    report = report_of(tmp_path, truth, perfect, 160, 40)
    assert not report.cut
    assert report.halo_enough
    assert report.worst_tiles() == []
    for axis in report.axes:
        assert axis.known
        assert abs(axis.excess) < 0.03
        assert axis.seam_changed == pytest.approx(axis.inside_changed, abs=0.03)
    assert report.conclusion.startswith("the halo was large enough: no objects are cut")


def test_clean_tissue_in_3d(tmp_path: Path) -> None:
    truth = tissue.voronoi_tissue((112, 112, 112), 16, 4)
    report = report_of(tmp_path, truth, perfect, 56, 18)
    assert [axis.name for axis in report.axes] == ["z", "y", "x"]
    assert not report.cut
    assert report.worst_tiles() == []


def test_objects_cut_along_one_axis_only(truth: np.ndarray, tmp_path: Path) -> None:
    job, merged = run(tmp_path, truth, perfect, 160, 40)
    rows = merged.seams[merged.joined & (merged.seams["axis"] == 0)]
    cut = [((int(r["low"]), int(r["low_id"])), (int(r["high"]), int(r["high_id"]))) for r in rows]
    report = seam_report(job.merge(cut=cut), job.store, names="yx")
    y, x = report.axes
    assert y.sure
    assert y.conclusion == "many objects are cut"
    assert y.rate > 0.9
    assert x.conclusion == "no more than inside tiles"
    # The report must not blame the halo.
    assert "the halo was large enough" in report.conclusion
    assert "tiles disagree" in report.conclusion
    assert len(report.worst_tiles(100)) == 16


def test_one_bad_tile_is_named(truth: np.ndarray, tmp_path: Path) -> None:
    job, merged = run(tmp_path, truth, perfect, 160, 40)
    rows = merged.seams[merged.joined & ((merged.seams["low"] == 5) | (merged.seams["high"] == 5))]
    cut = [((int(r["low"]), int(r["low_id"])), (int(r["high"]), int(r["high_id"]))) for r in rows]
    report = seam_report(job.merge(cut=cut), job.store)
    assert report.worst_tiles(1) == [5]
    assert report.tile_changed[5] == 1
    assert any(line.startswith("tile 5: the object changes at 100%") for line in report.lines())


def test_without_a_halo_a_model_that_errs_at_borders_cuts(truth: np.ndarray, tmp_path: Path) -> None:
    report = report_of(tmp_path, truth, noisy, 160, 0)
    assert report.cut
    assert report.beyond == 1
    assert all(axis.excess > 0.1 for axis in report.axes)
    assert report.conclusion.startswith("there was no halo, and objects are cut")
    # The suggestion is about the length of a large cell of this tissue.
    assert set(report.suggested_halo) == {0, 1}
    assert all(24 < n < 48 for n in report.suggested_halo.values())


def test_a_halo_that_is_too_small_is_said_to_be(truth: np.ndarray, tmp_path: Path) -> None:
    report = report_of(tmp_path, truth, noisy, 160, 6)
    assert report.beyond > 0.5
    assert "the halo was too small" in report.conclusion
    assert "along y" in report.conclusion


def test_tiles_that_are_missing_are_left_out(truth: np.ndarray, tmp_path: Path) -> None:
    job, _ = run(tmp_path, truth, perfect, 160, 40)
    job.store.unstage([5, 6, 7])
    job.tiles.forget({5, 6, 7})
    report = seam_report(job.merge(), job.store)
    assert not report.cut
    assert np.isnan(report.tile_changed[5])


def test_one_tile_has_no_seams(tmp_path: Path) -> None:
    report = report_of(tmp_path, tissue.voronoi_tissue((60, 60), 20, 1), perfect, 60, 0)
    assert report.lines() == ["there is only one tile, so there is no seam"]


def test_an_empty_image(tmp_path: Path) -> None:
    report = report_of(tmp_path, np.zeros((40, 40), np.int32), perfect, 20, 4)
    assert report.lines() == ["y, x: too few objects for a conclusion", "no object meets a seam"]


def test_frames_of_a_series_are_no_seam(tmp_path: Path) -> None:
    from napari_blockbuster import Job

    frames = np.stack([tissue.voronoi_tissue((120, 120), 20, k) for k in range(3)])
    job = Job.create(frames, perfect, tmp_path / "l.ome.zarr", tile_shape=60, halo=20, axes="tyx")
    list(job.stage())
    assert not job.failed()
    assert [axis.axis for axis in seam_report(job.merge(), job.store).axes] == [1, 2]


@pytest.mark.parametrize("rule", ["overlap", "none"])
def test_labels_that_a_filter_left_out_are_background(rule: str, tmp_path: Path) -> None:
    """The same report as if the model had not found the debris."""
    clean = checkers(480, 480)
    expected = report_of(tmp_path / "clean", clean.astype(np.int32), perfect, 120, 16, rule=rule)
    keep = ObjectFilter(min_size=12)
    found = report_of(tmp_path / "filtered", with_debris(clean), perfect, 120, 16, rule=rule, filter=keep)
    assert found.lines() == expected.lines()
    assert found.at_seams == expected.at_seams
    assert found.beyond_halo == expected.beyond_halo
    np.testing.assert_array_equal(found.tile_changed, expected.tile_changed)
    np.testing.assert_array_equal(found.tile_pairs, expected.tile_pairs)
    for a, b in zip(found.axes, expected.axes, strict=True):
        expected_values = pytest.approx((b.seam_changed, b.inside_changed, b.extent), nan_ok=True)
        assert (a.seam_changed, a.inside_changed, a.extent) == expected_values


def test_everything_left_out_leaves_no_object_at_a_seam(tmp_path: Path) -> None:
    report = report_of(
        tmp_path, checkers(110, 168).astype(np.int32), perfect, 60, 8, filter=ObjectFilter(min_size=10_000)
    )
    assert report.conclusion == "no object meets a seam"
    assert report.at_seams == 0


@pytest.mark.parametrize("fill", [False, True])
def test_info_reports_the_seams_of_the_filtered_result(
    fill: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It writes nothing, even if regions that the filter needs are missing."""
    from napari_blockbuster.cli.main import main

    def told() -> str:
        assert main(["info", str(job.folder)]) == 0
        return next(line for line in capsys.readouterr().out.splitlines() if line.startswith("seams ")).strip()

    job, merged = run(tmp_path, with_debris(checkers(240, 240)), perfect, 60, 16)
    keep = ObjectFilter(min_size=10_000, fill_holes=fill)
    kept = job.filtered(merged, keep)
    job.write(kept, keep_stage=True)
    expected, other = (seam_report(m, job.store, names="yx").conclusion for m in (kept, merged))
    assert expected != other
    assert told().endswith(expected)
    if fill:
        for path in (job.store.folder / "regions" / "tiles").glob("*/*"):
            path.unlink()
        assert "(sizes without filled holes" in told()
        assert not list((job.store.folder / "regions" / "tiles").glob("*/*"))


def test_axes_with_too_few_objects_share_a_line() -> None:
    few = tuple(AxisReport(k, name, 8, 1, 5, 1, 5, 0, 0.0, 0.0, math.nan) for k, name in enumerate("zyx"))
    report = SeamReport(few, np.zeros(2), np.zeros(2), np.zeros(2, np.int64), at_seams=3, beyond_halo=0)
    assert report.lines()[:-1] == ["z, y, x: too few objects for a conclusion"]
