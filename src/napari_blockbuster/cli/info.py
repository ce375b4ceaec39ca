"""Tables of ``napari-blockbuster info`` and ``models``: jobs, images, models and their settings."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.machine.units import bytes_text, count_text

if TYPE_CHECKING:
    from napari_blockbuster.images import Collection, ImageSource, Scene
    from napari_blockbuster.job.job import Job
    from napari_blockbuster.merge.assignment import Merge
    from napari_blockbuster.models import Model

__all__ = [
    "describe_check",
    "describe_collection",
    "describe_image",
    "describe_job",
    "describe_model",
    "describe_models",
    "described_where",
    "find_job",
]

Rows = list[tuple[str, str]]


# ---------------------------------------------------------------------------------------------------------------- jobs
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
        ("shape", _named(image.get("axes"), grid.shape)),
        ("model", f"{job.spec.model['model']}{_listed(settings)}"),
    ]
    if measured:
        rows.append(("measured", _listed(measured).strip(" ()")))
    rows += [
        ("tile", _by(grid.tile_shape[grid.separate_axes :])),
        ("halo", _by(grid.halo[grid.separate_axes :])),
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
    from napari_blockbuster.merge.region_search import RegionCache
    from napari_blockbuster.merge.selection import apply_filter

    try:
        keep = ObjectFilter(**own_record(job.folder)["merge"]["filter"])
    except (KeyError, TypeError, ValueError):
        # No result yet, or one of an early version.
        return merged, ""
    chosen = chosen_by(job.files, job.tiles, job.spec, merged, keep)
    if not keep.fill_holes:
        return apply_filter(merged, keep, chosen=chosen), ""
    regions = RegionCache(job.store).stored(frozenset(job.staged()))
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


# -------------------------------------------------------------------------------------------------------------- images
def describe_image(path: str, model: Model, **options: Any) -> Rows:
    """Return axes, shape, chunks and levels of an image, and the tiles that a run would use."""
    from napari_blockbuster.geometry.tiles import TileGrid
    from napari_blockbuster.images import list_scenes, open_image
    from napari_blockbuster.job.setup.suggestion import suggest_tiles

    scenes = list_scenes(path)
    unclear = options.get("scene") is None and len(scenes) > 1
    options = options | ({"scene": _largest(scenes)} if unclear else {})
    channels = _channels(path, options)
    source = open_image(path, **options | ({"channel": 0} if channels else {}))
    tile, halo = suggest_tiles(source, model)
    n_frames = source.separate_axes
    grid = TileGrid(source.shape, (1,) * n_frames + tile, (0,) * n_frames + halo, separate_axes=n_frames)
    known = any(source.units) or set(source.scale) != {1.0}
    scale = ", ".join(f"{name} {s:g} {unit or ''}".strip() for name, s, unit in _axes_of(source))
    voxels = math.prod(source.shape)
    return [
        ("image", path),
        *_scene_rows(scenes, options.get("scene"), unclear),
        ("shape", _named(source.axes, source.shape)),
        *([("channels", f"{', '.join(channels)}; choose one with --channel")] if channels else []),
        ("type", f"{source.dtype}, {bytes_text(voxels * source.dtype.itemsize)} uncompressed"),
        ("voxel", scale if known else "size unknown"),
        ("chunks", _by(source.read_chunks)),
        *_level_rows(path, options | {"channel": source.layout.channel}),
        ("tile", f"{_by(tile)} (suggested for {model.family})"),
        ("halo", f"{_by(halo)} (suggested for {model.family})"),
        ("tiles", str(len(grid))),
    ]


def _largest(scenes: list[Scene]) -> int:
    """The scene to describe where none was chosen: the first of the largest."""
    return max(range(len(scenes)), key=lambda i: (math.prod(scenes[i].shape or (0,)), -i))


def _scene_rows(scenes: list[Scene], scene: Any, unclear: bool) -> Rows:
    """The images that a file holds; no row for a single one."""
    from napari_blockbuster.images.scenes import listed

    if len(scenes) < 2:
        return []
    advice = f"; below: {scene}, choose one with --scene" if unclear else f"; below: {scene}"
    return [("scenes", f"{len(scenes)} images: {listed(scenes)}{advice}")]


def _axes_of(source: ImageSource) -> list[tuple[str, float, str | None]]:
    return list(zip(source.axes, source.scale, source.units, strict=True))


def _channels(path: str, options: dict[str, Any]) -> list[str]:
    """Return the channels that a run would have to choose from; empty if there is no choice."""
    from napari_blockbuster.images import ChannelNotChosenError, open_image

    try:
        open_image(path, **options)
    except ChannelNotChosenError as error:
        return error.channels
    return []


def _level_rows(path: str, options: dict[str, Any]) -> Rows:
    """List the shapes of a pyramid's levels; no row for a single level."""
    from napari_blockbuster.images import open_image

    shapes = []
    for level in range(64):
        try:
            shapes.append(open_image(path, **options | {"level": level}).shape)
        except ValueError:
            break
    return [("levels", ", ".join(_by(shape) for shape in shapes))] if len(shapes) > 1 else []


def describe_collection(found: Collection) -> Rows:
    """List the images of a folder, pattern or plate. Reads their metadata only."""
    from napari_blockbuster.machine.errors import one_line

    rows = [(found.kind, found.place), ("images", str(len(found.members)))]
    for member in found.members:
        try:
            rows.append((member.name, _in_short(member.path)))
        except (OSError, ValueError, ImportError) as error:
            rows.append((member.name, f"cannot be read: {one_line(error)}"))
    if found.others:
        names = ", ".join(found.others[:4]) + (f" and {len(found.others) - 4} more" if len(found.others) > 4 else "")
        rows.append(("left out", f"{len(found.others)}: {names}"))
    return rows


def _in_short(path: str) -> str:
    """Shape, channels, type and number of scenes of an image."""
    from napari_blockbuster.images import list_scenes, open_image

    scenes = list_scenes(path)
    options: dict[str, Any] = {"scene": _largest(scenes)} if len(scenes) > 1 else {}
    channels = _channels(path, options)
    source = open_image(path, **options | ({"channel": 0} if channels else {}))
    parts = [_named(source.axes, source.shape), str(source.dtype)]
    if channels:
        parts.append(f"{len(channels)} channels")
    if len(scenes) > 1:
        parts.append(f"number {options['scene']} of {len(scenes)} scenes")
    return ", ".join(parts)


# -------------------------------------------------------------------------------------------------------------- models
def describe_models() -> Rows:
    """Return name and summary of every registered model."""
    from napari_blockbuster.models import list_models

    return [(info.name, info.summary) for info in list_models().values()]


def describe_model(name: str) -> tuple[str, Rows]:
    """Return a model's summary, and default, unit, range and help of each setting."""
    from napari_blockbuster.models import model_class

    kind = model_class(name)
    schema = kind.model_json_schema()
    required = schema.get("required", ())
    rows = [
        (f"{field}={'(required)' if field in required else _default(about)}", _help(about))
        for field, about in schema.get("properties", {}).items()
    ]
    return f"{kind.family}: {kind.summary}\n", rows


def _default(about: dict[str, Any]) -> str:
    value = about.get("default")
    return "(empty)" if value is None else json.dumps(value) if not isinstance(value, str) else value


def _help(about: dict[str, Any]) -> str:
    """Return description, unit, choices and range of a setting from its JSON schema."""
    kinds = [about, *about.get("anyOf", [])]
    notes = [about["unit"]] if about.get("unit") else []
    for kind in kinds:
        if "enum" in kind:
            notes.append(" | ".join(map(str, kind["enum"])))
        low, above = kind.get("minimum"), kind.get("exclusiveMinimum")
        high, below = kind.get("maximum"), kind.get("exclusiveMaximum")
        limits = [(">=", low), (">", above), ("<=", high), ("<", below)]
        if words := [f"{sign} {value:g}" for sign, value in limits if value is not None]:
            notes.append(" and ".join(words))
    return str(about.get("description", "")) + (f" [{'; '.join(notes)}]" if notes else "")


# --------------------------------------------------------------------------------------------------------------- texts
def _by(shape: Any) -> str:
    return " x ".join(str(int(n)) for n in np.atleast_1d(shape))


def _named(axes: Any, shape: Any) -> str:
    names = list(axes or [])
    return _by(shape) + (f" ({' '.join(names)})" if len(names) == len(shape) else "")


def _listed(settings: dict[str, Any]) -> str:
    return f" ({', '.join(f'{k}={_short(v)}' for k, v in settings.items())})" if settings else ""


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"[{', '.join(map(_short, value))}]" if isinstance(value, list | tuple) else str(value)
