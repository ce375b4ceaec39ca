"""Importing the optional package cellpose, and the device that its network runs on."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import re
import sys
from types import ModuleType
from typing import Any

__all__ = ["INSTALL", "choose_device", "import_cellpose", "installed", "share_threads"]

INSTALL = "pip install 'napari-blockbuster[cellpose]'"
MISSING_OPERATOR = re.compile(r"operator torchvision::(\w+) does not exist")
_declared: list[Any] = []
"""Libraries of declared operators: torch forgets a declaration when its library is collected."""


def installed() -> bool:
    """Whether cellpose and torch are there, without importing them."""
    return all(importlib.util.find_spec(name) is not None for name in ("cellpose", "torch"))


def import_cellpose() -> ModuleType:
    """The module ``cellpose.models``, quiet, and with a torchvision that can be imported.

    Raises
    ------
    ImportError
        If cellpose or torch is missing or of version 3; the message says what to install.
    """
    if not installed():
        raise ImportError(f"the model 'cellpose' needs: {INSTALL}")
    _import_torchvision()
    # Cellpose warns of every tile without objects; its errors still come through.
    logger = logging.getLogger("cellpose")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.ERROR)
    models = importlib.import_module("cellpose.models")
    if not hasattr(models, "CPSAM"):
        raise ImportError(
            "the cellpose that is installed is older than version 4, which the model 'cellpose' needs; "
            "run pip install 'cellpose>=4.2', or use the old one through a function of your own (file.py:function)"
        )
    _quieten_stitching()
    return models


def _import_torchvision() -> None:
    """Import torchvision, also where it was built for CUDA and torch was not.

    Such a torchvision has no compiled operators and stumbles over the first two that it describes. Cellpose uses none
    of them.
    """
    import torch

    for _ in range(4):
        try:
            importlib.import_module("torchvision")
            return
        except RuntimeError as error:
            missing = MISSING_OPERATOR.search(str(error))
            if missing is None:
                raise
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define(f"{missing.group(1)}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
        for name in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
    importlib.import_module("torchvision")


def _quieten_stitching() -> None:
    """Cellpose draws a progress bar on stderr for each stack that it stitches: thousands in a run."""
    utils: Any = importlib.import_module("cellpose.utils")
    utils.trange = range


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

    from napari_blockbuster.execution.cluster import cpu_count

    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    share = int(said) if said.isdigit() and int(said) > 0 else cpu_count()
    threads: int = max(1, min(share, torch.get_num_threads()))
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    return threads
