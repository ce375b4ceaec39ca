"""Plan of a run: the choices of the form, the job that they make, and the script that repeats it. No Qt."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.images import ImageSource
from napari_blockbuster.images.channels import PARTS
from napari_blockbuster.job.job import Job
from napari_blockbuster.job.setup.new_job import NewJob
from napari_blockbuster.job.setup.suggestion import make_grid
from napari_blockbuster.job.shell import options
from napari_blockbuster.job.where.text import region_in_script, region_options
from napari_blockbuster.merge.decisions import Decisions
from napari_blockbuster.merge.filters import ObjectFilter
from napari_blockbuster.merge.pairs import label_text, pair_text
from napari_blockbuster.models import Model
from napari_blockbuster.widgets.layers.of_image.origins import confirmed
from napari_blockbuster.widgets.session import ClusterChoice
from napari_blockbuster.widgets.texts import times

__all__ = ["IN_MEMORY", "MergeChoice", "Plan", "changed_settings"]


IN_MEMORY = "image.ome.zarr"
"""Stands in scripts for the path of an image that is only in memory."""
_NO_PATH = ("This image was only in memory.", "These channels were several layers, which are one image for a script.")


@dataclass(frozen=True)
class MergeChoice:
    """Settings of the merge (see `napari_blockbuster.merge.rules`)."""

    rule: str = "overlap"
    min_iou: float | None = None
    connectivity: int = 1
    filter: ObjectFilter = ObjectFilter()

    def options(self) -> dict[str, Any]:
        """Return the arguments of `Job.merge` that differ from its defaults."""
        found: dict[str, Any] = {} if self.rule == "overlap" else {"rule": self.rule}
        if self.min_iou is not None and self.rule in ("overlap", "face"):
            found["min_iou"] = self.min_iou
        if self.connectivity != 1 and self.rule == "touch":
            found["connectivity"] = self.connectivity
        if self.filter:
            found["filter"] = self.filter
        return found


@dataclass(frozen=True)
class Plan:
    """Settings of one run.

    Attributes
    ----------
    source : ImageSource
    model : Model
        Before `Job.create` measures the whole image.
    tile_shape, halo : tuple of int
        In voxels along the spatial axes.
    output : str
        Path of the merged labels.
    """

    source: ImageSource
    model: Model
    tile_shape: tuple[int, ...]
    halo: tuple[int, ...]
    output: str
    cluster: ClusterChoice = ClusterChoice()
    merge: MergeChoice = MergeChoice()
    corrections: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """The arguments `cut`, `join` and `remove` of `segment`, for a script."""
    where: dict[str, Any] = field(default_factory=dict)
    """The arguments of `segment` that say where: `where`, `inside`, `skip_empty`, `skip_below`."""

    def grid(self) -> TileGrid:
        """Return the tiles.

        Raises
        ------
        ValueError
            If tile, halo and image do not fit together.
        """
        return make_grid(self.source, self.tile_shape, self.halo)

    def create_job(self) -> Job:
        """Create the job, or open the same one to resume it. It segments the pixels that the layer shows now."""
        sizes: dict[str, Any] = {"tile_shape": self.tile_shape, "halo": self.halo}
        return Job.create(confirmed(self.source), self.model, self.output, **sizes, **self.where)

    def moves(self, job: Job) -> bool:
        """Return whether this plan is for another region than that of a job, whose tiles it keeps."""
        asked = NewJob(self.source, self.model, self.output, **self.where)
        skips = (job.where.empty is not None, job.where.skip_below)
        if skips != (asked.skip_empty or asked.skip_below is not None, asked.skip_below):
            return True
        region = asked.region(self.source, job.grid)
        return replace(region, empty=job.where.empty).digest != job.where.digest

    def changes(self, job: Job, details: bool = False) -> list[str]:
        """Return the names of the choices that differ from a job's. Edits of its function are left to `Job.stage`.

        Parameters
        ----------
        job : Job
        details : bool, default False
            Add old and new values: "tiles (64 × 64 → 128 × 128)".
        """
        model = json.loads(json.dumps(self.model.settings()))
        same_model = model == job.spec.model or job.spec.is_same_but_for_code(model)
        found = {
            "image": job.source is None or _same_pixels(job.source, self.source),
            "voxel size": job.source is None or job.source.layout.spacing == self.source.layout.spacing,
            "model": same_model or model["model"] == job.spec.model["model"],
            "model settings": same_model or model["model"] != job.spec.model["model"],
            "tiles": self.grid() == job.grid,
            "output": Path(self.output).absolute() == Path(job.spec.output),
        }
        values = self._values(job, model) if details else {}
        return [f"{name}{values.get(name, '')}" for name, same in found.items() if not same]

    def _values(self, job: Job, model: dict[str, Any]) -> dict[str, str]:
        """Return the old and the new value of the choices that are short enough for a note."""
        old = job.spec.model
        changed = [
            f"{name.replace('_', ' ')} {_short(old.get(name))} → {_short(value)}"
            for name, value in model.items()
            if name in type(self.model).model_fields and old.get(name) != value
        ]
        frames = job.grid.separate_axes
        tiles = [
            f"{name}{times(one[frames:])} → {times(other)}"
            for name, one, other in (
                ("", job.grid.tile_shape, self.tile_shape),
                ("halo ", job.grid.halo, self.halo),
            )
            if tuple(one[frames:]) != tuple(other)
        ]
        found = {"model": [f"{old['model']} → {model['model']}"], "model settings": changed, "tiles": tiles}
        return {name: f" ({', '.join(texts)})" for name, texts in found.items() if texts}

    # ------------------------------------------------------------------------------------------ without a viewer
    @property
    def in_memory(self) -> bool:
        """Whether the image has no path that a script could open."""
        return not self.source.describe().get("path")

    def script(self) -> str:
        """Return a Python script that repeats this run without a viewer."""
        described = self.source.describe()
        path = described.get("path")
        settings = changed_settings(self.model)
        lines = [
            *_imports(self.cluster, self.model),
            *(["from napari_blockbuster.merge.filters import ObjectFilter"] if self.merge.filter else []),
            "",
            'if __name__ == "__main__":',
            *(
                []
                if path
                else [f"    # {_NO_PATH[described['kind'] == PARTS]} Save it first, and enter its path here."]
            ),
            f"    {_cluster_line(self.cluster)}",
            "    result = segment(",
            f"        {str(path or IN_MEMORY)!r},",
            f"        {_model_expression(self.model, settings)},",
            f"        {self.output!r},",
            f"        tile_shape={self.tile_shape},",
            f"        halo={self.halo},",
            *(f"        {name}={value!r}," for name, value in _where(described).items()),
            *(f"        {_argument(name)}={_expression(value)}," for name, value in self.merge.options().items()),
            *region_in_script(self.where, self.output),
            *self._correction_lines(),
            "        client=client,",
            "    )",
            "    print(result)",
        ]
        return "\n".join(lines) + "\n"

    def corrected(self, job: Job | None, decisions: Decisions | None, again: Collection[int]) -> Plan:
        """Return the plan with the decisions of a job, if it is the job of this plan.

        Decisions name labels that the model finds in the tiles. Tiles that were segmented again with other settings have other
        labels, so that decisions on them are left out: `again` are their numbers.
        """
        if job is None or decisions is None or self.changes(job):
            return self
        pairs = {"cut": decisions.cut, "join": decisions.join}
        kept = {
            name: tuple(p for p in given if not any(tile in again for tile, _ in p)) for name, given in pairs.items()
        }
        kept["remove"] = tuple(label for label in decisions.removed if label[0] not in again)
        return replace(self, corrections={name: given for name, given in kept.items() if given})

    def _correction_lines(self) -> list[str]:
        if not self.corrections:
            return []
        lines = [
            "        # Corrections by hand. They name labels of tiles: model, tiles and halo must stay as they are."
        ]
        return lines + [f"        {name}={list(pairs)!r}," for name, pairs in self.corrections.items()]

    def command(self) -> str:
        """Return a command line that repeats this run without a viewer."""
        described = self.source.describe()
        words = ["napari-blockbuster", "segment", str(described.get("path") or IN_MEMORY)]
        words += [
            "--model",
            self.model.family if self.model.family != "function" else str(changed_settings(self.model)["source"]),
        ]
        for name, value in changed_settings(self.model).items():
            if self.model.family != "function":
                words += ["--set", f"{name}={_word(value)}"]
        words += ["-o", self.output]
        words += ["--tile", *map(str, self.tile_shape), "--halo", *map(str, self.halo)]
        for name, value in _where(described).items():
            words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
        words += region_options(self.where, self.output)
        rule = self.merge.options()
        keep = rule.pop("filter", ObjectFilter()).options()
        words += options(**rule, **keep)
        for name, pairs in self.corrections.items():
            text = label_text if name == "remove" else pair_text
            words += [word for each in pairs for word in (f"--{name}", text(each))]
        words += self.cluster.words()
        return shlex.join(words)


def _short(value: Any) -> str:
    if value is None:
        return "automatic"
    text = times(value) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 24 else f"{text[:23]}…"


def _same_pixels(one: ImageSource, other: ImageSource) -> bool:
    """Return whether two sources have the same pixels, judged without reading them."""
    place = ("scale", "units", "translation", "affine", "spacing")
    mine, theirs = ({k: v for k, v in each.describe().items() if k not in place} for each in (one, other))
    held = [[getattr(part, "_array", None) for part in getattr(each, "parts", [each])] for each in (one, other)]
    same_arrays = len(held[0]) == len(held[1]) and all(a is b for a, b in zip(*held, strict=True))
    return one is other or (mine == theirs and (one.local_path is not None or same_arrays))


def _where(described: dict[str, Any]) -> dict[str, Any]:
    """Return channels, level, scene, voxel size and axes, if they are not the defaults."""
    found = {"channel": described.get("channel"), "level": described.get("level") or None}
    if described["kind"] == PARTS:
        found["channel"] = list(range(len(described["parts"])))
    found |= {"scene": described.get("scene"), "spacing": described.get("spacing")}
    if _is_plain_array(described):
        found["axes"] = described["stored_axes"]
    return {name: value for name, value in found.items() if value is not None}


def _is_plain_array(described: dict[str, Any]) -> bool:
    """Return whether an image is a zarr array without metadata of OME-Zarr, whose axes were chosen in the form."""
    folder = Path(described.get("path") or "")
    if described["kind"] != "zarr" or not folder.is_dir():
        return False
    if (folder / ".zarray").is_file():
        return True
    try:
        return bool(json.loads((folder / "zarr.json").read_bytes()).get("node_type") == "array")
    except (OSError, ValueError):
        return False


def changed_settings(model: Model) -> dict[str, Any]:
    """Return the settings that differ from the defaults."""
    defaults = {key: info.get_default(call_default_factory=True) for key, info in type(model).model_fields.items()}
    return {key: value for key, value in model.model_dump(mode="json").items() if value != _plain(defaults[key])}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _imports(cluster: ClusterChoice, model: Model) -> list[str]:
    if cluster.address:
        lines = ["from napari_blockbuster import segment", "from napari_blockbuster.execution.cluster import connect"]
    else:
        lines = ["from napari_blockbuster import make_local_cluster, segment"]
    return lines if model.family == "function" else [*lines, "from napari_blockbuster.models import get_model"]


def _model_expression(model: Model, settings: dict[str, Any]) -> str:
    if model.family == "function":
        return repr(settings["source"])
    return f"get_model({', '.join([repr(model.family), *(f'{k}={v!r}' for k, v in settings.items())])})"


def _cluster_line(choice: ClusterChoice) -> str:
    if choice.address:
        return f"client = connect({choice.address!r})"
    arguments = ", ".join(f"{name}={value!r}" for name, value in choice.arguments().items())
    return f"client, cluster = make_local_cluster({arguments})"


def _argument(name: str) -> str:
    return "merge" if name == "rule" else name


def _expression(value: Any) -> str:
    if not isinstance(value, ObjectFilter):
        return repr(value)
    return f"ObjectFilter({', '.join(f'{name}={v!r}' for name, v in value.settings().items())})"


def _word(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
