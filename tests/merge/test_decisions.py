"""Decisions on real jobs: saved, undone, applied, set aside when a tile is segmented again, exported."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tissue
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_blockbuster import Job, segment
from napari_blockbuster.merge.decisions import Decisions, DecisionsError
from napari_blockbuster.merge.filters import ObjectFilter
from napari_blockbuster.merge.pair_export import export_csv
from napari_blockbuster.output.label_image import open_labels

SHAPE, TILE, HALO = (120, 120), 60, 16


def identity(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.int32)


def make_job(folder: Path, function: Callable[[np.ndarray], np.ndarray] = identity) -> Job:
    truth = tissue.voronoi_tissue(SHAPE, 20, seed=3).astype(np.uint16)
    job = Job.create(truth, function, folder / "labels.ome.zarr", tile_shape=TILE, halo=HALO)
    for event in job.stage():
        assert type(event).__name__ == "TileStaged", event
    return job


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path)


def pairs_of(job: Job, joined: bool = True) -> list:
    merged = job.merge()
    rows = merged.seams[merged.joined == joined]
    return [((int(r["low"]), int(r["low_id"])), (int(r["high"]), int(r["high_id"]))) for r in rows]


def restage(job: Job, tile: int) -> None:
    job.store.unstage([tile])
    job.tiles.forget({tile})
    list(job.stage())


def test_corrections_of_a_script_are_decisions_of_its_job(tmp_path: Path, job: Job) -> None:
    """A script repeats a run with its corrections, on another machine, and may run twice."""
    one, other = pairs_of(job)[:2]
    far = (0, 1), (3, 1)
    expected = job.merge(cut=[one, other], join=[far], remove=[(2, 1)])
    image = tissue.voronoi_tissue(SHAPE, 20, seed=3).astype(np.uint16)
    options = {
        "tile_shape": TILE,
        "halo": HALO,
        "cut": [one, other[::-1]],
        "join": [far],
        "remove": [(2, 1)],
        "progress": False,
    }
    folder = tmp_path / "elsewhere"
    for _ in range(2):
        result = segment(image, identity, folder / "l.ome.zarr", keep_stage=True, overwrite=True, **options)
        np.testing.assert_array_equal(result.labels.compute(), expected.labels.compute())
        np.testing.assert_array_equal(result.provenance["merge"]["join"], [far])
    again = Job.open(folder / "l.ome.zarr")
    steps = json.loads((again.folder / "decisions.json").read_text())["steps"]
    assert len(steps) == 1
    with pytest.raises(DecisionsError, match="Label 999 of tile 0 does not exist"):
        segment(image, identity, tmp_path / "x" / "l.ome.zarr", **options | {"join": [((0, 999), (1, 1))]})
    with pytest.raises(ValueError, match=r"cut has \(0, 1\)"):
        segment(image, identity, tmp_path / "y" / "l.ome.zarr", **options | {"cut": [(0, 1)]})


def test_removed_labels_are_background_at_any_threshold(job: Job) -> None:
    """An object is deleted for good: at any threshold, after a restart, on disk; and comes back with undo."""
    before = job.merge()
    whole = before.labels.compute()
    victim = int(np.argmax(np.bincount(whole[whole > 0])))
    labels = before.labels_of(victim)
    assert {before.object_of(*label) for label in labels} == {victim}
    decisions = Decisions.load(job.folder)
    decisions.set(pairs_of(job)[0], "cut")
    decisions.remove(labels)
    kept = Decisions.load(job.folder)
    assert set(kept.removed) == set(labels)
    assert kept.lines()[-1] == f"{len(labels)} label{'s' * (len(labels) > 1)} removed by hand"
    for rule in ({}, {"rule": "none"}, {"min_iou": 0.9}, {"sequential_labels": False}):
        plain, merged = (job.merge(**rule, remove=each) for each in ((), kept.removed))
        one, other = plain.labels.compute(), merged.labels.compute()
        # Everything else is as before, up to the numbers, which have no gap.
        np.testing.assert_array_equal(other > 0, (one > 0) & (whole != victim))
        assert len(np.unique(np.stack([one, other])[:, other > 0], axis=1).T) == merged.n_objects
        if rule.get("sequential_labels", True):
            assert np.unique(other[other > 0]).tolist() == list(range(1, merged.n_objects + 1))
    filled = job.merge(remove=kept.removed, filter=ObjectFilter(fill_holes=True))
    assert filled.n_objects == before.n_objects - 1
    result = job.write(job.merge(cut=kept.cut, remove=kept.removed), keep_stage=True)
    assert not open_labels(result.path).compute()[whole == victim].any()
    np.testing.assert_array_equal(result.provenance["merge"]["remove"], sorted(labels))

    decisions.undo()
    assert Decisions.load(job.folder).removed == ()
    decisions.redo()
    assert set(decisions.removed) == set(labels)
    decisions.clear()
    assert (decisions.removed, decisions.cut) == ((), ())
    decisions.undo()
    with pytest.raises(DecisionsError, match="Label 999 of tile 0 does not exist"):
        decisions.remove([(0, 999)])
    restage(job, labels[0][0])
    assert not set(Decisions.load(job.folder).removed) & {x for x in labels if x[0] == labels[0][0]}


def test_decisions_are_applied_and_survive_a_restart(job: Job) -> None:
    first, second = pairs_of(job)[:2]
    before = job.merge()
    decisions = Decisions.load(job.folder)
    decisions.set(first, "cut")
    decisions.set(second[::-1], "join")
    # The keys of the file stay as they are, so that job folders of every version can be read.
    entry = json.loads((job.folder / "decisions.json").read_bytes())["steps"][0]["entries"][0]
    assert sorted(entry) == ["pair", "stamps", "verdict"]
    again = Decisions.load(job.folder)
    assert (again.cut, again.join) == ((first,), (second,))
    merged = job.merge(cut=again.cut, join=again.join)
    assert merged.joined.sum() == before.joined.sum() - 1
    assert job.merge(min_iou=0.9, cut=again.cut, join=again.join).join == (second,)


def test_undo_and_redo_survive_a_restart(job: Job) -> None:
    pairs = pairs_of(job)[:3]
    decisions = Decisions.load(job.folder)
    for pair in pairs:
        decisions.set(pair, "cut")
    assert Decisions.load(job.folder).undo() == (pairs[2],)
    decisions = Decisions.load(job.folder)
    assert decisions.cut == tuple(pairs[:2])
    assert decisions.redo() == (pairs[2],)
    decisions.undo()
    decisions.set(pairs[0], "join")
    assert not decisions.can_redo
    assert decisions.applied == {pairs[1]: "cut", pairs[0]: "join"}
    decisions.clear()
    assert decisions.applied == {}
    decisions.undo()
    assert len(Decisions.load(job.folder).applied) == 2


def test_several_pairs_are_one_step(job: Job) -> None:
    decisions = Decisions.load(job.folder)
    decisions.set(pairs_of(job)[:4], "cut")
    assert len(decisions.cut) == 4
    decisions.undo()
    assert decisions.applied == {}
    assert not decisions.can_undo


def test_a_decision_on_a_tile_that_was_segmented_again_is_set_aside(job: Job) -> None:
    pair, other = next(p for p in pairs_of(job) if p[0][0] == 0), next(p for p in pairs_of(job) if p[0][0] == 2)
    decisions = Decisions.load(job.folder)
    decisions.set(pair, "cut")
    decisions.set(other, "cut")
    marker = job.store.path("tiles", 0)
    kept = marker.read_bytes()
    restage(job, 0)
    decisions.refresh()
    assert decisions.cut == (other,)
    assert decisions.set_aside == {pair: "tile 0 was segmented again"}
    assert Decisions.load(job.folder).set_aside == decisions.set_aside
    assert "not applied: label" in decisions.lines()[1]
    assert job.merge(cut=decisions.cut).cut == (other,)
    # Once the earlier tile is restored, the decision counts again.
    now = marker.read_bytes()
    marker.write_bytes(kept)
    assert Decisions.load(job.folder).cut == (pair, other)
    marker.write_bytes(now)
    # A new decision counts; a withdrawn one is gone.
    decisions.set(pair, "cut")
    assert decisions.set_aside == {}
    decisions.undo()
    decisions.set(pair, None)
    assert decisions.applied == {other: "cut"}
    assert decisions.set_aside == {}


def test_a_tile_that_is_not_staged_sets_decisions_aside(job: Job) -> None:
    pair = next(p for p in pairs_of(job) if p[0][0] == 0)
    decisions = Decisions.load(job.folder)
    decisions.set(pair, "cut")
    job.store.unstage([0])
    assert Decisions.load(job.folder).set_aside == {pair: "tile 0 is not staged"}
    with pytest.raises(DecisionsError, match="Tile 0 is not staged"):
        decisions.set(pair, "join")


@pytest.mark.parametrize(
    ("pair", "decision", "message"),
    [
        (((0, 1), (1, 9999)), "cut", "Label 9999 of tile 1 does not exist"),
        (((0, 1), (99, 1)), "cut", "Tile 99 is not staged"),
        (((0, 1), (0, 1)), "join", "are the same label"),
        (((0, 1), (0, 2)), "cut", "A cut follows the seam"),
        (((0, 1), (1, 1)), "glue", "'glue' is not a decision"),
        (((0, 1), 3), "cut", "is not a pair of labels"),
        (((0, 1), (1, 1.5)), "cut", "is not a pair of labels"),
        (((0, 1), (1, -2)), "cut", "does not exist"),
        (((0, 0), (1, 1)), "join", "does not exist"),
    ],
)
def test_decisions_that_make_no_sense_are_refused(job: Job, pair: object, decision: str, message: str) -> None:
    decisions = Decisions.load(job.folder)
    with pytest.raises(DecisionsError, match=message):
        decisions.set(pair, decision)
    assert not (job.folder / "decisions.json").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged"),
        (b"{", "is damaged"),
        (b'{"format": 7, "steps": [], "done": 0}', "format 7. This version reads format 1. Update"),
        (b'{"format": 1, "steps": [], "done": 3}', "done is 3, but the file has 0 steps"),
        (b'{"format": 1, "steps": [], "done": 0, "run": "x"}', "damaged at run"),
        (
            b'{"format": 1, "done": 1, "steps": [{"at": "", "entries": '
            b'[{"pair": [[1, 1], [0, 1]], "verdict": "cut", "stamps": ["", ""]}]}]}',
            "the lower tile must come first",
        ),
        (
            b'{"format": 1, "done": 1, "steps": [{"at": "", "entries": '
            b'[{"pair": [[0, 1], [1, 1]], "verdict": "burn", "stamps": ["", ""]}]}]}',
            "steps.0.entries.0.verdict",
        ),
    ],
)
def test_a_damaged_file_is_named(job: Job, content: bytes, message: str) -> None:
    (job.folder / "decisions.json").write_bytes(content)
    with pytest.raises(DecisionsError, match=message):
        Decisions.load(job.folder)


def test_a_change_by_another_process_is_not_overwritten(job: Job) -> None:
    first, second = pairs_of(job)[:2]
    mine, other = Decisions.load(job.folder), Decisions.load(job.folder)
    other.set(first, "cut")
    with pytest.raises(DecisionsError, match="Another process changed"):
        mine.set(second, "cut")
    assert Decisions.load(job.folder).cut == (first,)


def test_a_cut_around_which_the_object_holds_together_is_reported(job: Job) -> None:
    merged = job.merge()
    ids = np.concatenate([[0], merged.new_ids[1:]])
    low = ids[merged.labels_table.numbers(merged.seams["low"], merged.seams["low_id"]) + 1]
    counts = np.bincount(low[merged.joined])
    ring = int(np.flatnonzero(counts >= 4)[0])  # a cell in the corner of four tiles
    row = merged.seams[np.flatnonzero(merged.joined & (low == ring))[0]]
    pair = (int(row["low"]), int(row["low_id"])), (int(row["high"]), int(row["high_id"]))
    decisions = Decisions.load(job.folder)
    decisions.set(pair, "cut")
    assert decisions.without_effect(job.merge(cut=decisions.cut)) == [pair]


def test_csv_has_evidence_decision_and_outcome(job: Job, tmp_path: Path) -> None:
    cut, far = pairs_of(job)[0], ((0, 1), (3, 1))
    decisions = Decisions.load(job.folder)
    decisions.set(cut, "cut")
    decisions.set(far, "join")
    merged = job.merge(cut=decisions.cut, join=decisions.join)
    export_csv(tmp_path / "pairs.csv", merged, decisions, axes="yx", scale=(0.5, 0.25), units=("micrometer", None))
    with open(tmp_path / "pairs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(merged.seams) + (far not in pairs_of(job, False))
    row = next(r for r in rows if r["decision"] == "cut")
    assert [int(row[k]) for k in ("low_tile", "low_id", "high_tile", "high_id")] == [*cut[0], *cut[1]]
    assert (row["rule_joins"], row["joined"]) == ("1", "0")
    assert float(row["band_iou"]) == 1
    assert float(row["y_micrometer"]) == pytest.approx(float(row["y_voxel"]) * 0.5)
    assert float(row["x_scaled"]) == pytest.approx(float(row["x_voxel"]) * 0.25)
    row = next(r for r in rows if r["decision"] == "join")
    assert row["one_object"] == "1"
    restage(job, cut[0][0])
    export_csv(tmp_path / "pairs.csv", job.merge(), Decisions.load(job.folder))
    with open(tmp_path / "pairs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {r["set_aside"] for r in rows} > {f"tile {cut[0][0]} was segmented again"}


# ------------------------------------------------------------------------------------------------------ any sequence
@pytest.fixture(scope="module")
def shared_job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return make_job(tmp_path_factory.mktemp("job"))


STEP = st.one_of(
    st.tuples(st.just("set"), st.integers(0, 4), st.sampled_from(["join", "cut", None])),
    st.tuples(st.sampled_from(["undo", "redo", "clear", "load"]), st.just(0), st.none()),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, max_size=25))
def test_undo_and_redo_walk_through_every_state(shared_job: Job, steps: list) -> None:
    """Compare with a simple model: a list of all states and the current position."""
    (shared_job.folder / "decisions.json").unlink(missing_ok=True)
    pairs = pairs_of(shared_job)[:5]
    decisions = Decisions.load(shared_job.folder)
    states, place = [{}], 0
    for what, k, decision in steps:
        if what == "load":
            decisions = Decisions.load(shared_job.folder)
        elif what == "undo":
            assert decisions.can_undo == (place > 0)
            decisions.undo()
            place = max(0, place - 1)
        elif what == "redo":
            assert decisions.can_redo == (place < len(states) - 1)
            decisions.redo()
            place = min(len(states) - 1, place + 1)
        else:
            state = dict(states[place])
            if what == "clear":
                decisions.clear()
                if not state:
                    continue
                state = {}
            else:
                decisions.set(pairs[k], decision)
                state.pop(pairs[k], None)
                state |= {} if decision is None else {pairs[k]: decision}
            states, place = [*states[: place + 1], state], place + 1
        assert list(decisions.applied.items()) == list(states[place].items())
        assert set(decisions.cut) | set(decisions.join) == set(states[place])
    kept = Decisions.load(shared_job.folder)
    assert kept.applied == decisions.applied
    if steps and (shared_job.folder / "decisions.json").exists():
        assert json.loads((shared_job.folder / "decisions.json").read_bytes())["format"] == 1


def test_the_command_line_applies_and_reports_decisions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from napari_blockbuster.cli.main import main

    pixels = np.zeros((40, 64), np.uint8)
    pixels[5:12, 28:36] = pixels[20:28, 20:44] = 200
    image = tmp_path / "image.zarr"
    zarr.create_array(str(image), data=pixels, chunks=(40, 32))
    output = tmp_path / "labels.ome.zarr"
    words = ["segment", str(image), "--model", "threshold", "--set", "threshold=100", "-o", str(output), "--quiet"]
    assert main([*words, "--tile", "40", "32", "--halo", "0", "16", "--workers", "0", "--keep-stage"]) == 0
    before = np.unique(open_labels(output).compute()).size
    folder = tmp_path / "labels.ome.zarr.job"
    Decisions.load(folder).set(((0, 1), (1, 1)), "cut")
    capsys.readouterr()
    assert main(["merge", str(folder), "--overwrite", "--quiet"]) == 0
    assert "1 pair cut and 0 joined by hand" in capsys.readouterr().out
    assert np.unique(open_labels(output).compute()).size == before + 1
    assert main(["info", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "1 pair cut" in told
    assert "seams" in told


ASLEEP = """
import os, signal, sys
from pathlib import Path
from napari_blockbuster.merge.decisions import Decisions, DecisionsError

def stop(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith("decisions.json"):
        os.kill(os.getpid(), signal.SIGSTOP)

decisions = Decisions.load(sys.argv[1])
sys.addaudithook(stop)
try:
    decisions.set(((0, 1), (1, 1)), "join")
except DecisionsError as error:
    sys.exit(str(error))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="signals of POSIX")
def test_a_decision_that_slept_does_not_reach_the_job_that_replaced_its_own(tmp_path: Path) -> None:
    image = np.zeros((16, 32), np.uint8)
    image[4:8, 10:20] = 9
    options = {"tile_shape": 16, "halo": 2}
    job = Job.create(image, "threshold", tmp_path / "o.ome.zarr", **options)
    list(job.stage())
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", ASLEEP, str(job.folder)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment) as sleeper:
        os.waitpid(sleeper.pid, os.WUNTRACED)
        again = Job.create(image + np.uint8(1), "threshold", tmp_path / "o.ome.zarr", overwrite=True, **options)
        list(again.stage())
        os.kill(sleeper.pid, signal.SIGCONT)
        said = sleeper.communicate(timeout=60)[1]
    assert "Another run replaced the job in" in said
    assert not (again.folder / "decisions.json").exists()
    assert not list(again.folder.glob("*.tmp"))
