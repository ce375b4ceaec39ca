"""The command ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

__all__ = ["demo"]


def demo(output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("demo-output"), *, workers: int = 2) -> int:
    """Segment a small real image of nuclei in 3D and draw the result.

    Parameters
    ----------
    output
        Folder for image, labels and picture. Files of an earlier demo in it are replaced.
    workers
        Processes on this machine.
    """
    from .run import run_demo

    return run_demo(output.absolute(), workers)
