"""The command ``relate``: two label images of the same pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_blockbuster.cli.options import Output, OutputOptions, UsageError
from napari_blockbuster.cli.terminal import print_rows
from napari_blockbuster.cli.workers import WorkerOptions
from napari_blockbuster.machine.units import count_text

if TYPE_CHECKING:
    from napari_blockbuster.measure.relation import Relation

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
    tables = {"cells": cells_table, "nuclei": nuclei_table}
    workers.check()
    _check_tables(tables, writing.overwrite)
    from napari_blockbuster.output.tables.parquet import save_table

    found = _related((cells, nuclei), output, {"level": level, "axes": axes}, workers, writing)
    rows = _counts(found)
    for (name, file), table in zip(tables.items(), (found.parents, found.children), strict=True):
        if file is not None:
            save_table(table, file)
            rows.append((f"table of {name}", f"{file} ({count_text(len(table), 'row')})"))
    if output is not None:
        rows.append(("output", str(output)))
    print_rows(rows)
    return 0


def _related(
    images: tuple[str, str],
    output: Path | None,
    part: dict[str, Any],
    workers: WorkerOptions,
    writing: OutputOptions,
) -> Relation:
    """Relate two label images.

    Parameters
    ----------
    images : tuple of str
        Cells and nuclei.
    output : Path or None
        Where the cells without their nuclei go.
    part : dict
        Level and axes.
    """
    from napari_blockbuster.api import relate
    from napari_blockbuster.images import open_image
    from napari_blockbuster.measure.overlaps import pair_grid
    from napari_blockbuster.measure.relation import check_pair

    parents, children = (open_image(image, **part) for image in images)
    check_pair(parents, children)
    with workers.connect(len(pair_grid(parents))) as client:
        return relate(
            *images,
            output,
            **part,
            client=client,
            overwrite=writing.overwrite,
            progress=not writing.quiet,
            ome_zarr_version=writing.ome_zarr or "0.5",
        )


def _counts(found: Relation) -> list[tuple[str, str]]:
    counts = found.summary()
    return [
        ("cells", f"{counts['parents']:,}"),
        ("nuclei", f"{counts['children']:,}"),
        ("cells without nucleus", f"{counts['parents_without_child']:,}"),
        ("cells with one nucleus", f"{counts['parents_with_one_child']:,}"),
        ("cells with several", f"{counts['parents_with_several']:,}"),
        ("nuclei without cell", f"{counts['children_without_parent']:,}"),
    ]


def _check_tables(tables: dict[str, Path | None], overwrite: bool) -> None:
    """Refuse tables that cannot be written, before the work."""
    for file in tables.values():
        _check_file(file, overwrite)
    if tables["cells"] is not None and tables["cells"] == tables["nuclei"]:
        raise UsageError(
            f"--cells-table and --nuclei-table are both {tables['cells']}. Give each table a file of its own"
        )


def _check_file(file: Path | None, overwrite: bool) -> None:
    if file is None:
        return
    if file.exists() and not overwrite:
        raise FileExistsError(f"{file} exists. Add --overwrite to replace it, or choose another file")
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(f"Folder {file.absolute().parent} does not exist. Create it, or choose another file")
