"""Write a result next to its place, then put it in place in one step."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_blockbuster.execution.queue import TileQueue
from napari_blockbuster.execution.run import run
from napari_blockbuster.images import ImageSource
from napari_blockbuster.images.zarr.folders import multiscales_at
from napari_blockbuster.job.folder import results
from napari_blockbuster.job.folder.acceptances import tiles_again
from napari_blockbuster.job.folder.job_folder import JobFolder, naming_deletion
from napari_blockbuster.job.folder.placing import note_result
from napari_blockbuster.job.folder.settings import JobSpec
from napari_blockbuster.job.state.tiles import Tiles
from napari_blockbuster.machine.disk import StoreError, writing_to
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.machine.ownership import Owner
from napari_blockbuster.measure.table import OtherVoxelsError
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.output.groups import KEY
from napari_blockbuster.output.occupant import Occupant
from napari_blockbuster.output.place import clear_parts, part_of, put_in_place, restore_old, take_back_part
from napari_blockbuster.output.result import Result
from napari_blockbuster.output.table_files import check_table_files, has_csv, place_table, table_file
from napari_blockbuster.output.tables.anndata_table import check_image_table, place_image_table, write_anndata
from napari_blockbuster.output.tables.parquet import write_table
from napari_blockbuster.output.work import WriteBlockWork, WriteTileWork
from napari_blockbuster.output.writer import LabelsWriter
from napari_blockbuster.stage.tables.sum_table import NoSumsError

from .object_table import measured_result, table_of

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["NothingStagedError", "WriteOptions", "check_any_staged", "is_merge_of_record", "write_output"]


class NothingStagedError(JobError):
    """No tile is staged, so there is no result; the message gives the reason."""


def check_any_staged(folder: JobFolder, tiles: Tiles) -> None:
    """Refuse to make a result of nothing: an empty label image looks like an image without objects.

    Raises
    ------
    NothingStagedError
        With the first failure, if tiles failed. Tiles and failures are kept.
    """
    folder.check_stage()
    with naming_deletion(folder):
        if tiles.staged():
            return
        failed = tiles.failed()
    if not failed:
        raise NothingStagedError(
            f"no tile of {folder.path} is staged yet, so no result was written. Segment the tiles first"
        )
    index, failure = next(iter(failed.items()))
    reason = (failure.message.strip().splitlines() or [""])[0]
    count = f"all {len(tiles)} tiles" if len(failed) == len(tiles) else f"no tile is staged, {len(failed)} tiles"
    raise NothingStagedError(
        f"{count} failed, so no result was written (tile {index}: {failure.error}: {reason}). "
        f"The reasons are kept in {folder.path}. Fix the problem and resume"
    )


@dataclass(frozen=True)
class WriteOptions:
    """How a result is written; see `napari_blockbuster.Job.write` for each option."""

    client: Client | None = None
    overwrite: bool | Occupant = False
    keep_stage: bool = False
    ome_zarr_version: str | None = None
    progress: Callable[[int, int], None] | None = None
    csv: bool = False
    sources: tuple[ImageSource | None, ImageSource | None] = None, None
    """The image, and measured channels that the model does not see: to measure objects with filled holes."""


def write_output(
    folder: JobFolder, tiles: Tiles, spec: JobSpec, merged: Merge, options: WriteOptions, owner: Owner
) -> Result:
    """Write merged labels next to their place, then put them in place.

    Raises
    ------
    FileExistsError, NothingStagedError, StoreError
        See `napari_blockbuster.Job.write`.
    """
    return _Publication(folder, tiles, spec, merged, options, owner).run()


@dataclass(frozen=True)
class _Publication:
    folder: JobFolder
    tiles: Tiles
    spec: JobSpec
    merged: Merge
    options: WriteOptions
    owner: Owner

    @property
    def target(self) -> Path:
        return Path(self.spec.output)

    def run(self) -> Result:
        self.owner.check()
        restore_old(self.target)
        replaced = self._replaced()
        check_any_staged(self.folder, self.tiles)
        self._check_current()
        clear_parts(self.target, self.owner.check)
        self.folder.sweep(self.owner)
        token = uuid.uuid4().hex
        # A name of its own: workers keep arrays open by their path, also after the part was deleted.
        temporary = part_of(self.target, token)
        provenance = {"result": token, **self._provenance()}
        with writing_to(self.folder.path):
            unrecorded = results.token_of(self.target) if results.wrote(self.folder.path, self.target) else ""
            note_result(self.folder.path, token, self.target, self.owner, unrecorded)
        try:
            writer = self._writer(temporary)
            # The table is made while tiles are written. The thread ends before anything is deleted or put in place.
            with ThreadPoolExecutor(1) as background:
                making = background.submit(self._write_table, temporary, writer.version, token)
                self._write_all(writer)
                no_table = making.result()
            if self.merged.filled is not None or self.merged.clip is not None:
                no_table = self._write_table(temporary, writer.version, token, written=True)
            if no_table:
                provenance["no_table"] = no_table
            writer.finish({KEY: provenance})
            self._put_in_place(temporary, provenance, replaced)
        except BaseException as error:
            # A half-written result is of no use, and takes space that a full disk needs.
            take_back_part(self.target, token)
            if isinstance(error, StoreError):
                raise error.keeping(f"all {len(self.tiles.staged())} staged tiles are kept") from error
            raise
        failed = {i: failure.message for i, failure in self.tiles.failed().items()}
        missing = self.tiles.missing(self.tiles.staged())
        merged = self.merged
        table = None if no_table else table_file(self.target)
        skipped = self.tiles.n_skipped(self.tiles.staged())
        counts = merged.n_objects, failed, missing
        return Result(self.target, *counts, merged.seams, merged.joined, provenance, table, skipped)

    # --------------------------------------------------------------------------------------------------------- checks
    def _replaced(self) -> Occupant:
        """Return what the new result may replace: what is at its place now, if that is allowed.

        Raises
        ------
        FileExistsError
            If it is not.
        """
        there, overwrite = Occupant.of(self.target), self.options.overwrite
        check_table_files(self.target, bool(overwrite), self.options.csv)
        check_image_table(self.target, bool(overwrite))
        if there.is_nothing or there == overwrite or overwrite is True or results.wrote(self.folder.path, self.target):
            return there
        if overwrite is False:
            raise FileExistsError(f"the output {self.target} exists. Pass overwrite=True (--overwrite) to replace it")
        raise self._appeared()

    def _check_current(self) -> None:
        if not np.array_equal(self.merged.labels_table.counts, self.tiles.labels_table().counts):
            raise JobError("tiles were staged since this merge was made. Call merge() again before write()")

    # --------------------------------------------------------------------------------------------------------- voxels
    def _writer(self, temporary: Path) -> LabelsWriter:
        image = self.spec.image
        version = self.options.ome_zarr_version or _version_around(self.target)
        return LabelsWriter.create(
            temporary,
            grid=self.tiles.grid,
            dtype=self.merged.new_ids.dtype,
            axes=tuple(image["axes"]),
            scale=tuple(image["scale"]),
            units=tuple(image["units"]),
            translation=tuple(image["translation"]) if image.get("translation") else None,
            name=self.target.name.removesuffix(".ome.zarr"),
            version=version,
            source_image=_source_image(self.target, image, version),
            n_levels=_levels_around(self.target),
        )

    def _write_table(self, temporary: Path, version: str, token: str, *, written: bool = False) -> str:
        """Write the table of the result to its part. Return why there is none, or an empty text.

        Objects whose holes are filled, or that are cut at the edge of a region, are measured once their labels are `written`.
        """
        try:
            if written:
                table = measured_result(
                    temporary, self.tiles, self.spec, self.merged, self.options.sources, self.options.client
                )
            else:
                table = table_of(self.folder, self.tiles, self.spec, self.merged)
        except (NoSumsError, OtherVoxelsError) as error:
            return str(error)
        with writing_to(self.target.parent):
            write_table(table, temporary.parent, token, self.options.csv or has_csv(self.target))
            # Labels of their own hold their table. Labels inside an image have it in the image.
            inside = self.target.parent.name == "labels"
            tables = (temporary.parent if inside else temporary) / "tables"
            write_anndata(table, tables, self.target, version, token)
        return ""

    def _write_all(self, writer: LabelsWriter) -> None:
        tiles, client, progress = _tiles_with_objects(self.merged), self.options.client, self.options.progress
        # Blocks of coarse levels without objects are not stored, and need no look.
        passes = [[block for block in blocks if writer.meets(*block, tiles)] for blocks in writer.passes()]
        done, total = 0, len(tiles) + sum(map(len, passes))

        def advance(run_of_items: Generator[Any, None, None]) -> None:
            nonlocal done
            # Closed here, also by an error: pending writes must end before the folder that they write to is deleted.
            with contextlib.closing(run_of_items):
                for _ in run_of_items:
                    done += 1
                    if progress is not None:
                        progress(done, total)

        order = TileQueue(i for i in self.tiles.grid.order() if i in tiles)
        advance(run(WriteTileWork(self.tiles.store, writer, self.merged, self.merged.clip), order, client))
        for blocks in passes:
            advance(run(WriteBlockWork(writer, blocks), TileQueue(range(len(blocks))), client))

    # ---------------------------------------------------------------------------------------------------------- place
    def _put_in_place(self, temporary: Path, provenance: dict[str, Any], replaced: Occupant) -> None:
        """Give the labels their name, and write their record.

        A run that is killed between the two recognizes its own result there, and may replace it without `overwrite`.
        """
        folder = self.folder.path
        self.owner.check()
        try:
            with writing_to(self.target.parent):
                put_in_place(temporary, self.target, replaced)
                place_table(temporary.parent, self.target)
                place_image_table(temporary.parent, self.target)
        except StoreError as error:
            if isinstance(error.__cause__, FileExistsError):
                raise self._appeared() from error
            raise
        shutil.rmtree(temporary.parent, ignore_errors=True)
        with writing_to(folder):
            results.placed(folder, self.target, provenance, self.owner)

    def _appeared(self) -> FileExistsError:
        return FileExistsError(
            f"something else appeared at the output {self.target} while this job was at work. It was left as it is, and the "
            f"tiles are kept in {self.folder.path}. Move it away, replace it with overwrite=True (--overwrite), or write the "
            "labels elsewhere (merge -o)"
        )

    def _provenance(self) -> dict[str, Any]:
        spec, tiles = self.spec, self.tiles
        staged = tiles.staged()
        again = tiles_again(self.folder.path)
        return {
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "image": spec.image,
            # Moves the labels after scale and translation. OME-Zarr cannot say it.
            **({"affine": spec.image["affine"]} if spec.image.get("affine") else {}),
            "identity": spec.identity,
            "model": spec.model,
            "prepared": spec.prepared,
            "measured": list(spec.measured.names),
            "tiles": {
                **spec.grid.model_dump(mode="json"),
                "count": len(tiles),
                "staged": len(staged),
                "failed": {str(i): f"{f.error}: {f.message}" for i, f in tiles.failed().items()},
                "missing": tiles.missing(staged),
                "skipped": tiles.n_skipped(staged),
                "segmented_again": {str(i): known for i, known in again.items() if i in staged},
            },
            **({"where": tiles.where.describe()} if tiles.where else {}),
            "merge": _merge_settings(self.merged),
            "versions": spec.versions,
        }


def _merge_settings(merged: Merge) -> dict[str, Any]:
    return {
        "rule": merged.rule,
        "min_iou": merged.min_iou,
        "connectivity": merged.connectivity,
        "labels": merged.n_labels,
        "objects": merged.n_objects,
        "joined_pairs": int(merged.joined.sum()),
        "cut": merged.cut,
        "join": merged.join,
        "remove": merged.settings.remove,
        "filter": merged.filter.settings(),
        "removed": merged.n_removed,
        **({"outside": merged.n_outside} if merged.n_outside else {}),
        **({"incomplete": merged.n_incomplete} if merged.n_incomplete else {}),
        **({"holes_filled": merged.filled.n_holes} if merged.filled is not None else {}),
    }


def is_merge_of_record(merged: Merge, record: dict[str, Any]) -> bool:
    """Return whether a merge has the settings and counts in the record of a result."""
    now = json.loads(json.dumps(_merge_settings(merged)))
    written = record.get("merge")
    # Records of earlier versions have fewer entries.
    return isinstance(written, dict) and all(now.get(name) == value for name, value in written.items())


def _version_around(target: Path) -> str:
    """Return the version of the OME-Zarr image around the labels: readers of a zarr v2 image find no v3 arrays in it."""
    image = target.parent.parent
    inside = target.parent.name == "labels" and (image / ".zgroup").exists() and not (image / "zarr.json").exists()
    return "0.4" if inside else "0.5"


def _levels_around(target: Path) -> int | None:
    """Return the number of levels of the OME-Zarr image around the labels, which the labels must have as well."""
    if target.parent.name != "labels":
        return None
    try:
        return len(multiscales_at(target.parent.parent)[0].paths)
    except (OSError, ValueError, IndexError):
        # Other zarr groups may hold labels too.
        return None


def _source_image(target: Path, image: dict[str, Any], version: str) -> str | None:
    """Return the relative path of the image for the metadata of the labels; None for anything but OME-Zarr of their version."""
    path, inner = image.get("path"), image.get("inner")
    if not path or not inner or not os.path.isabs(path):
        return None
    group = Path(path, inner).parent
    return _path_from(target, str(group)) if (group / METADATA[version]).exists() else None


METADATA = {"0.5": "zarr.json", "0.4": ".zgroup"}
"""File of a group, by the version of OME-Zarr."""


def _path_from(target: Path, image: str) -> str | None:
    """Return the image's path relative to the labels; None where the metadata of the labels cannot hold it."""
    with contextlib.suppress(ValueError):
        # ValueError: on another drive of Windows, or not UTF-8.
        path = os.path.relpath(image, target)
        path.encode()
        return path
    return None


def _tiles_with_objects(merged: Merge) -> set[int]:
    """Return the tiles that hold labels, or part of a filled hole; background needs no writing."""
    wanted = merged.labels_table.counts > 0
    if merged.filled is not None:
        wanted[merged.filled.tiles] = True
    return set(np.flatnonzero(wanted).tolist())
