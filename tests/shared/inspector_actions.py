"""Inspector actions shared by several tests."""

from __future__ import annotations

from typing import Any


def settle(until: Any, widget: Any, act: Any) -> None:
    """Do something that merges anew, and wait for that merge."""
    before = widget.control.merged
    act()
    until(lambda: widget.control.merged is not before and widget.control.state in ("staged", "paused"))


def choose(inspector: Any, joined: bool, skip: int = 0) -> int:
    """Choose a pair that is joined, or apart; returns its line."""
    merged = inspector.control.unfiltered
    lines = [
        k
        for k in range(inspector.tabs.pairs.model.rowCount())
        if merged.joined[inspector.tabs.pairs.model.row_at(k)] == joined
    ]
    inspector.tabs.pairs.table.selectRow(lines[skip])
    return lines[skip]
