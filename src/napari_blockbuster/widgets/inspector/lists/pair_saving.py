"""Save the table of pairs of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QObject

from napari_blockbuster.machine.units import count_text
from napari_blockbuster.merge.pair_export import export_csv
from napari_blockbuster.widgets.run.control.control import RunControl
from napari_blockbuster.widgets.runner import in_thread

__all__ = ["save_pairs"]


def save_pairs(path: str | Path, control: RunControl, owner: QObject) -> None:
    """Save all pairs with their evidence and decisions as CSV, in a thread."""
    job, merged = control.job, control.merged
    if job is None or merged is None:
        show_warning("There is no merge to save yet.")
        return
    source = job.source
    where = {} if source is None else {"axes": source.axes, "scale": source.scale, "units": source.units}
    decisions = control.decisions

    def saved(_: Any) -> None:
        show_info(f"{count_text(len(merged.seams), 'pair')} saved to {path}")

    in_thread(
        lambda: export_csv(path, merged, decisions, **where),
        saved,
        lambda error: show_warning(f"The pairs could not be saved: {error}"),
        owner=owner,
    )
