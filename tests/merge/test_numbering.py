"""Merging: decisions, overrides, numbering."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.merge.numbering import merge_labels
from napari_blockbuster.stage.seams.evidence import evidence_dtype
from napari_blockbuster.stage.tables.label_table import LabelTable


def evidence(*rows: tuple[int, int, int, int]) -> np.ndarray:
    """Rows of labels in full agreement: (low tile, low id, high tile, high id)."""
    table = np.zeros(len(rows), evidence_dtype(2))
    for row, (low, low_id, high, high_id) in zip(table, rows, strict=True):
        row["low"], row["low_id"], row["high"], row["high_id"] = low, low_id, high, high_id
        row["contact"] = (10, 0, 0)
        for name in ("low_face", "high_face"):
            row[name] = 10
        for name in ("shared", "low_band", "high_band"):
            row[name] = 100
    return table


def run(table: np.ndarray, counts: object, **options: object) -> Merge:
    return merge_labels(table, LabelTable.of_counts(np.asarray(counts)), **options)


def test_a_chain_over_tiles_is_one_object() -> None:
    merged = run(evidence((0, 1, 1, 1), (1, 1, 2, 2)), np.array([2, 1, 3]))
    assert merged.n_labels == 6
    assert merged.n_objects == 4
    assert merged.table(0).tolist() == [0, 1, 2]
    assert merged.table(1).tolist() == [0, 1]
    assert merged.table(2).tolist() == [0, 3, 1, 4]


def test_cut_and_join_overrule_the_rule() -> None:
    table = evidence((0, 1, 1, 1))
    counts = np.array([2, 2])
    assert run(table, counts).n_objects == 3
    cut = run(table, counts, cut=[((1, 1), (0, 1))])
    assert cut.n_objects == 4
    assert not cut.joined.any()
    joined = run(table, counts, rule="none", join=[((0, 2), (1, 2)), ((0, 1), (1, 1))])
    assert joined.n_objects == 2
    assert joined.joined.all()


def test_join_reaches_beyond_the_evidence() -> None:
    merged = run(evidence(), np.array([3, 0, 1]), join=[((0, 1), (0, 3)), ((0, 2), (2, 1))])
    assert merged.table(0).tolist() == [0, 1, 2, 1]
    assert merged.table(2).tolist() == [0, 2]


def test_numbers_that_are_not_sequential_are_those_of_first_labels() -> None:
    merged = run(evidence((0, 1, 1, 1)), np.array([2, 2]), sequential=False)
    assert merged.table(0).tolist() == [0, 1, 2]
    assert merged.table(1).tolist() == [0, 1, 4]


def test_more_labels_than_uint32_are_counted_in_uint64() -> None:
    # Only the offsets are large: the tables of 2^32 labels would not fit a test.
    from napari_blockbuster.merge.numbering import id_dtype

    assert id_dtype(2**32 - 1) == np.uint32
    assert id_dtype(2**32) == np.uint64


@given(st.integers(0, 2**32 - 1))
def test_numbering_is_sequential_and_follows_first_members(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 6, 8)
    rows = [
        (low, int(rng.integers(1, counts[low] + 1)), low + 1, int(rng.integers(1, counts[low + 1] + 1)))
        for low in range(7)
        if counts[low] and counts[low + 1] and rng.random() < 0.7
    ]
    merged = run(evidence(*rows), counts)
    ids = merged.new_ids[1:]
    assert set(ids.tolist()) == set(range(1, merged.n_objects + 1))
    _, first = np.unique(ids, return_index=True)
    assert (np.diff(first) > 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "magic"}, "unknown merge rule 'magic'. The rules are overlap, face, touch, none"),
        ({"min_iou": 1.5}, "min_iou is 1.5"),
        ({"connectivity": 0}, "connectivity is 0"),
        ({"cut": [((0, 1), (1, 9))]}, "Label 9 of tile 1 does not exist"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(evidence((0, 1, 1, 1)), np.array([1, 1]), **options)
