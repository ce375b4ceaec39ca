"""Groups of command-line options that several commands share."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from napari_blockbuster.job.steps.completion import Finish
    from napari_blockbuster.merge.filters import ObjectFilter
    from napari_blockbuster.merge.pairs import PairOfLabels
    from napari_blockbuster.models import Model

__all__ = [
    "Channels",
    "ImageOptions",
    "MergeOptions",
    "ModelOptions",
    "Output",
    "OutputOptions",
    "SceneOptions",
    "UsageError",
    "WhereOptions",
    "one_or_all",
]

Channels = Annotated[tuple[int | str, ...] | None, Parameter(consume_multiple=True)]
Output = Annotated[Path | None, Parameter(name=["--output", "-o"])]
Spacing = Annotated[tuple[float, ...] | None, Parameter(consume_multiple=True)]
Settings = Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=True, show_default=False)]


class UsageError(ValueError):
    """Options that contradict each other, or a value that cannot be parsed."""


def one_or_all(values: tuple[Any, ...] | None) -> Any:
    """Return the only value of a tuple, or the tuple if it has several."""
    return values[0] if values is not None and len(values) == 1 else values


@Parameter(name="*")
@dataclass(frozen=True)
class ModelOptions:
    """Model of the tiles.

    Attributes
    ----------
    model
        Name of a model (`napari-blockbuster models` lists them), or file.py:function.
    settings
        Settings of the model, such as diameter=18 (`napari-blockbuster models NAME` lists them), or arguments of a function.
    """

    model: str = "voronoi-otsu"
    settings: Settings = ()

    def make(self) -> Model:
        """Return the model with its settings."""
        from napari_blockbuster.models import as_model, get_model

        given = dict(_setting(text) for text in self.settings)
        if given and (":" in self.model or self.model.endswith(".py")):
            from napari_blockbuster.models.function.model import FunctionModel

            return FunctionModel.from_source(self.model, **given)
        return get_model(self.model, **given) if given else as_model(self.model)


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--set is {text!r}. Give name=value, such as diameter=18")
    key = key.replace("-", "_")
    with contextlib.suppress(ValueError):
        return key, json.loads(value)
    return key, value


@Parameter(name="*")
@dataclass(frozen=True)
class SceneOptions:
    """An image in its file.

    Attributes
    ----------
    level
        Resolution level of a pyramid; 0 is the finest.
    axes
        Names of the axes if the image does not name them, such as tczyx.
    scene
        Number or name of an image in a file that holds several; `info` lists them.
    spacing
        Size of a voxel at full resolution in micrometers, one number or one per spatial axis (Z Y X). Default: as the
        image says.
    """

    level: int = 0
    axes: str | None = None
    scene: int | str | None = None
    spacing: Spacing = None

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `open_image`."""
        return {"level": self.level, "axes": self.axes, "scene": self.scene, "spacing": one_or_all(self.spacing)}


@Parameter(name="*")
@dataclass(frozen=True)
class ImageOptions(SceneOptions):
    """Part of an image to segment.

    Attributes
    ----------
    channel
        Channel by number or name, required if the image has several. Several channels for a model that takes several.
    """

    channel: Channels = None

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `open_image`."""
        return super().arguments() | {"channel": one_or_all(self.channel)}


@Parameter(name="*")
@dataclass(frozen=True)
class WhereOptions:
    """Part of the image to segment. Tiles that do not meet it are skipped.

    Attributes
    ----------
    where
        Mask or label image of any resolution, GeoJSON (QuPath), box Z0:Z1,Y0:Y1,X0:X1 in voxels or with units (10um:200um),
        or tiles:0,5,8-12. Several are united. Default: everywhere.
    inside
        Objects at the edge: those whose centroid is inside are kept whole, or all that touch it are, or they are cut there.
        Default: centroid; touching for tiles.
    skip_empty
        Skip tiles whose pixels all have one value, such as chunks that an OME-Zarr does not store.
    skip_below
        Skip tiles without a pixel above this value. The image is read once before the run.
    """

    where: Annotated[tuple[str, ...], Parameter(show_default=False)] = ()
    inside: Literal["centroid", "touching", "clip"] | None = None
    skip_empty: bool = False
    skip_below: float | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `Job.create`; none for the whole image."""
        if self.inside is not None and not self.where:
            raise UsageError(f"--inside {self.inside} needs --where")
        region = {"where": one_or_all(self.where), "inside": self.inside} if self.where else {}
        if self.skip_empty or self.skip_below is not None:
            region |= {"skip_empty": self.skip_empty, "skip_below": self.skip_below}
        return region


@Parameter(name="*")
@dataclass(frozen=True)
class MergeOptions:
    """Labels that become one object, and objects that are kept.

    Attributes
    ----------
    rule
        Rule that decides which labels are one object across a seam.
    min_iou
        Threshold of the rules overlap and face, from 0 to 1. Default: the rule's default.
    connectivity
        For the rule touch: 1 joins voxels that share a face, 2 an edge, 3 a corner.
    min_size
        Leave out objects with fewer voxels, counted across tiles.
    max_size
        Leave out objects with more voxels.
    drop_border
        Leave out objects that touch the edge of the image.
    fill_holes
        Fill the holes of each object: background that only this object encloses. Sizes include filled holes.
    max_hole_size
        With --fill-holes: keep holes with more voxels.
    keep
        Leave out objects whose value in a column of the table is outside a range: 'area>=50', '0.6<=sphericity<=1' or
        'intensity_mean-DAPI>=120'. May be given several times; all must hold.
    cut
        Keep two labels of the tiles apart, whatever the rule says: 0:9,1:11 for label 9 of tile 0 and label 11 of tile 1.
        May be given several times.
    join
        Make two labels of the tiles one object, whatever the rule says. May be given several times.
    remove
        Make a label of a tile background: 0:9 for label 9 of tile 0. May be given several times.
    """

    rule: Annotated[Literal["overlap", "face", "touch", "none"], Parameter(name=["--merge", "--rule"])] = "overlap"
    min_iou: float | None = None
    connectivity: Literal[1, 2, 3] = 1
    min_size: int | None = None
    max_size: int | None = None
    drop_border: bool = False
    fill_holes: bool = False
    max_hole_size: int | None = None
    keep: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()
    join: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()

    def filter(self) -> ObjectFilter:
        """Return the filter of merged objects."""
        from napari_blockbuster.merge.column_ranges import ranges_of_texts
        from napari_blockbuster.merge.filters import ObjectFilter

        sizes = self.min_size, self.max_size
        ranges = ranges_of_texts(self.keep)
        return ObjectFilter(*sizes, self.drop_border, self.fill_holes, self.max_hole_size, ranges)

    def check(self) -> None:
        """Raise an error for values that the merge would refuse after the last tile."""
        if self.min_iou is not None and not 0 <= self.min_iou <= 1:
            raise UsageError(f"--min-iou is {self.min_iou}. Give an intersection over union from 0 to 1")
        try:
            self.filter()
        except ValueError as error:
            raise UsageError(str(error)) from None
        self.pairs("cut")
        self.pairs("join")
        self.labels()

    def pairs(self, name: str) -> tuple[PairOfLabels, ...]:
        """Return the pairs of labels of the option `cut` or `join`."""
        from napari_blockbuster.merge.pairs import pair_of_text

        found = []
        for text in getattr(self, name):
            try:
                found.append(pair_of_text(text))
            except ValueError:
                raise UsageError(
                    f"--{name} is {text!r}. Give two labels as TILE:LABEL,TILE:LABEL, for example 0:9,1:11"
                ) from None
        return tuple(found)

    def labels(self) -> tuple[tuple[int, int], ...]:
        """Return the labels of the option `remove`."""
        from napari_blockbuster.merge.pairs import label_of_text

        try:
            return tuple(label_of_text(text) for text in self.remove)
        except ValueError:
            raise UsageError(
                f"--remove is {' '.join(self.remove)}. Give a label as TILE:LABEL, for example 0:9"
            ) from None

    def finish(self, **more: Any) -> Finish:
        """Return the settings for merge and write. `more`: other fields of `Finish`."""
        from napari_blockbuster.job.steps.completion import Finish

        more |= {"cut": self.pairs("cut"), "join": self.pairs("join"), "remove": self.labels()}
        return Finish(self.rule, self.min_iou, self.connectivity, filter=self.filter(), **more)

    def options(self) -> list[str]:
        """Return the options as typed on the command line."""
        return self.finish().options()


@Parameter(name="*")
@dataclass(frozen=True)
class OutputOptions:
    """Output of the run.

    Attributes
    ----------
    overwrite
        Replace an existing output.
    ome_zarr
        Version of the output: 0.5 (zarr v3, sharded) or 0.4 (zarr v2). Default: that of the image around it, otherwise 0.5.
    csv
        Also write the table of objects as CSV.
    quiet
        Show no progress.
    """

    overwrite: bool = False
    ome_zarr: Literal["0.5", "0.4"] | None = None
    csv: bool = False
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"])] = False
