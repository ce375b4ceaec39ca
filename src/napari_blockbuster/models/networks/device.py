"""Device and CPU threads of a network."""

from __future__ import annotations

import os
from typing import Any, Literal

from napari_blockbuster.models.base import setting

__all__ = ["Device", "choose_device", "device_setting", "fast_in_bfloat16", "limit_torch_threads", "thread_share"]

Device = Literal["auto", "cuda", "mps", "cpu"]


def device_setting() -> Any:
    """Return the setting `device` of a torch network."""
    return setting(
        "auto",
        "Where the network runs. auto: CUDA, else MPS, else the CPU, chosen by each worker.",
        advanced=True,
    )


def choose_device(asked: str) -> Any:
    """Return the torch device that was asked for; for "auto" CUDA, else MPS, else the CPU.

    Raises
    ------
    RuntimeError
        If the device is not available.
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
    """Return whether a device computes faster in bfloat16: NVIDIA GPUs from Ampere on.

    A CPU without instructions for it is 7 times slower. MPS was not measured.
    """
    import torch

    return bool(device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0))


def thread_share() -> int:
    """Return the number of threads that a network may use in this process. Clusters set ``OMP_NUM_THREADS``."""
    from napari_blockbuster.machine.limits import cpu_count

    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(said) if said.isdigit() and int(said) > 0 else cpu_count()


def limit_torch_threads() -> int:
    """Limit torch to this process's share of the CPUs, and return the number of threads."""
    import torch

    threads: int = max(1, min(thread_share(), torch.get_num_threads()))
    torch.set_num_threads(threads)
    return threads
