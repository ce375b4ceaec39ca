"""Planted defects raise an alarm at the right position, clean tissue raises none, and false alarms are counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tissue
from alarm_cases import checkers, noisy, perfect, run, with_debris
from hypothesis import given
from hypothesis import strategies as st

from napari_blockbuster import Job
from napari_blockbuster.inspect.alarm import Alarm
from napari_blockbuster.inspect.alarms import find_alarms
from napari_blockbuster.inspect.over_merging import _bridges
from napari_blockbuster.merge.filters import ObjectFilter
from napari_blockbuster.output.result import StagedMerge


def alarms_of(job: Job, merged: StagedMerge, **options: object) -> list[Alarm]:
    return find_alarms(merged, job.grid, job.store, **options)


def judge(truth: np.ndarray, merged: StagedMerge, alarms: list[Alarm]) -> list[bool]:
    """Whether each alarm names an object that is in fact fused (over), or cut or incomplete (under)."""
    t, o, c = tissue.overlap_table(truth, merged.labels.compute(scheduler="synchronous"))
    t, o, c = t[o > 0], o[o > 0], c[o > 0]
    true_size, size = np.bincount(t, c), np.bincount(o, c)
    cells_in = np.bincount(o[c > 0.4 * true_size[t]], minlength=len(size))
    pieces_of = np.bincount(t[c > 0.15 * true_size[t]], minlength=len(true_size))
    main = np.zeros(len(size), int)
    order = np.lexsort((c, o))
    main[o[order]] = t[order]

    def wrong(alarm: Alarm) -> bool:
        if alarm.over:
            return bool(cells_in[alarm.objects[0]] > 1)
        return any(
            pieces_of[main[x]] > 1 or size[x] < 0.8 * true_size[main[x]] or cells_in[x] > 1 for x in alarm.objects
        )

    return [wrong(alarm) for alarm in alarms]


# ------------------------------------------------------------------------------------------------------ over-merging


def test_a_chain_of_ten_cells_held_together_by_weak_links(tmp_path: Path) -> None:
    """Five cells above a seam and five below it, each overlapping the next: pairs look right, the chain does not."""
    upper = checkers(112, 168, 28)
    lower = upper.copy()
    for seen in (upper, lower):
        seen[28:84] = 0
    for k in range(5):
        upper[42:68, 10 + 24 * k : 34 + 24 * k] = 200 + k
        lower[52:78, 22 + 24 * k : 46 + 24 * k] = 300 + k
    image = (upper + 1000 * lower).astype(np.int32)

    def model(pixels: np.ndarray) -> np.ndarray:
        return pixels % 1000 if len(pixels) == 76 else pixels // 1000

    job, merged = run(tmp_path, image, model, (60, 168), 16)
    sizes = np.bincount(merged.new_ids[1:])
    assert sizes.max() == 10
    alarm, *others = alarms_of(job, merged)
    assert not others
    assert alarm.over
    assert alarm.objects == (int(sizes.argmax()),)
    assert set(alarm.tiles) == {0, 1}
    assert len(alarm.labels) == 10
    assert "times as large as the objects around it" in alarm.reason
    assert "which saw all of it" in alarm.reason
    assert "connected by one doubtful pair" in alarm.reason
    assert alarm.place[0] == 59.5
    # The weakest link is in the middle, and cutting it splits the chain into halves.
    assert alarm.labels[:2] == alarm.pair
    assert alarm.pair is not None
    cut = job.merge(cut=[alarm.pair])
    assert sorted(np.bincount(cut.new_ids[1:]))[-2:] == [5, 5]
    # No alarm after the link is joined by hand.
    assert alarms_of(job, job.merge(join=[alarm.pair])) == []


def test_a_chain_of_ten_cells_that_every_tile_fused(tmp_path: Path) -> None:
    """Every link is strong. Only the size and the length of the object are signs."""
    image = checkers(120, 360)
    row = (np.indices(image.shape)[0] // 24 == 2) & (np.indices(image.shape)[1] < 240)
    image[row] = 999
    job, merged = run(tmp_path, image.astype(np.int32), lambda x: x, (60, 60), 16)
    alarm, *others = alarms_of(job, merged)
    assert not others
    assert alarm.kind == "large"
    assert "14.4 times as large as the objects around it" in alarm.reason
    assert len(alarm.tiles) == 8
    assert 48 <= alarm.place[0] <= 72
    # Nobody complains of what a person joined, whichever link the person named.
    rows = merged.seams[merged.joined]
    links = [((int(r["low"]), int(r["low_id"])), (int(r["high"]), int(r["high_id"]))) for r in rows]
    link = next(p for p in links if p != alarm.pair and merged.object_of(*p[0]) == alarm.objects[0])
    assert alarms_of(job, job.merge(join=[link])) == []


def test_touch_on_abutting_cells_is_one_alarm_per_fused_object(tmp_path: Path) -> None:
    truth = tissue.voronoi_tissue((640, 640), 24, 51)
    job, merged = run(tmp_path, truth, perfect, 160, 32, rule="touch")
    alarms = [a for a in alarms_of(job, merged) if a.over]
    assert len({a.objects for a in alarms}) == len(alarms)
    assert all(judge(truth, merged, alarms))
    t, o, c = tissue.overlap_table(truth, merged.labels.compute(scheduler="synchronous"))
    whole = np.bincount(o[c > 0.9 * np.bincount(t, c)[t]])
    huge = set(np.flatnonzero(whole >= 5).tolist())
    assert huge
    assert huge <= {a.objects[0] for a in alarms}


@given(st.integers(0, 2**32 - 1))
def test_bridges_are_the_edges_without_which_a_graph_falls_apart(seed: int) -> None:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(2, 14)), int(rng.integers(1, 18))
    u = rng.integers(0, n, m)
    v = (u + rng.integers(1, n, m)) % n
    weight = rng.integers(1, 9, n).astype(float)

    def component(keep: np.ndarray) -> np.ndarray:
        graph = coo_array((np.ones(keep.sum()), (u[keep], v[keep])), shape=(n, n))
        return connected_components(graph, directed=False)[1]

    found = _bridges(u, v, weight)
    for k in range(m):
        parts = component(np.arange(m) != k)
        falls_apart = parts[u[k]] != parts[v[k]]
        lighter = min(weight[parts == parts[u[k]]].sum(), weight[parts == parts[v[k]]].sum())
        assert found[k] == (lighter if falls_apart else 0)


# ----------------------------------------------------------------------------------------------------- under-merging
def test_an_object_that_one_tile_dropped(tmp_path: Path) -> None:
    image = checkers(110, 168).astype(np.int32)
    dropped = int(image[50, 60])
    assert (image[59] == dropped).any()
    assert (image[60] == dropped).any()

    def model(pixels: np.ndarray) -> np.ndarray:
        return np.where((pixels == dropped) & (len(pixels) != 76), 0, pixels)

    job, merged = run(tmp_path, image, model, (60, 168), 16)
    alarm, *others = alarms_of(job, merged)
    assert not others
    assert alarm.kind == "lost part"
    assert alarm.tiles == (0, 1)
    assert "beyond its border with tile 1" in alarm.reason
    assert alarm.place == (59.5, pytest.approx(np.argwhere(image == dropped)[:, 1].mean()))
    assert alarm.pair is None
    # As long as the other tile is not staged, nothing is lost.
    assert find_alarms(merged, job.grid, job.store, staged=[0]) == []
    assert find_alarms(merged, job.grid, staged=[0]) == []
    # Without a store no file is read. The alarm is the same, but its position is less exact.
    assert [a.objects for a in find_alarms(merged, job.grid)] == [alarm.objects]


@pytest.mark.parametrize("halo", [0, 16])
def test_half_the_tiles_of_clean_tissue_are_quiet(halo: int, tmp_path: Path) -> None:
    """During a run, most tiles touch a tile that is not staged yet."""
    truth = tissue.voronoi_tissue((480, 480), 24, 8)
    job = Job.create(truth, perfect, tmp_path / "labels.ome.zarr", tile_shape=120, halo=halo)
    list(job.stage(tiles=[0, 2, 3, 5, 6, 8, 9, 15]))
    assert not job.failed()
    merged = job.merge()
    assert [a.reason for a in alarms_of(job, merged)] == []
    assert [a.reason for a in find_alarms(merged, job.grid, staged=job.staged())] == []


def test_a_dropped_object_without_a_halo(tmp_path: Path) -> None:
    image = checkers(110, 168).astype(np.int32)
    dropped = int(image[50, 60])

    def model(pixels: np.ndarray) -> np.ndarray:
        return np.where((pixels == dropped) & (len(pixels) != 60), 0, pixels)

    job, merged = run(tmp_path, image, model, (60, 168), 0)
    alarm, *others = alarms_of(job, merged)
    assert not others
    assert alarm.kind == "straight cut"
    assert "nothing on the other side" in alarm.reason
    assert alarm.place == (59.5, pytest.approx(np.argwhere(image == dropped)[:, 1].mean()))


def test_a_pair_that_was_cut_by_hand_is_no_alarm(tmp_path: Path) -> None:
    image = checkers(110, 168).astype(np.int32)
    job, merged = run(tmp_path, image, lambda x: x, (60, 168), 0)
    row = merged.seams[0]
    pair = (int(row["low"]), int(row["low_id"])), (int(row["high"]), int(row["high_id"]))
    alarms = alarms_of(job, job.merge(rule="none"))
    assert len(alarms) == len(merged.seams)
    assert pair in {alarm.pair for alarm in alarms}
    assert pair not in {alarm.pair for alarm in alarms_of(job, job.merge(rule="none", cut=[pair]))}


def test_a_halo_of_zero(tmp_path: Path) -> None:
    """A model with errors at the border of its read box: without a halo there are many alarms, and most are right."""
    truth = tissue.voronoi_tissue((640, 640), 24, 7)
    rates = {}
    for halo in (0, 32):
        job, merged = run(tmp_path / str(halo), truth, noisy, 160, halo)
        under = [a for a in alarms_of(job, merged) if not a.over]
        rates[halo] = 1000 * len(under) / merged.n_objects
        if halo == 0:
            assert np.mean(judge(truth, merged, under)) > 0.5
            seam = np.abs(np.array([a.place for a in under])[:, :, None] - (159.5, 319.5, 479.5)).min(axis=(1, 2))
            assert (seam < 8).all()
    assert rates[0] > 80
    assert rates[0] > 3 * rates[32]


# ------------------------------------------------------------------------------------------------------ false alarms
CLEAN = {
    "2D": ((640, 640), 24, 160, 32, range(3)),
    "2D, halo of a third of a cell": ((640, 640), 24, 160, 8, range(3)),
    "2D, long cells": ((640, 640), (12, 40), 160, 32, range(2)),
    "3D": ((112, 112, 112), 16, 56, 18, range(2)),
}


@pytest.mark.parametrize("name", CLEAN)
def test_clean_tissue_raises_hardly_any_alarm(name: str, tmp_path: Path, record_property: Callable) -> None:
    shape, cell, tile, halo, seeds = CLEAN[name]
    n_alarms = n_objects = 0
    for seed in seeds:
        truth = tissue.voronoi_tissue(shape, cell, 70 + seed)
        job, merged = run(tmp_path / str(seed), truth, perfect, tile, halo)
        n_alarms += len(alarms_of(job, merged))
        n_objects += merged.n_objects
    record_property("false alarms per 1000 objects", 1000 * n_alarms / n_objects)
    assert n_alarms <= 1 * n_objects / 1000


@pytest.mark.parametrize(("ndim", "bound"), [(2, 12), (3, 35)])
def test_false_alarms_of_a_noisy_model_are_bounded(ndim: int, bound: float, tmp_path: Path) -> None:
    """About half of the alarms are right, because this model cuts, fuses and loses objects."""
    shape, cell, tile, halo, seeds = CLEAN[f"{ndim}D"]
    right: list[bool] = []
    n_objects = 0
    for seed in seeds:
        truth = tissue.voronoi_tissue(shape, cell, 70 + seed)
        job, merged = run(tmp_path / str(seed), truth, noisy, tile, halo)
        right += judge(truth, merged, alarms_of(job, merged))
        n_objects += merged.n_objects
    assert right.count(False) <= bound * n_objects / 1000, (right.count(False), len(right), n_objects)
    assert np.mean(right) > 0.45


def test_most_of_what_the_merge_fused_is_found(tmp_path: Path) -> None:
    n_fused = n_found = 0
    for seed in range(5):
        truth = tissue.voronoi_tissue((640, 640), 24, 50 + seed)
        job, merged = run(tmp_path / str(seed), truth, noisy, 160, 32)
        labels = merged.labels.compute(scheduler="synchronous")
        t, o, c = table = tissue.overlap_table(truth, labels)
        alone = tissue.overlap_table(truth, job.merge(rule="none").labels.compute(scheduler="synchronous"))
        named = {x for a in alarms_of(job, merged) for x in a.objects}
        for cell in np.flatnonzero(tissue.fused_cells(table) & ~tissue.fused_cells(alone)).tolist():
            mine = t == cell
            n_fused += 1
            n_found += int(o[mine][c[mine].argmax()]) in named
    assert n_fused >= 15
    assert n_found >= 0.7 * n_fused, (n_found, n_fused)


def test_alarms_of_nothing(tmp_path: Path) -> None:
    job, merged = run(tmp_path, np.zeros((40, 40), np.int32), lambda x: x, 20, 4)
    assert alarms_of(job, merged) == []


def test_labels_that_are_not_numbered_in_sequence_give_the_same_alarms(tmp_path: Path) -> None:
    truth = tissue.voronoi_tissue((320, 320), 24, 5)
    job, merged = run(tmp_path, truth, noisy, 160, 16)
    other = job.merge(sequential_labels=False)
    assert [a.labels for a in alarms_of(job, merged)] == [a.labels for a in alarms_of(job, other)]


# ----------------------------------------------------------------------------------------------------- after a filter


@pytest.mark.parametrize("rule", ["overlap", "touch", "none"])
@pytest.mark.parametrize("halo", [0, 16])
def test_labels_that_a_filter_left_out_are_background(rule: str, halo: int, tmp_path: Path) -> None:
    """The same alarms as if the model had not found the debris, and none about the background."""
    clean = checkers(240, 240)
    clean[(np.indices(clean.shape)[0] // 24 == 2) & (np.indices(clean.shape)[1] < 160)] = 999

    def told(image: np.ndarray, folder: Path, **options: object) -> list[tuple[object, ...]]:
        job, merged = run(folder, image.astype(np.int32), lambda x: x, (60, 60), halo, rule=rule, **options)
        alarms = alarms_of(job, merged)
        assert {x for alarm in alarms for x in alarm.objects} <= set(range(1, merged.n_objects + 1))
        return sorted((a.kind, round(a.severity, 6), a.place, a.tiles, len(a.objects), len(a.labels)) for a in alarms)

    expected = told(clean, tmp_path / "clean")
    assert expected
    assert told(with_debris(clean), tmp_path / "filtered", filter=ObjectFilter(min_size=12)) == expected


def test_a_filter_brings_no_alarm_about_the_background(tmp_path: Path) -> None:
    """A noisy model on tissue, without the objects at the edge of the image and the small ones."""
    truth = tissue.voronoi_tissue((640, 640), 24, 50)
    job, before = run(tmp_path, truth, noisy, 160, 32)
    known = {(alarm.kind, alarm.pair) for alarm in alarms_of(job, before)}
    merged = job.filtered(before, ObjectFilter(min_size=150, drop_border=True))
    assert merged.n_removed > 60
    alarms = alarms_of(job, merged)
    assert alarms
    for alarm in alarms:
        assert all(1 <= x <= merged.n_objects for x in alarm.objects)
        assert merged.object_of(*alarm.labels[0]) or merged.object_of(*alarm.labels[1])
    # Removed objects change the typical size, and with it one or two doubtful alarms.
    assert len({(alarm.kind, alarm.pair) for alarm in alarms} - known) <= 2
    assert np.mean(judge(truth, merged, alarms)) > 0.45


def test_when_everything_is_left_out_there_is_no_alarm(tmp_path: Path) -> None:
    job, merged = run(tmp_path, checkers(110, 168).astype(np.int32), lambda x: x, (60, 60), 8, rule="none")
    assert alarms_of(job, merged)
    assert alarms_of(job, job.filtered(merged, ObjectFilter(min_size=10_000))) == []


def test_a_lost_part_may_lie_in_what_a_filter_left_out(tmp_path: Path) -> None:
    image = checkers(110, 168).astype(np.int32)
    split = int(image[50, 60])

    def model(pixels: np.ndarray) -> np.ndarray:
        """The lower tile sees only the last three rows of the object."""
        rows = np.arange(len(pixels))[:, None]
        if len(pixels) == 76:
            return pixels
        return np.where((pixels == split) & (rows < 21), 0, pixels)

    job, merged = run(tmp_path, image, model, (60, 168), 16)
    small = ObjectFilter(min_size=int(np.bincount(merged.labels.compute().ravel())[1:].min()) + 1)
    for kept in (merged, job.filtered(merged, small)):
        alarms = [alarm for alarm in alarms_of(job, kept) if alarm.kind == "lost part"]
        assert len(alarms) == 1
        assert 0 not in alarms[0].objects
        left_out = alarms[0].pair is not None and not all(kept.object_of(*label) for label in alarms[0].pair)
        assert ("the filter removed it" in alarms[0].reason) == left_out
    assert left_out


def test_a_speck_in_a_filled_hole_is_no_part_that_was_joined(tmp_path: Path) -> None:
    """A removed object becomes part of the nucleus around it: no tile saw several objects there."""
    image = checkers(110, 168).astype(np.int32)
    image[48:68, 48:92] = 997
    image[49:59, 52:66] = 0
    image[50:58, 53:65] = 998
    job, merged = run(tmp_path, image, lambda x: x, (60, 168), 16)
    filled = job.filtered(merged, ObjectFilter(min_size=100, fill_holes=True))
    assert filled.n_removed == 1
    found = filled.labels.compute()
    assert (found[48:68, 48:92] == found[48, 48]).all()
    assert alarms_of(job, filled) == []
