"""Scripts copied by *Copy as script* run unchanged and give the same labels."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_blockbuster import Job
from napari_blockbuster.images import open_image
from napari_blockbuster.merge.decisions import Decisions
from napari_blockbuster.merge.filters import ObjectFilter
from napari_blockbuster.models import as_model, get_model
from napari_blockbuster.output.label_image import open_labels
from napari_blockbuster.widgets.choices.plan import MergeChoice, Plan
from napari_blockbuster.widgets.session import ClusterChoice


@pytest.fixture
def image(tmp_path: Path, blobs: np.ndarray) -> Path:
    path = tmp_path / "two channels.zarr"
    zarr.create_array(
        str(path), data=np.stack([blobs[::-1], blobs]), chunks=(1, 16, 32, 32), dimension_names=list("czyx")
    )
    return path


def plan_for(image: Path, output: Path, model: object) -> Plan:
    return Plan(
        source=open_image(image, channel=1),
        model=as_model(model),
        tile_shape=(48, 40, 40),
        halo=(0, 12, 12),
        output=str(output),
        cluster=ClusterChoice(1),
        merge=MergeChoice("overlap", 0.4, filter=ObjectFilter(60, None, True, True, max_hole_size=9)),
    )


def run_in_viewer_way(plan: Plan) -> tuple[np.ndarray, Decisions]:
    """Run a plan, cut a pair and join another one; returns the labels and these decisions."""
    job = plan.create_job()
    for _ in job.stage():
        pass
    seams = job.merge(**plan.merge.options())
    joined = seams.seams[seams.joined & (seams.seams["low"] == 0)]
    decisions = Decisions.load(job.folder)
    decisions.set([((0, int(r["low_id"])), (int(r["high"]), int(r["high_id"]))) for r in joined], "cut")
    kept = [next(i for i in range(1, 999) if seams.object_of(tile, i)) for tile in (0, 3)]
    decisions.set(((0, kept[0]), (3, kept[1])), "join")
    decisions.remove([(1, next(i for i in range(1, 999) if seams.object_of(1, i)))])
    given = {"cut": decisions.cut, "join": decisions.join, "remove": decisions.removed}
    merged = job.merge(**plan.merge.options(), **given)
    labels = np.asarray(merged.labels)
    assert not np.array_equal(labels, seams.labels.compute())
    return labels, decisions


@pytest.mark.parametrize("kind", ["script", "command"])
@pytest.mark.parametrize("model", ["settings", "function"])
def test_what_is_copied_runs_and_agrees(image: Path, tmp_path: Path, kind: str, model: str) -> None:
    if model == "function":
        (tmp_path / "own.py").write_text(
            "from scipy import ndimage\n\ndef f(tile):\n    return ndimage.label(tile > 900)[0]\n"
        )
        chosen: object = f"{tmp_path / 'own.py'}:f"
    else:
        chosen = get_model("voronoi-otsu", diameter=12.5, outline=0.5)
    seen = plan_for(image, tmp_path / "viewer.ome.zarr", chosen)
    expected, decisions = run_in_viewer_way(seen)
    corrected = seen.corrected(Job.open(seen.output), decisions, again=())
    assert corrected.corrections["cut"] == decisions.cut
    assert corrected.corrections["join"] == decisions.join
    assert corrected.corrections["remove"] == decisions.removed
    # Labels of other tiles, and of tiles that were segmented again, are others.
    assert replace(seen, halo=(0, 8, 8)).corrected(Job.open(seen.output), decisions, again=()).corrections == {}
    assert seen.corrected(Job.open(seen.output), decisions, again=[0, 1, 2, 3]).corrections == {}
    plan = replace(corrected, output=str(tmp_path / "copied.ome.zarr"))
    if kind == "script":
        script = tmp_path / "copied.py"
        script.write_text(plan.script())
        command = [sys.executable, str(script)]
    else:
        command = [sys.executable, "-m", "napari_blockbuster.cli", *shlex.split(plan.command())[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(open_labels(tmp_path / "copied.ome.zarr").compute(), expected)


def test_a_script_for_an_image_in_memory_says_what_to_do(blobs: np.ndarray, tmp_path: Path) -> None:
    plan = Plan(open_image(blobs), get_model(), (48, 40, 40), (0, 12, 12), str(tmp_path / "labels.ome.zarr"))
    assert "Save it first" in plan.script()
    compile(plan.script(), "copied", "exec")


def test_the_grid_of_a_plan_is_that_of_its_job(image: Path, tmp_path: Path) -> None:
    plan = plan_for(image, tmp_path / "labels.ome.zarr", "threshold")
    job = plan.create_job()
    assert job.grid == plan.grid()
    assert Job.open(job.folder).grid == plan.grid()


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (ClusterChoice(3), ["--workers", "3"]),
        (ClusterChoice(0), []),
        (ClusterChoice(2, address="tcp://head:8786"), ["--scheduler", "tcp://head:8786"]),
        (ClusterChoice(2, use_gpu=True, workers_per_gpu=4), ["--gpu", "--workers-per-gpu", "4"]),
    ],
)
def test_a_cluster_as_options_of_the_command_line(choice: ClusterChoice, words: list[str]) -> None:
    assert choice.words() == words
