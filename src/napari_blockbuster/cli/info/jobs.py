"""Description of a job."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.machine.units import bytes_text, count_text

from .text import Rows, by, listed, named

if TYPE_CHECKING:
    from napari_blockbuster.job.job import Job
    from napari_blockbuster.merge.assignment import Merge

__all__ = ["describe_check", "describe_job", "described_where", "find_job"]


def find_job(path: str) -> Path | None:
    """Return the job folder at a path or next to it, or None."""
    if "://" in path:
        return None
    from napari_blockbuster.job.folder.job_folder import JobFolder

    found = JobFolder.find(Path(path).absolute())
    return None if found is None else found.path


def describe_job(folder: Path) -> Rows:
    """Return settings, tiles, disk usage and the last merge of a job. Runs no code of the job and writes nothing."""
    from napari_blockbuster.job.job import Job

    job = Job.open(folder)
    image, grid = job.spec.image, job.spec.grid
    settings = {k: v for k, v in job.spec.model.items() if k != "model" and v is not None}
    measured = {k: v for k, v in job.spec.prepared.items() if k != "model" and v is not None and k not in settings}
    rows = [
        ("job", str(folder)),
        ("output", f"{job.spec.output}{'' if Path(job.spec.output).exists() else ' (not written yet)'}"),
        ("image", f"{image.get('path') or 'in memory'}{'' if job.source is not None else ' (cannot be opened here)'}"),
        ("shape", named(image.get("axes"), grid.shape)),
        ("model", f"{job.spec.model['model']}{listed(settings)}"),
    ]
    if measured:
        rows.append(("measured", listed(measured).strip(" ()")))
    rows += [
        ("tile", by(grid.tile_shape[grid.separate_axes :])),
        ("halo", by(grid.halo[grid.separate_axes :])),
        *_tile_rows(job),
        *_driver_rows(folder),
        ("disk", bytes_text(_bytes_in(folder))),
        *_merge_rows(job),
        *_other_results(job),
        *_seam_rows(job),
        ("created", job.spec.created),
    ]
    return rows


def describe_check(folder: Path, repair: bool) -> tuple[Rows, bool]:
    """Check a job. Return the findings, and whether the job is sound now."""
    from napari_blockbuster.job.job import Job
    from napari_blockbuster.job.shell import command

    job = Job.open(folder)
    report = job.check(repair=repair)
    rows = [("job", str(folder)), ("checked", f"{report.n_staged} staged tiles of {job.n_tiles}")]
    rows += [("array", text) for text in report.layout]
    rows += [(f"tile {index}", text) for index, text in report.damaged.items()]
    rows += [(f"tile {index}", "not a tile of the grid") for index in report.strangers]
    if report.evidence:
        rows.append(("evidence", f"{len(report.evidence)} damaged; recomputed from the bands before the next merge"))
    if report.regions:
        rows.append(("regions", f"{len(report.regions)} damaged; recomputed when holes are filled next"))
    if report.sound:
        return [*rows, ("result", "sound: every marker has its labels, bands, objects and count")], True
    if not repair:
        fix = command(["info", "--check", "--repair", str(folder)])
        return [*rows, ("result", f"damaged; to repair: {fix}")], False
    again = f"; to segment them: {command(['resume', str(folder)])}" if report.damaged else ""
    return [*rows, ("result", f"repaired: {count_text(len(report.damaged), 'tile')} unstaged{again}")], True


SAMPLE = 2000
"""Tiles whose times are read."""


def _tile_rows(job: Job) -> Rows:
    from napari_blockbuster.job.progress.performance import Performance

    if not job.files.has_stage():
        return [("tiles", f"{job.n_tiles}, deleted after the result was written")]
    staged, failed = job.staged(), job.failed()
    missing = len(set(job.tiles.missing(staged)) - failed.keys())
    skipped = job.tiles.n_skipped(staged)
    states = f"{len(staged)} staged, {len(failed)} failed, {missing} missing" + (
        f", {skipped} skipped" if skipped else ""
    )
    rows = [("tiles", f"{job.n_tiles}: {states}"), *_where_rows(job, len(staged))]
    rows.append(("labels", str(int(job.labels_table().offsets[-1]))))
    some = sorted(staged)[:: 1 + len(staged) // SAMPLE]
    rows += Performance.of(job.tiles.record(index) for index in some).rows()
    for index, failure in failed.items():
        rows.append((f"tile {index}", f"{failure.error}: {failure.message.strip().partition(chr(10))[0]}"))
    return rows


def _where_rows(job: Job, n_staged: int) -> Rows:
    """Describe the region of interest."""
    if not job.where:
        return []
    outside = n_staged - job.tiles.among_chosen(job.staged())
    return [("where", described_where(job) + (f", {outside} staged tiles outside" if outside else ""))]


def described_where(job: Job) -> str:
    """Return the region of interest of a job, and the tiles that are proven empty, in a few words."""
    where = job.where
    parts = ["everywhere"]
    if where.roi is not None:
        parts = [f"{where.said} (inside {where.roi.bounds()}, objects: {where.inside})"]
    if where.empty is not None:
        why = "all pixels have one value" if where.skip_below is None else f"no pixel above {where.skip_below:g}"
        parts.append(f"{count_text(len(where.empty), 'tile')} empty ({why})")
    return ", ".join(parts)


def _driver_rows(folder: Path) -> Rows:
    """Describe a detached driver that is running, or that died."""
    from napari_blockbuster.detached.files import DriverFiles
    from napari_blockbuster.job.folder.lock import is_held

    files = DriverFiles(folder)
    state = files.load()
    if state is None or state.end:
        return []
    gone = "" if is_held(files.lock, may_write=False) else ", stopped responding"
    return [("driver", f"{state.place}, {state.progress}{gone}")]


def _merge_of_result(job: Job) -> dict[str, Any] | None:
    """Return how the last result at the job's own output was merged."""
    from napari_blockbuster.job.folder.results import own_record

    try:
        merge = own_record(job.folder)["merge"]
        return {name: merge[name] for name in ("rule", "min_iou", "connectivity", "objects", "labels")}
    except (KeyError, TypeError):
        return None


def _rule(merge: dict[str, Any]) -> str:
    options = {
        "overlap": f", min-iou {merge['min_iou']}",
        "face": f", min-iou {merge['min_iou']}",
        "touch": f", connectivity {merge['connectivity']}",
    }
    return f"{merge['rule']}{options.get(merge['rule'], '')}"


def _merge_rows(job: Job) -> Rows:
    merge = _merge_of_result(job)
    if merge is None:
        return [("merge", "not yet")]
    return [("merge", _rule(merge)), ("objects", f"{merge['objects']} from {merge['labels']} labels in tiles")]


def _other_results(job: Job) -> Rows:
    """List results that this job wrote to other paths and that still exist."""
    from napari_blockbuster.job.folder.results import is_recorded, other_records

    rows = []
    for record in other_records(job.folder):
        try:
            path, text = record["output"], f"{_rule(record['merge'])}, {record['merge']['objects']} objects"
        except (KeyError, TypeError):
            continue
        if is_recorded(job.folder, Path(path)):
            rows.append((f"result {Path(path).name}", f"{path} ({text})"))
    return rows


def _seam_rows(job: Job) -> Rows:
    """Summarize the seam report and the decisions of the user, if the tiles still exist."""
    from napari_blockbuster.job.folder.acceptances import Notes
    from napari_blockbuster.merge.decisions import Decisions

    if not job.files.has_stage() or len(job.staged()) < 2:
        return []
    used = _merge_of_result(job) or {}
    options = {name: used[name] for name in ("rule", "min_iou", "connectivity") if name in used}
    try:
        if Notes.load(job.folder).unfinished:
            return [("seams", "unknown: a process was killed while it replaced tiles. The next run finishes that")]
        given = Decisions.load(job.folder)
        merged, note = _filtered_as_written(
            job, job.merge(**options, cut=given.cut, join=given.join, remove=given.removed)
        )
    except JobError as error:
        # The other rows help to find the problem.
        return [("seams", f"cannot be read: {str(error).partition(chr(10))[0]}")]
    names = [str(name) for name in job.spec.image.get("axes") or ()] or None
    *axes, overall = job.tiles.seam_report(merged, names).lines()
    parts = [line.partition(": ") for line in axes]
    rows = [("seams", overall + note), *((f"seams, {name}", text) for name, _, text in parts)]
    return rows + [("by hand", line) for line in given.lines()]


def _filtered_as_written(job: Job, merged: Merge) -> tuple[Merge, str]:
    """Apply the object filter of the last result, without computing or writing regions; and a note if that is not exact."""
    from napari_blockbuster.job.folder.results import own_record
    from napari_blockbuster.job.steps.object_table import chosen_by
    from napari_blockbuster.merge.filters import ObjectFilter
    from napari_blockbuster.merge.selection import apply_filter

    try:
        keep = ObjectFilter(**own_record(job.folder)["merge"]["filter"])
    except (KeyError, TypeError, ValueError):
        # No result yet, or one of an early version.
        return merged, ""
    chosen = chosen_by(job.files, job.tiles, job.spec, merged, keep)
    if not keep.fill_holes:
        return apply_filter(merged, keep, chosen=chosen), ""
    regions = job.tiles.stored_regions()
    if regions is not None:
        return apply_filter(merged, keep, regions, chosen), ""
    without_holes = replace(keep, fill_holes=False, max_hole_size=None)
    found = apply_filter(merged, without_holes, chosen=chosen)
    return found, " (sizes without filled holes: not all tiles were searched for holes)"


def _bytes_in(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            # A running job deletes files.
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except FileNotFoundError:
                continue
    return total
