"""A region of interest in a script and on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_blockbuster.geometry.roi import Roi
from napari_blockbuster.job.folder.files import JobFiles
from napari_blockbuster.output.result import job_folder

__all__ = ["region_in_script", "region_options"]


def region_in_script(where: dict[str, Any], output: str) -> list[str]:
    """Return the lines of the arguments of `segment` that say where.

    Parameters
    ----------
    where : dict
        `where`, `inside`, `skip_empty`, `skip_below`; a drawn region is a `Roi`.
    output : str
        Path of the labels. The job beside it holds the region.
    """
    lines = []
    for name, value in where.items():
        if isinstance(value, Roi):
            lines.append("        # The region was drawn. It is in the job folder once the run began in the viewer.")
            value = _file(output)
        lines.append(f"        {name}={value!r},")
    return lines


def region_options(where: dict[str, Any], output: str) -> list[str]:
    """Return the options of the command line that say where."""
    words: list[str] = []
    for name, value in where.items():
        if value is True:
            words.append(f"--{name.replace('_', '-')}")
            continue
        if isinstance(value, Roi):
            value = _file(output)
        elif isinstance(value, list):
            value = f"tiles:{','.join(map(str, value))}"
        words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def _file(output: str) -> str:
    return str(JobFiles(job_folder(Path(output).absolute())).where)
