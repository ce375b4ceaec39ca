"""The command ``convert``: an image as OME-Zarr with small chunks."""

from __future__ import annotations

from napari_blockbuster.cli.options import Output, OutputOptions, SceneOptions
from napari_blockbuster.cli.terminal import DONE, print_rows

__all__ = ["convert"]


def convert(
    image: str,
    /,
    *,
    output: Output = None,
    part: SceneOptions = SceneOptions(),  # noqa: B008
    writing: OutputOptions = OutputOptions(),  # noqa: B008
) -> int:
    """Convert an image into an OME-Zarr with small chunks and a pyramid. If interrupted, run the same command again.

    Parameters
    ----------
    image
        A path or URL in any format that can be read. All of its channels are converted.
    output
        Default: IMAGE.ome.zarr next to the image.
    """
    from napari_blockbuster.api import convert as convert_image

    version, shown = writing.ome_zarr or "0.5", not writing.quiet
    made = convert_image(
        image, output, **part.arguments(), overwrite=writing.overwrite, ome_zarr_version=version, progress=shown
    )
    print_rows([("output", str(made))])
    return DONE
