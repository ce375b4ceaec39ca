"""What ``napari-blockbuster info`` and ``models`` tell: jobs, images, models and their settings, as rows of text."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.machine.units import bytes_text

if TYPE_CHECKING:
    from napari_blockbuster.images import ImageSource
    from napari_blockbuster.job.job import Job
    from napari_blockbuster.models import Model

__all__ = ["describe_check", "describe_image", "describe_job", "describe_model", "describe_models", "find_job"]

Rows = list[tuple[str, str]]


# ---------------------------------------------------------------------------------------------------------------- jobs
def find_job(path: str) -> Path | None:
    """The job folder that a path is, or that stands beside it; None for anything else."""
    if "://" in path:
        return None
    from napari_blockbuster.output.result import job_folder

    folder = Path(path).absolute()
    for candidate in (folder, job_folder(folder)):
        if (candidate / "job.json").exists():
            return candidate
    return None


def describe_job(folder: Path) -> Rows:
    """Settings, tiles, disk and the last merge of a job. Nothing in the job is executed, and nothing is written."""
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
    """What the checker says of a job, and whether all is well now."""
    from napari_blockbuster.job.job import Job
    from napari_blockbuster.job.shell import command

    job = Job.open(folder)
    report = job.check(repair=repair)
    rows = [("job", str(folder)), ("checked", f"{report.n_staged} staged tiles of {job.n_tiles}")]
    rows += [("array", text) for text in report.layout]
    rows += [(f"tile {index}", text) for index, text in report.damaged.items()]
    rows += [(f"tile {index}", "no such tile in the grid") for index in report.strangers]
    if report.evidence:
        rows.append(("evidence", f"{len(report.evidence)} damaged; made again from the bands before the next merge"))
    if report.regions:
        rows.append(("regions", f"{len(report.regions)} damaged; made again when holes are filled next"))
    if report.sound:
        return [*rows, ("result", "sound: every marker has its labels, bands, objects and count")], True
    if not repair:
        mend = command(["info", "--check", "--repair", str(folder)])
        return [*rows, ("result", f"damaged; repair with: {mend}")], False
    again = f"; segment them with: {command(['resume', str(folder)])}" if report.damaged else ""
    return [*rows, ("result", f"repaired: {len(report.damaged)} tiles un-staged{again}")], True


def _tile_rows(job: Job) -> Rows:
    if not (job.store.folder / "labels").exists():
        return [("tiles", f"{job.n_tiles}, deleted after the result was written")]
    staged, failed = job.staged(), job.failed()
    missing = job.n_tiles - len(staged) - len(failed)
    rows = [("tiles", f"{job.n_tiles}: {len(staged)} staged, {len(failed)} failed, {missing} missing")]
    rows.append(("labels", str(int(job.labels_table().offsets[-1]))))
    for index, failure in failed.items():
        rows.append((f"tile {index}", f"{failure.error}: {failure.message.strip().partition(chr(10))[0]}"))
    return rows


def _driver_rows(folder: Path) -> Rows:
    """A detached driver that is at work, or that died at it."""
    from napari_blockbuster.detached.files import DriverFiles
    from napari_blockbuster.job.lock import is_held

    files = DriverFiles(folder)
    state = files.load()
    if state is None or state.end:
        return []
    gone = "" if is_held(files.lock, may_write=False) else ", gone without a word"
    return [("driver", f"{state.place}, {state.progress}{gone}")]


def _merge_of_result(job: Job) -> dict[str, Any] | None:
    """How the last result at the job's own output was merged."""
    from napari_blockbuster.job.results import own_record

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
    """Results that this job wrote elsewhere and that are still there."""
    from napari_blockbuster.job.results import is_recorded, other_records

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
    """What tiling did to the objects, and what a person decided, while the tiles are there."""
    from napari_blockbuster.inspect.seam_report import seam_report
    from napari_blockbuster.job.acceptances import Notes
    from napari_blockbuster.merge.decisions import Decisions

    if not (job.store.folder / "labels").exists() or len(job.staged()) < 2:
        return []
    used = _merge_of_result(job) or {}
    options = {name: used[name] for name in ("rule", "min_iou", "connectivity") if name in used}
    try:
        if Notes.load(job.folder).unfinished:
            return [
                ("seams", "unknown: tiles were being replaced when a process was killed; the next run finishes that")
            ]
        given = Decisions.load(job.folder)
        merged = job.merge(**options, cut=given.cut, join=given.join)
    except JobError as error:
        # The rest is worth knowing all the more.
        return [("seams", f"cannot be read: {str(error).partition(chr(10))[0]}")]
    names = [str(name) for name in job.spec.image.get("axes") or ()] or None
    *axes, verdict = seam_report(merged, job.store, names=names).lines()
    parts = [line.partition(": ") for line in axes]
    rows = [("seams", verdict), *((f"seams, {name}", text) for name, _, text in parts)]
    return rows + [("by hand", line) for line in given.lines()]


def _bytes_in(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            # A file may go while it is counted: a job that runs cleans up after itself.
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except FileNotFoundError:
                continue
    return total


# -------------------------------------------------------------------------------------------------------------- images
def describe_image(path: str, model: Model, **options: Any) -> Rows:
    """Axes, shape, chunks and levels of an image, and the tiles that a run would use."""
    from napari_blockbuster.geometry.tiles import TileGrid
    from napari_blockbuster.images import open_image
    from napari_blockbuster.job.suggestion import suggest_tiles

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
        ("shape", _named(source.axes, source.shape)),
        *([("channels", f"{channels}; say which one to segment (--channel)")] if channels else []),
        ("type", f"{source.dtype}, {bytes_text(voxels * source.dtype.itemsize)} uncompressed"),
        ("voxel", scale if known else "size unknown"),
        ("chunks", _by(source.read_chunks)),
        *_level_rows(path, options | {"channel": source.layout.channel}),
        ("tile", f"{_by(tile)} (suggested for {model.family})"),
        ("halo", f"{_by(halo)} (suggested for {model.family})"),
        ("tiles", str(len(grid))),
    ]


def _axes_of(source: ImageSource) -> list[tuple[str, float, str | None]]:
    return list(zip(source.axes, source.scale, source.units, strict=True))


def _channels(path: str, options: dict[str, Any]) -> str:
    """The channels among which a run would have to choose; empty where there is nothing to choose."""
    from napari_blockbuster.images import open_image

    if options.get("channel") is not None:
        return ""
    try:
        open_image(path, **options)
    except ValueError as error:
        # The image itself says so, with the names that it has.
        return str(error).partition("(--channel): ")[2]
    return ""


def _level_rows(path: str, options: dict[str, Any]) -> Rows:
    """Shapes of a pyramid's levels; no row for an image with a single one."""
    from napari_blockbuster.images import open_image

    shapes = []
    for level in range(64):
        try:
            shapes.append(open_image(path, **options | {"level": level}).shape)
        except ValueError:
            break
    return [("levels", ", ".join(_by(shape) for shape in shapes))] if len(shapes) > 1 else []


# -------------------------------------------------------------------------------------------------------------- models
def describe_models() -> Rows:
    """Name and summary of every registered model."""
    from napari_blockbuster.models import list_models

    return [(info.name, info.summary) for info in list_models().values()]


def describe_model(name: str) -> tuple[str, Rows]:
    """A model's summary, and for each setting: default, unit, range, help."""
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
    """Description, unit, choices and range of a setting, from its JSON schema."""
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


# --------------------------------------------------------------------------------------------------------------- words
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
