"""Summary of a finished run."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Summary"]


class Summary(NamedTuple):
    """Numbers of a finished run, for a terminal.

    Attributes
    ----------
    rows : list of (str, str)
        Names and numbers.
    n_tiles, n_missing : int
        All tiles, and those that hold background in the result.
    written : bool
        False if no tile could be segmented.
    """

    rows: list[tuple[str, str]]
    n_tiles: int
    n_missing: int
    written: bool

    @property
    def exit_code(self) -> int:
        """0, or 1 if tiles are missing from the result."""
        return 0 if self.written and not self.n_missing else 1
