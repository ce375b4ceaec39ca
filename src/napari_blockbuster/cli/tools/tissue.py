"""The command ``tissue``: a mask of the tissue in an image, as an OME-Zarr."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from napari_blockbuster.cli.options import Channels, Output, one_or_all
from napari_blockbuster.cli.terminal import print_rows
from napari_blockbuster.machine.units import shape_text

__all__ = ["tissue"]


def tissue(
    image: str,
    /,
    *,
    output: Output = None,
    level: int | None = None,
    method: Literal["otsu", "triangle"] = "otsu",
    smoothing: float = 2.0,
    channel: Channels = None,
    axes: str | None = None,
    scene: int | str | None = None,
    overwrite: bool = False,
) -> int:
    """Write a coarse mask of the tissue in an image, for segment --where. View and edit it before you use it.

    Parameters
    ----------
    image
        A path or URL: a stained slide, or fluorescence.
    output
        OME-Zarr of the mask. Default: IMAGE.tissue.ome.zarr next to the image.
    level
        Resolution level to look at. Default: the finest one of at most four million voxels.
    method
        Threshold: otsu for clear tissue, triangle for faint tissue on a large background.
    smoothing
        Size of the smoothing in voxels of the mask. Larger values close gaps and drop larger specks.
    channel
        Channels to look at. Default: all.
    axes
        Names of the axes if the image does not name them, such as tczyx.
    scene
        Number or name of an image in a file that holds several.
    overwrite
        Replace an existing output.
    """
    part = {"axes": axes, "scene": scene}
    finding = {"level": level, "method": method, "smoothing": smoothing, "channel": one_or_all(channel)}
    print_rows(write_tissue(image, output, part, finding, overwrite=overwrite))
    return 0


def write_tissue(
    image: str, output: Path | None, part: dict[str, Any], finding: dict[str, Any], *, overwrite: bool
) -> list[tuple[str, str]]:
    """Write the mask of an image, and return the report.

    Parameters
    ----------
    image : str
    output : Path or None
    part : dict
        Which image of a file is opened: axes and scene.
    finding : dict
        Further arguments of `napari_blockbuster.images.content.tissue.tissue_mask`.
    overwrite : bool

    Raises
    ------
    ValueError
        If no tissue was found, or an argument cannot be used.
    """
    from napari_blockbuster.images.content.tissue import tissue_mask
    from napari_blockbuster.images.opening import open_all_channels
    from napari_blockbuster.output.mask_image import write_mask
    from napari_blockbuster.output.result import tissue_output

    source = open_all_channels(image, **part)[0][0]
    target = tissue_output(source) if output is None else output.absolute()
    mask = tissue_mask(image, **finding, **part)
    if not mask.any():
        raise ValueError(
            f"no tissue was found in {image}: nothing stands out. Try --method triangle, or another channel"
        )
    write_mask(target, mask, source, overwrite)
    share = f"{mask.mean():.0%} of the image, {shape_text(mask.shape)} voxels"
    return [("tissue", share), ("output", str(target))]
