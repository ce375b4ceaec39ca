"""Device and threads of a torch network."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["choose_device", "fast_in_bfloat16", "share_threads"]


def choose_device(asked: str) -> Any:
    """The torch device: what was asked for, or CUDA, or MPS, or the CPU.

    Raises
    ------
    RuntimeError
        If the device that was asked for is not there.
    """
    import torch

    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked == "auto":
        asked = next(name for name, found in here.items() if found)
    if not here[asked]:
        raise RuntimeError(f"device is {asked!r}, but torch {torch.__version__} finds no such device on this machine")
    # A worker sees one GPU only (CUDA_VISIBLE_DEVICES), so the first is its own.
    return torch.device("cuda", 0) if asked == "cuda" else torch.device(asked)


def fast_in_bfloat16(device: Any) -> bool:
    """Whether 16-bit floats are faster than 32-bit ones: on GPUs that compute in them (NVIDIA Ampere and later).

    A CPU without instructions for them is 7 times slower; for MPS there are no measurements.
    """
    import torch

    return bool(device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0))


def share_threads() -> int:
    """Keep torch and OpenCV to this process's share of the CPUs; clusters say it in ``OMP_NUM_THREADS``."""
    import cv2
    import torch

    from napari_blockbuster.machine.limits import cpu_count

    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    share = int(said) if said.isdigit() and int(said) > 0 else cpu_count()
    threads: int = max(1, min(share, torch.get_num_threads()))
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    return threads
