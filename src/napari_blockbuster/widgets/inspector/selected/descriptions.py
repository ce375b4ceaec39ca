"""Texts of the inspector about a pair of labels."""

from __future__ import annotations

from collections.abc import Sequence

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.inspect.doubt import margin_text
from napari_blockbuster.machine.units import count_text
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.merge.links import other_links
from napari_blockbuster.merge.pairs import PairOfLabels
from napari_blockbuster.widgets.run.control.control import RunControl

__all__ = ["describe_pair", "listed", "pair_text", "planes_text", "replaced_text", "tiles_text"]


def pair_text(pair: PairOfLabels, merged: Merge, control: RunControl) -> tuple[str, list[PairOfLabels]]:
    """Describe a pair of the job of a `RunControl`; also returns what else connects its labels (`other_links`)."""
    row, job, decisions = merged.row_of(pair), control.job, control.decisions
    decision = None if decisions is None else decisions.decision_on(pair)
    # Labels that do not meet at a seam are joined only by hand, or through others.
    joined_here = decision == "join" if row is None else bool(merged.joined[row])
    links = other_links(merged, pair) if merged.is_one_object(pair) and not joined_here else None
    text = describe_pair(pair, merged, control.merged or merged, decision, links)
    if row is not None and job is not None:
        axes = tuple(job.source.axes if job.source is not None else job.spec.image["axes"])
        text += planes_text(row, merged, job.grid, axes)
        text += f" {margin_text(merged, row)}".rstrip()
    return text, links or []


def describe_pair(
    pair: PairOfLabels, merged: Merge, kept: Merge, decision: str | None, links: Sequence[PairOfLabels] | None
) -> str:
    """Describe a pair: whether it is one object and why, and the user's decision.

    Parameters
    ----------
    pair : ((tile, id), (tile, id))
    merged, kept : Merge
        Before and after the object filter.
    decision : {"join", "cut"} or None
    links : sequence of pairs or None
        What else connects the two labels, if they are one object without being joined here; see `other_links`.
    """
    low, high = (f"label {label:,} of tile {tile:,}" for tile, label in pair)
    colors = (" (blue)", " (yellow)")
    state = "one object" if merged.is_one_object(pair) else "two objects"
    text = f"{low.capitalize()}{colors[0]} and {high}{colors[1]} are <b>{state}</b>."
    if decision:
        text += f" Your decision: {decision}."
    if links:
        still = " still" if decision == "cut" else ""
        text += f" Other labels{still} connect them, through {tiles_text(links)}."
    elif links is not None:
        text += " Labels that are joined inside a tile still connect them, which no cut at a seam can separate."
    excluded = [f"label {label:,} of tile {tile:,}" for tile, label in pair if not kept.object_of(tile, label)]
    if excluded:
        text += f" The object filter excludes {listed(excluded)}."
    return text


def planes_text(row: int | None, merged: Merge, grid: TileGrid, axes: Sequence[str]) -> str:
    """Say which planes show which label of a pair, if its seam lies between two planes of the view."""
    if row is None:
        return ""
    seam = merged.seams[row]
    axis = int(seam["axis"])
    if axis >= grid.ndim - 2:
        return ""
    last = grid[int(seam["low"])].core.stop[axis] - 1
    name = axes[axis]
    return f" They are in different planes: blue up to {name} = {last:,}, yellow from {name} = {last + 1:,}."


def replaced_text(n_before: int, n_now: int, n_more_aside: int) -> str:
    """Describe the effect of replaced tiles on the objects and on the user's decisions."""
    text = f"{count_text(n_before, 'object')} before, {n_now:,} now."
    if n_more_aside > 0:
        text += (
            f" {count_text(n_more_aside, 'decision')} set aside, because a tile was segmented again. "
            "Restore the original tiles to apply it again."
        )
    elif n_more_aside < 0:
        text += f" {count_text(-n_more_aside, 'decision')} applied again."
    return text


def tiles_text(pairs: Sequence[PairOfLabels]) -> str:
    """Name the tiles of pairs."""
    tiles = sorted({tile for pair in pairs for tile, _ in pair})
    named = [f"{tile:,}" for tile in tiles[:6]]
    return f"tiles {listed(named)}" if len(tiles) <= 6 else f"{len(tiles):,} tiles ({', '.join(named)}, …)"


def listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
