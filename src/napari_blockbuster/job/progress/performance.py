"""How well a run uses the model: how long it is idle, what it waits for, and what helps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from napari_blockbuster.stage.records.records import TileRecord

__all__ = ["Performance"]

BUSY = 0.8
"""Part of the time below which advice is given."""
ENOUGH = 8
"""Tiles after which the numbers say something."""


class Performance:
    """Sums over the tiles of a run.

    Add records from one thread. Others may read the text at any time.
    """

    def __init__(self) -> None:
        self.n_tiles = 0
        self._sums = dict.fromkeys(
            ("turn_seconds", "read_seconds", "write_seconds", "read_wait", "write_wait", "other_wait", "network_tiles"),
            0.0,
        )
        self._gpu: tuple[float, int] = (0.0, 0)

    @classmethod
    def of(cls, records: Iterable[TileRecord]) -> Self:
        """Return the sums over these tiles."""
        made = cls()
        for record in records:
            made.add(record)
        return made

    def add(self, record: TileRecord) -> None:
        """Add a staged tile. Tiles of early versions, without these times, do not count."""
        if not record.turn_seconds:
            return
        self.n_tiles += 1
        for name in self._sums:
            self._sums[name] += getattr(record, name)
        if record.gpu_busy >= 0:
            self._gpu = self._gpu[0] + record.gpu_busy, self._gpu[1] + 1

    @property
    def busy(self) -> float:
        """Part of the time between two tiles in which the model of a worker computed, from 0 to 1."""
        sums = self._sums
        total = sums["turn_seconds"] + sums["read_wait"] + sums["write_wait"] + sums["other_wait"]
        return sums["turn_seconds"] / total if total else 0.0

    @property
    def gpu_busy(self) -> float | None:
        """Part of the time in which the GPUs computed, as their driver says; None if unknown."""
        total, n = self._gpu
        return total / n if n else None

    def line(self) -> str:
        """Return the numbers as a line of text; empty before the first tile."""
        if not self.n_tiles:
            return ""
        per_tile = {name: value / self.n_tiles for name, value in self._sums.items()}
        parts = [f"busy {100 * self.busy:.0f} % of the time"]
        if self.gpu_busy is not None:
            parts.append(f"GPU busy {100 * self.gpu_busy:.0f} %")
        if self._sums["network_tiles"] and self._sums["turn_seconds"]:
            parts.append(f"{self._sums['network_tiles'] / self._sums['turn_seconds']:.0f} network tiles/s per worker")
        waits = (("reading", "read_wait"), ("writing", "write_wait"), ("the next tile", "other_wait"))
        said = [f"{_seconds(per_tile[name])} for {what}" for what, name in waits if per_tile[name] >= 0.001]
        return ", ".join(parts) + (f", waits {', '.join(said)} per tile" if said else "")

    def advice(self) -> str:
        """Return what would make the run faster; empty if the model is busy, or before enough tiles."""
        if self.n_tiles < ENOUGH or self.busy >= BUSY:
            return ""
        worst = max(("read_wait", "write_wait", "other_wait"), key=self._sums.__getitem__)
        whose = "The model" if self.gpu_busy is None else "The GPU"
        return {
            "read_wait": f"{whose} waits for reading: convert the image to chunks of about the size of a tile "
            "(napari-blockbuster convert), or let more workers share it",
            "write_wait": f"{whose} waits for writing: use larger tiles or a faster disk, or let more workers share it",
            "other_wait": f"{whose} waits for tiles: use larger tiles, or fewer workers",
        }[worst]

    def rows(self) -> list[tuple[str, str]]:
        """Return the numbers and the advice as (name, text)."""
        rows = [("model", self.line()), ("advice", self.advice())]
        return [(name, text) for name, text in rows if text]


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 0.095 else f"{1000 * value:.0f} ms"
