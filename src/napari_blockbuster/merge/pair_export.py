"""The pairs of a merge as a CSV table: evidence, outcome and decisions."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_blockbuster.machine.disk import writing_to
from napari_blockbuster.machine.files import write_atomically

from .assignment import Merge
from .decisions import Decisions
from .pairs import PairOfLabels
from .rules import band_iou, face_iou, joined_by_rule

__all__ = ["export_csv"]

_COLUMNS = ("low_tile", "low_id", "high_tile", "high_id", "axis", "contact_face", "contact_edge", "contact_corner")
_OUTCOME = ("agreement", "rule_joins", "decision", "joined", "one_object", "set_aside")


def export_csv(
    path: str | Path,
    merged: Merge,
    decisions: Decisions | None = None,
    *,
    axes: Sequence[str] | None = None,
    scale: Sequence[float] | None = None,
    units: Sequence[str | None] | None = None,
) -> None:
    """Write a CSV file with one row per pair: its evidence, the outcome of the rule, and a person's decision.

    Decisions on labels that do not meet at a seam follow without evidence. If a decision is set aside, the last column says
    why.

    Parameters
    ----------
    path : path
    merged : Merge
    decisions : Decisions, optional
    axes, scale, units : sequence, optional
        Name, voxel size and unit of each axis, for the position columns.
    """
    given = decisions.applied if decisions is not None else {}
    names = list(axes or [f"axis{k}" for k in range(merged.seams["position"].shape[1])])
    evidence = [*_COLUMNS, "band_iou", "face_iou", *(f"{name}_voxel" for name in names)]
    if scale is not None:
        named = zip(names, units or [None] * len(names), strict=True)
        evidence += [f"{name}_{unit or 'scaled'}" for name, unit in named]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*evidence, *_OUTCOME])
    for pair, row, (agreed, by_rule, joined, one) in _evidence_rows(merged, scale):
        table.writerow([*row, agreed, by_rule, given.pop(pair, ""), joined, one, ""])
    blank = [""] * (len(evidence) - 4 + 2)
    for pair, decision in given.items():
        one = int(merged.is_one_object(pair))
        table.writerow([*pair[0], *pair[1], *blank, decision, int(pair in merged.join), one, ""])
    if decisions is not None:
        for pair, why in decisions.set_aside.items():
            table.writerow([*pair[0], *pair[1], *blank, decisions.decision_on(pair), "", "", why])
    target = Path(path).absolute()
    with writing_to(target.parent):
        write_atomically(target, text.getvalue().encode())


def _evidence_rows(
    merged: Merge, scale: Sequence[float] | None
) -> Iterator[tuple[PairOfLabels, list[Any], tuple[Any, int, int, int]]]:
    """For each pair its labels, its evidence, and (agreement, joined by the rule, joined, one object in the end)."""
    seams = merged.seams
    has_score = len(merged.agreement) == len(seams)
    score = merged.agreement if has_score else None
    by_rule = joined_by_rule(merged.rule, seams, merged.min_iou, merged.connectivity, score)
    columns: list[list[Any]] = [seams[name].tolist() for name in ("low", "low_id", "high", "high_id", "axis")]
    columns += [seams["contact"][:, k].tolist() for k in range(3)]
    columns += [np.round(iou, 4).tolist() for iou in (band_iou(seams), face_iou(seams))]
    place = seams["position"].astype(np.float64)
    columns += [np.round(place[:, k], 2).tolist() for k in range(place.shape[1])]
    if scale is not None:
        # The center of voxel 0 is the origin, as in OME-NGFF and napari.
        columns += [np.round(place[:, k] * s, 6).tolist() for k, s in enumerate(scale)]
    agreed: list[Any] = np.round(score, 4).tolist() if score is not None else [""] * len(seams)
    low, high = (merged.new_ids[merged.labels_table.numbers(seams[s], seams[f"{s}_id"]) + 1] for s in ("low", "high"))
    outcomes = (flags.astype(int).tolist() for flags in (by_rule, merged.joined, (low == high) & (low > 0)))
    ends = zip(agreed, *outcomes, strict=True)
    for row, end in zip(zip(*columns, strict=True), ends, strict=True):
        yield ((row[0], row[1]), (row[2], row[3])), list(row), end
