"""The command ``relate``: two label images of the same pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_blockbuster.cli.options import Output, OutputOptions, UsageError
from napari_blockbuster.cli.terminal import print_rows
from napari_blockbuster.cli.workers import WorkerOptions
from napari_blockbuster.machine.units import count_text

if TYPE_CHECKING:
    pass

__all__ = ["relate"]


def relate(
    cells: str,
    nuclei: str,
    /,
    *,
    output: Output = None,
    cells_table: Path | None = None,
    nuclei_table: Path | None = None,
    level: int = 0,
    axes: str | None = None,
    workers: WorkerOptions = WorkerOptions(),  # noqa: B008
    writing: OutputOptions = OutputOptions(),  # noqa: B008
) -> int:
    """Relate two label images of the same pixels: the cell of each nucleus, and the nuclei of each cell.

    Parameters
    ----------
    cells
        Label image of the parents: a path or URL in any format that can be read.
    nuclei
        Label image of the children, of equal shape. A nucleus belongs to the cell that covers most of it.
    output
        Write the cells without their nuclei as this OME-Zarr.
    cells_table
        Write a row for each cell: CSV, or Parquet if the name ends in .parquet.
    nuclei_table
        Write a row for each nucleus.
    level
        Resolution level of a pyramid; 0 is the finest.
    axes
        Names of the axes if the images do not name them, such as tczyx.
    """
    return _relate_files((cells, nuclei), output, (cells_table, nuclei_table), (level, axes), workers, writing)


def _relate_files(
    images: tuple[str, str],
    output: Path | None,
    files: Sequence[Path | None],
    part: tuple[int, str | None],
    workers: WorkerOptions,
    writing: OutputOptions,
) -> int:
    """Relate two label images, write what was asked for, and print the counts. Return the exit code.

    Parameters
    ----------
    images : tuple of str
        Cells and nuclei.
    output : Path or None
        Where the cells without their nuclei go.
    files : sequence of Path or None
        Where the tables of cells and nuclei go.
    part : tuple
        Level and axes.
    """
    workers.check()
    for file in files:
        _check_file(file, writing.overwrite)
    if files[0] is not None and files[0] == files[1]:
        raise UsageError(f"--cells-table and --nuclei-table are both {files[0]}. Give each table a file of its own")
    from napari_blockbuster.api import relate
    from napari_blockbuster.images import open_image
    from napari_blockbuster.measure.overlaps import pair_grid
    from napari_blockbuster.measure.relation import check_pair
    from napari_blockbuster.output.tables.parquet import save_table

    level, axes = part
    parents, children = (open_image(image, level=level, axes=axes) for image in images)
    check_pair(parents, children)
    with workers.connect(len(pair_grid(parents))) as client:
        found = relate(
            *images,
            output,
            level=level,
            axes=axes,
            client=client,
            overwrite=writing.overwrite,
            progress=not writing.quiet,
            ome_zarr_version=writing.ome_zarr or "0.5",
        )
    counts = found.summary()
    rows = [
        ("cells", f"{counts['parents']:,}"),
        ("nuclei", f"{counts['children']:,}"),
        ("cells without nucleus", f"{counts['parents_without_child']:,}"),
        ("cells with one nucleus", f"{counts['parents_with_one_child']:,}"),
        ("cells with several", f"{counts['parents_with_several']:,}"),
        ("nuclei without cell", f"{counts['children_without_parent']:,}"),
    ]
    for name, file, table in zip(("cells", "nuclei"), files, (found.parents, found.children), strict=True):
        if file is not None:
            save_table(table, file)
            rows.append((f"table of {name}", f"{file} ({count_text(len(table), 'row')})"))
    if output is not None:
        rows.append(("output", str(output)))
    print_rows(rows)
    return 0


def _check_file(file: Path | None, overwrite: bool) -> None:
    if file is None:
        return
    if file.exists() and not overwrite:
        raise FileExistsError(f"{file} exists. Add --overwrite to replace it, or choose another file")
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(f"Folder {file.absolute().parent} does not exist. Create it, or choose another file")
