"""Number of attempts for a tile that fails, and recovery from a lack of memory."""

from __future__ import annotations

import gc
import sys

import numpy as np

from napari_blockbuster.models.base import Segmenter

__all__ = ["allowed_attempts", "free_memory", "is_out_of_memory", "segment_in_memory"]

OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError", "_ArrayMemoryError", "ResourceExhaustedError", "XlaRuntimeError")
"""Names of the exceptions of torch and cupy, Python and numpy, tensorflow, jax. By name, so that none of them is imported."""
SURE = ("LabelsError", "WorkerDiedError", "ClaimedError")
"""Failures that another attempt would only repeat: wrong labels, a tile that has killed several workers, and a tile that a
process of another driver holds."""


def allowed_attempts(error: str) -> int:
    """Return how often a tile that fails with an exception of this name is tried in one run."""
    if error in SURE:
        return 1
    return 3 if error in OUT_OF_MEMORY else 2


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that memory (of the GPU or the host) did not suffice."""
    return any(kind.__name__ in OUT_OF_MEMORY for kind in type(error).__mro__) or (
        isinstance(error, RuntimeError) and "out of memory" in str(error).lower()
    )


def segment_in_memory(segmenter: Segmenter, pixels: np.ndarray) -> np.ndarray:
    """Call a segmenter. If memory does not suffice, free what can be freed before the next attempt."""
    try:
        return segmenter(pixels)
    except Exception as error:
        if is_out_of_memory(error):
            free_memory()
        raise


def free_memory() -> None:
    """Free memory that nothing uses, including the GPU memory that torch keeps."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
