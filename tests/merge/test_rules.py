"""The default rule on tissue without gaps: a perfect model recovers every cell, a noisy one stays within measured bounds.

How the rule was found, with the alternatives and their figures, is in docs/merge.md.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tissue
from helpers import assemble, assert_same_objects, merge_store, stage_tiles

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.inspect.doubt import doubt_of, margin_text
from napari_blockbuster.merge.numbering import merge_labels
from napari_blockbuster.stage.seams.evidence import evidence_dtype
from napari_blockbuster.stage.store import StageStore
from napari_blockbuster.stage.tables.label_table import LabelTable

SCENES = {
    2: {"shape": (640, 640), "tile": 160, "cell": 24, "halo": 32, "seeds": range(900, 908)},
    3: {"shape": (112, 112, 112), "tile": 56, "cell": 16, "halo": 18, "seeds": range(900, 908)},
}


def stage_scene(folder: Path, ndim: int, seed: int, model) -> tuple[StageStore, np.ndarray]:
    scene = SCENES[ndim]
    truth = tissue.voronoi_tissue(scene["shape"], scene["cell"], seed)
    grid = TileGrid(truth.shape, scene["tile"], scene["halo"])
    store = stage_tiles(
        folder,
        grid,
        lambda tile: truth[tile.read.slices],
        lambda tile, box: model(box, tile.read.start, truth.shape, seed),
    )
    return store, truth


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_perfect_model_on_abutting_cells_comes_back_cell_for_cell(ndim: int, tmp_path: Path) -> None:
    store, truth = stage_scene(tmp_path / "s", ndim, 1, tissue.perfect_model)
    assert_same_objects(assemble(store, merge_store(store)), truth)


def test_touch_fuses_confluent_cells(tmp_path: Path) -> None:
    """The reason why ``touch`` is not the default and why the documentation warns about it."""
    store, truth = stage_scene(tmp_path / "s", 2, 1, tissue.perfect_model)
    touched = tissue.overlap_table(truth, assemble(store, merge_store(store, rule="touch")))
    assert tissue.score(touched, tissue.seam_cells(truth, store.grid))["fused"] > 0.5


@pytest.fixture(scope="module")
def noisy_scores(tmp_path_factory) -> dict[int, dict[str, float]]:
    scores = {}
    for ndim, scene in SCENES.items():
        rows = []
        for seed in scene["seeds"]:
            store, truth = stage_scene(tmp_path_factory.mktemp("noisy") / "s", ndim, seed, tissue.noisy_model)
            alone = tissue.overlap_table(truth, assemble(store, merge_store(store, rule="none")))
            merged = tissue.overlap_table(truth, assemble(store, merge_store(store)))
            cells = tissue.seam_cells(truth, store.grid)
            own = tissue.fused_cells(alone)
            rows.append(tissue.score(merged, cells, own=own))
        scores[ndim] = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    return scores


def test_a_noisy_model_in_2d(noisy_scores) -> None:
    score = noisy_scores[2]
    assert score["recall"] >= 0.885, score
    assert score["fused"] <= 0.065, score
    assert score["split"] <= 0.06, score


def test_a_noisy_model_in_3d(noisy_scores) -> None:
    """Fusions made by the model inside one tile (3.6 % here) cannot be undone by a merge and do not count."""
    score = noisy_scores[3]
    assert score["recall"] >= 0.735, score
    assert score["net"] <= 0.028, score
    assert score["split"] <= 0.04, score


# ------------------------------------------------------------------------------------------------- the rule, by hand
def pair(
    shared: int, low: int, high: int, low_size: int, high_size: int, typical: float
) -> tuple[np.ndarray, LabelTable]:
    table = np.zeros(1, evidence_dtype(2))
    table["low"], table["high"], table["low_id"], table["high_id"] = 0, 1, 1, 1
    table["shared"], table["low_band"], table["high_band"] = shared, low, high
    labels = LabelTable.of_counts(np.array([1, 1]))
    labels.objects["read"] = [low_size, high_size]
    labels.typical_size[:] = typical
    return table, labels


@pytest.mark.parametrize(
    ("numbers", "joined"),
    [
        ((100, 100, 100, 100, 100, 100), True),  # the same object twice
        ((50, 50, 100, 50, 100, 100), True),  # half of a split object and the whole one, of typical size
        ((50, 50, 100, 50, 200, 100), False),  # half of a fused pair and the pair: as large as two
        ((60, 60, 100, 60, 200, 100), True),  # above 0.55 even a very large pair is joined
        ((20, 50, 100, 50, 100, 100), False),  # neighbors that overlap slightly
        ((50, 50, 100, 50, 100, 0), False),  # no typical size is known: not joined
        ((0, 100, 100, 100, 100, 100), False),
    ],
)
def test_size_tells_a_split_object_from_a_fused_pair(numbers: tuple, joined: bool) -> None:
    table, labels = pair(*numbers)
    assert merge_labels(table, labels).joined.tolist() == [joined]


def test_a_margin_says_how_it_comes_about() -> None:
    merged = merge_labels(*pair(100, 100, 100, 100, 100, 100))
    assert margin_text(merged, 0) == "Agreement 1.00, threshold 0.25: margin 0.75."
    merged = merge_labels(*pair(50, 50, 100, 50, 200, 100))
    text = margin_text(merged, 0)
    assert text.startswith("Agreement 0.00, threshold 0.25: margin 0.25. The agreement is lower than the IoU (0.50), ")
    assert "larger than a typical object" in text
    assert "less than half of the smaller label" in margin_text(merge_labels(*pair(20, 50, 100, 50, 100, 100)), 0)
    # Two labels that neither touch nor overlap are no matter of doubt.
    apart, labels = pair(0, 100, 100, 100, 100, 100)
    assert doubt_of(merge_labels(apart, labels)).tolist() == [np.inf]
    apart["contact"] = 1
    assert doubt_of(merge_labels(apart, labels)).tolist() == [0.25]
    assert margin_text(merge_labels(apart, labels, rule="touch"), 0) == ""


@pytest.mark.parametrize(
    ("small_core", "large_core", "cut", "joined"),
    [
        (10, 90, False, True),  # most of the small one lies beyond its core, where the large one is written
        (40, 90, False, False),  # most of it lies in its core: joining would fuse
        (10, 20, False, False),  # the written part of the large one is too small
        (10, 90, True, False),  # cut by its read box: unknown
    ],
)
def test_a_fusion_that_stands_already_takes_the_rest_of_its_cell(
    small_core: int, large_core: int, cut: bool, joined: bool
) -> None:
    table, labels = pair(50, 50, 100, 50, 200, 100)
    labels.objects["core"] = [small_core, large_core]
    labels.objects["cut"][0] = cut
    assert merge_labels(table, labels).joined.tolist() == [joined]
    swapped = table.copy()
    swapped["low_id"], swapped["high_id"] = 1, 1
    swapped["low_band"], swapped["high_band"] = table["high_band"], table["low_band"]
    labels.objects[:] = labels.objects[::-1].copy()
    assert merge_labels(swapped, labels).joined.tolist() == [joined]


def test_raising_the_threshold_only_undoes_joins(tmp_path: Path) -> None:
    store, _ = stage_scene(tmp_path / "s", 2, 3, tissue.noisy_model)
    for rule in ("overlap", "face"):
        before = None
        for threshold in np.linspace(0, 1, 11):
            joined = merge_store(store, rule=rule, min_iou=float(threshold)).joined
            if before is not None:
                assert not (joined & ~before).any()
            before = joined


def test_without_a_halo_the_faces_decide(tmp_path: Path) -> None:
    truth = tissue.voronoi_tissue((200, 200), 30, 5)
    grid = TileGrid(truth.shape, 70, 0)
    store = stage_tiles(
        tmp_path / "s",
        grid,
        lambda tile: truth[tile.read.slices],
        lambda tile, box: tissue.perfect_model(box, tile.read.start, truth.shape),
    )
    overlap, face = merge_store(store), merge_store(store, rule="face")
    np.testing.assert_array_equal(overlap.joined, face.joined)
    cells = tissue.seam_cells(truth, grid)
    score = tissue.score(tissue.overlap_table(truth, assemble(store, overlap)), cells)
    assert score["recall"] > 0.9
