"""How often a tile is tried, and how a model that ran out of memory is given less to do at a time."""

from __future__ import annotations

import gc
import sys

import numpy as np

from napari_blockbuster.models.base import Segmenter

__all__ = ["allowed_attempts", "free_memory", "is_out_of_memory", "segment_in_memory"]

OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError", "_ArrayMemoryError", "ResourceExhaustedError", "XlaRuntimeError")
"""Names of the exceptions of torch and cupy, Python and numpy, tensorflow, jax: none of them is imported to ask."""
SURE = ("LabelsError", "WorkerDiedError", "ClaimedError")
"""Failures that another attempt would only repeat: wrong labels, what has killed several workers already, and a tile that
a process of another driver holds."""


def allowed_attempts(error: str) -> int:
    """How often a tile that fails with an exception of this name is tried in one run."""
    if error in SURE:
        return 1
    return 3 if error in OUT_OF_MEMORY else 2


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory (of the GPU or the host) did not suffice."""
    return any(kind.__name__ in OUT_OF_MEMORY for kind in type(error).__mro__) or (
        isinstance(error, RuntimeError) and "out of memory" in str(error).lower()
    )


def segment_in_memory(segmenter: Segmenter, pixels: np.ndarray) -> np.ndarray:
    """Call a segmenter, and one with a smaller batch for as long as memory does not suffice.

    A segmenter may offer ``smaller_batch()``, which returns the same segmenter with a smaller batch, or None at the
    end. The result must not depend on the batch.
    """
    while True:
        try:
            return segmenter(pixels)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            offer = getattr(segmenter, "smaller_batch", None)
            smaller: Segmenter | None = offer() if callable(offer) else None
            if smaller is None:
                free_memory()
                raise
        # Only here, where the exception is gone, are the arrays of its frames gone as well.
        free_memory()
        segmenter = smaller


def free_memory() -> None:
    """Give back what can be given back, also what torch keeps for later on the GPU."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
