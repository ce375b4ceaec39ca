"""The public API: fixed names, fixed parameters, and an import that loads neither Qt nor a network library."""

from __future__ import annotations

import inspect
import subprocess
import sys

import napari_blockbuster
from napari_blockbuster import Job, make_local_cluster, segment
from napari_blockbuster.models import get_model, list_models

MODELS = {
    *("voronoi-otsu", "dog-watershed", "distance-watershed", "threshold"),
    *("cellpose", "stardist", "instanseg", "function"),
}


def parameters(function: object) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def defaults(function: object) -> dict[str, object]:
    found = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in found if p.default is not inspect.Parameter.empty}


def test_segment_keeps_its_parameters_and_defaults() -> None:
    assert parameters(segment)[:3] == ["image", "model", "output"]
    assert {"tile_shape", "halo", "channel", "level", "client", "overwrite", "keep_stage"} <= set(parameters(segment))
    expected = {
        "output": None,
        "tile_shape": None,
        "halo": None,
        "channel": None,
        "level": 0,
        "client": None,
        "merge": "overlap",
        "min_iou": None,
        "connectivity": 1,
        "sequential_labels": True,
        "keep_stage": False,
        "overwrite": False,
        "progress": True,
    }
    assert {name: value for name, value in defaults(segment).items() if name in expected} == expected
    keyword_only = [p.name for p in inspect.signature(segment).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert parameters(segment) == ["image", "model", "output", *keyword_only]


def test_job_keeps_its_steps() -> None:
    assert parameters(Job.create)[:3] == ["image", "model", "output"]
    assert {"tile_shape", "halo"} <= set(parameters(Job.create))
    assert parameters(Job.open)[0] == "folder"
    assert parameters(Job.stage)[0] == "client"
    assert parameters(Job.merge)[:5] == ["rule", "min_iou", "connectivity", "cut", "join"]
    assert defaults(Job.merge) | {"cut": (), "join": ()} == defaults(Job.merge)
    assert parameters(Job.write)[:2] == ["merged", "client"]


def test_local_clusters_keep_their_parameters() -> None:
    expected = {"use_gpu": False, "n_workers": None, "memory_limit": "auto", "workers_per_gpu": "auto"}
    assert {name: value for name, value in defaults(make_local_cluster).items() if name in expected} == expected


def test_models_keep_their_names() -> None:
    assert set(list_models()) >= MODELS
    assert get_model("voronoi-otsu", diameter=18).family == "voronoi-otsu"


def test_the_package_exports_what_the_design_names() -> None:
    for name in ("segment", "make_local_cluster", "Job", "TileGrid", "Result"):
        assert getattr(napari_blockbuster, name).__name__ == name


def test_importing_the_package_loads_no_qt_torch_or_napari() -> None:
    code = (
        "import sys, napari_blockbuster; "
        "print(sorted({'qtpy', 'PyQt6', 'torch', 'napari', 'dask', 'distributed', 'zarr'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
