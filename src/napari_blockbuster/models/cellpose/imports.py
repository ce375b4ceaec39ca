"""Import of the optional package cellpose."""

from __future__ import annotations

import importlib
import logging
import re
import sys
from types import ModuleType, SimpleNamespace
from typing import Any, cast

from napari_blockbuster.models.extras import require

__all__ = ["import_cellpose"]

MISSING_OPERATOR = re.compile(r"operator torchvision::(\w+) does not exist")
_declared: list[Any] = []
"""Libraries of declared operators. torch forgets a declaration when its library is garbage collected."""


def import_cellpose() -> ModuleType:
    """Import and return ``cellpose.models``, with its warnings, progress bars and pictures off.

    Raises
    ------
    ImportError
        If cellpose or torch is missing, or cellpose is older than version 4. The message says what to install.
    """
    require("cellpose")
    _import_torchvision()
    # Cellpose warns about every tile without objects. Its errors are still logged.
    logger = logging.getLogger("cellpose")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.ERROR)
    models: Any = importlib.import_module("cellpose.models")
    if not hasattr(models, "CPSAM"):
        raise ImportError(
            "the cellpose that is installed is older than version 4, which the model 'cellpose' needs. "
            "Run pip install 'cellpose>=4.2', or use the old one through a function of your own (file.py:function)"
        )
    _silence_stitching()
    # `eval` draws a picture of the flows of each tile, which takes as long as half of its other work on the processor.
    models.plot = SimpleNamespace(dx_to_circ=lambda _: None)
    return cast("ModuleType", models)


def _import_torchvision() -> None:
    """Import torchvision, even if it was built for CUDA and torch was not.

    The import of such a torchvision fails because its compiled operators are missing. Cellpose uses none of them, so
    they are declared without an implementation.
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


def _silence_stitching() -> None:
    """Turn off the progress bar that Cellpose draws for each stack that it stitches."""
    utils: Any = importlib.import_module("cellpose.utils")
    utils.trange = range
