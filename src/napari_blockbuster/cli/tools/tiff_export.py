"""The command ``export``: merged labels as TIFF."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_blockbuster.cli.options import Output
from napari_blockbuster.cli.terminal import DONE, print_rows

__all__ = ["export"]


def export(
    labels: Path,
    /,
    *,
    output: Output = None,
    overwrite: bool = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"])] = False,
) -> int:
    """Save merged labels as OME-TIFF or plain TIFF, with the size of a voxel.

    Parameters
    ----------
    labels
        Merged labels (OME-Zarr), or the job folder next to them.
    output
        A name that ends with .ome.tif (OME-TIFF, with its coarser levels) or .tif. Default: LABELS.ome.tif next
        to the labels.
    overwrite
        Replace an existing file.
    quiet
        Show no progress.
    """
    from napari_blockbuster.job.folder.job_folder import JobFolder
    from napari_blockbuster.job.progress.bar import Progress
    from napari_blockbuster.output.result import output_of
    from napari_blockbuster.output.tiff_export import export_tiff, tiff_beside

    place = output_of(labels) if JobFolder(labels).is_job() else labels
    with Progress(enabled=not quiet) as bar:
        made = export_tiff(
            place, output or tiff_beside(place.absolute()), overwrite=overwrite, progress=bar.advance_to("export")
        )
    print_rows([("output", str(made))])
    return DONE
