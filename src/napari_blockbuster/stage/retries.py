"""Number of attempts for a tile that fails."""

from __future__ import annotations

from napari_blockbuster.models.networks.memory import OUT_OF_MEMORY

__all__ = ["allowed_attempts"]

SURE = ("LabelsError", "WorkerDiedError", "ClaimedError")
"""Failures that another attempt would only repeat: wrong labels, a tile that has killed several workers, and a tile that a
process of another driver holds."""


def allowed_attempts(error: str) -> int:
    """Return how often a tile that fails with an exception of this name is tried in one run."""
    if error in SURE:
        return 1
    return 3 if error in OUT_OF_MEMORY else 2
