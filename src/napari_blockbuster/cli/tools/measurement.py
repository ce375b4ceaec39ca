"""The command ``measure``: the table of any label image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_blockbuster.cli.options import Channels, Output, OutputOptions, Spacing, UsageError, one_or_all
from napari_blockbuster.cli.terminal import print_rows
from napari_blockbuster.cli.workers import WorkerOptions

__all__ = ["measure"]


def measure(
    labels: str,
    image: str | None = None,
    /,
    *,
    output: Output = None,
    channel: Channels = None,
    level: int = 0,
    labels_level: int = 0,
    axes: str | None = None,
    labels_axes: str | None = None,
    scene: int | str | None = None,
    spacing: Spacing = None,
    property: Annotated[tuple[str, ...], Parameter(name=["--property", "-p"])] = (),
    function: Annotated[tuple[str, ...], Parameter(name=["--function"])] = (),
    workers: WorkerOptions = WorkerOptions(),  # noqa: B008
    writing: OutputOptions = OutputOptions(),  # noqa: B008
) -> int:
    """Measure the objects of any label image: size, place, shape and intensities, one row for each object.

    Parameters
    ----------
    labels
        Label image: a path or URL in any format that can be read.
    image
        Image of the same shape, or another level of its pyramid. Default: only sizes, places and shapes.
    output
        Table: Parquet if the name ends in .parquet, otherwise CSV. Default: LABELS.measured.parquet next to the labels, and
        LABELS.measured.csv with --csv. If interrupted, the same command resumes.
    channel
        Channels of the image by number or name. Default: all.
    level
        Resolution level of the image; 0 is the finest.
    labels_level
        Resolution level of the labels.
    axes
        Names of the axes of the image if it does not name them, such as tczyx.
    labels_axes
        Names of the axes of the labels if they do not name them, such as tyx.
    scene
        Number or name of an image in a file that holds several.
    spacing
        Size of a voxel of the image in micrometers, one number or one per spatial axis (Z Y X). Default: as the image says.
    property
        Property that is not a sum, such as solidity, feret_diameter_max, intensity_median or intensity_percentile_90. May be
        given several times.
    function
        FILE.py:NAME of a function from a region of skimage to a dict of numbers. May be given several times.
    """
    from napari_blockbuster.images import open_image
    from napari_blockbuster.job.measurement import measure_objects
    from napari_blockbuster.measure.overlaps import pair_grid

    workers.check()
    target = output
    if target is None:
        if "://" in labels:
            raise UsageError("LABELS is an address. Give the place of the table, -o table.parquet")
        path = Path(labels).absolute()
        target = path.with_name(f"{path.name}.measured.{'csv' if writing.csv else 'parquet'}")
    functions = [_function(text) for text in function]
    n_tiles = len(pair_grid(open_image(labels, level=labels_level, axes=labels_axes)))
    with workers.connect(n_tiles) as client:
        table = measure_objects(
            labels,
            image,
            target,
            channel=channel,
            level=level,
            labels_level=labels_level,
            axes=axes,
            labels_axes=labels_axes,
            scene=scene,
            spacing=one_or_all(spacing),
            properties=property,
            functions=functions,
            client=client,
            overwrite=writing.overwrite,
            progress=not writing.quiet,
        )
    print_rows([("objects", str(len(table))), ("columns", str(len(table.columns))), ("table", str(target))])
    return 0


def _function(text: str):  # type: ignore[no-untyped-def]
    """Import a function from a file."""
    import importlib.util

    file, _, name = text.rpartition(":")
    path = Path(file)
    if not file or not path.is_file():
        raise UsageError(f"--function is {text!r}. Give FILE.py:NAME of a file that exists")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(
            f"--function is {text!r}, but {path.name} cannot be run ({type(error).__name__}: {error})"
        ) from error
    if not callable(getattr(module, name, None)):
        raise UsageError(f"--function is {text!r}, but {path.name} has no function {name!r}")
    return getattr(module, name)
