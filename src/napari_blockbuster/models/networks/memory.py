"""Out of memory: recognize it, free what can be freed, and retry with less work at once.

Uses the libraries that are loaded already and imports none.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import TypeVar

__all__ = ["OUT_OF_MEMORY", "free_memory", "is_out_of_memory", "reason_of", "retry_in_memory"]

OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError", "_ArrayMemoryError", "ResourceExhaustedError", "XlaRuntimeError")
"""Names of the exceptions of torch and cupy, Python and NumPy, TensorFlow, and JAX."""
TEXTS = ("out of memory", "not enough memory", "can't allocate memory")
"""Messages of torch's bare RuntimeError."""
LONGEST = 200
Result = TypeVar("Result")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that the memory of the GPU or the host ran out."""
    if any(kind.__name__ in OUT_OF_MEMORY for kind in type(error).__mro__):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(t in text for t in TEXTS)


def reason_of(error: BaseException) -> str:
    """Return the line of an error message that names the cause."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # TorchScript first says where it happened.
    return lines[-1 if "TorchScript" in lines[0] else 0].strip()[:LONGEST]


def free_memory() -> None:
    """Free unused memory, including the GPU memory that torch caches."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def retry_in_memory(run: Callable[[], Result], shrink: Callable[[], bool], message: Callable[[str], str]) -> Result:
    """Run something that may run out of memory, with less work at once each time that it does.

    Parameters
    ----------
    run : callable
    shrink : callable
        Make the next attempt need less memory. Returns False if it cannot.
    message : callable
        Turns the reason into the final error message.

    Raises
    ------
    MemoryError
        If the smallest attempt runs out of memory too. Other errors are raised as they are.
    """
    while True:
        try:
            return run()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = reason_of(error)
        # Outside the handler, because the error keeps the arrays of its frames alive.
        free_memory()
        if not shrink():
            raise MemoryError(message(reason))
