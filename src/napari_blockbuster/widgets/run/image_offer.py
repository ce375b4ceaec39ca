"""Find the missing image of an open job among the layers of the viewer, by its pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from napari.layers import Image

from napari_blockbuster.images import ImageSource
from napari_blockbuster.job.job import Job
from napari_blockbuster.widgets.choices.image_section import AXES, ImageSection
from napari_blockbuster.widgets.controls import times
from napari_blockbuster.widgets.layers.of_image import layer_images
from napari_blockbuster.widgets.layers.viewer_layers import is_image
from napari_blockbuster.widgets.run.control.control import RunControl
from napari_blockbuster.widgets.runner import in_thread

from .section import RunSection

__all__ = ["ImageOffer", "Match"]


@dataclass(frozen=True)
class Match:
    """A layer with the image of a job, and the part of it that is the image."""

    layer: Image
    axes: str
    level: int
    channel: int | list[int] | None


class OfferDock(Protocol):
    """The dock that offers layers."""

    viewer: Any
    image: ImageSection
    running: RunSection
    control: RunControl

    def open_job(self, folder: Path) -> None: ...


class ImageOffer:
    """Offers layers with the image of the open job, and opens the job again with the chosen layer."""

    def __init__(self, dock: Any) -> None:
        self._dock: OfferDock = dock
        self._turn = 0
        self._job: Job | None = None
        self._matches: list[Match] = []
        self._then: tuple[Path, Callable[[], object]] | None = None
        dock.viewer.layers.events.inserted.connect(self._layers_changed)
        dock.viewer.layers.events.removed.connect(self._layers_changed)
        dock.image.changed.connect(self._image_opened)
        dock.control.changed.connect(self._job_opened)
        dock.control.failed.connect(self._give_up)

    # -------------------------------------------------------------------------------------------------------- looking
    def check(self) -> None:
        """Look for the image of the open job, once, if it is missing."""
        control = self._dock.control
        job = control.job if control.state in ("paused", "staged") else None
        if job is not None and job.source is not None:
            job = None
        if job is not self._job:
            self._job = job
            self._show([])
            if job is not None:
                self._look()

    def _layers_changed(self, event: Any = None) -> None:
        if self._job is not None and is_image(event.value):
            self._look()

    def _look(self, done: Callable[[], object] | None = None) -> None:
        job = self._job
        assert job is not None
        self._turn += 1
        turn = self._turn
        layers = [layer for layer in self._dock.viewer.layers if is_image(layer)]

        def found(matches: list[Match]) -> None:
            if turn == self._turn and self._job is job:
                self._show(matches)
                if done is not None:
                    done()

        def fail(error: Exception) -> None:
            self._dock.running.problem.say(str(error), problem=True)

        in_thread(
            lambda: [match for layer in layers for match in matches_of(layer, job)][:20], found, fail, owner=self._dock
        )

    def _show(self, matches: list[Match]) -> None:
        self._matches = matches
        problem = self._dock.running.problem
        if matches and self._job is not None and problem.plain == self._missing():
            problem.say("")
        self._dock.running.offer_layers([_name(match) for match in matches])

    # ---------------------------------------------------------------------------------------------------------- using
    def use(self, then: Callable[[], object]) -> None:
        """Open the job again with the chosen layer, then call `then`; show a note if no layer has the image."""
        if self._matches:
            self._choose(then)
            return

        def looked() -> None:
            if self._matches:
                self._choose(then)
            else:
                self._dock.running.problem.say(self._missing(), problem=True)

        self.check()
        if self._job is not None:
            self._look(looked)

    def _missing(self) -> str:
        assert self._job is not None
        image = self._job.spec.image
        where = f"is not at {image['path']}" if image.get("path") else "was in memory"
        return (
            f"The image of this run {where}, and no open layer has the same pixels ({times(image['shape'])} "
            f"{image['dtype']}). Open the image, then press Resume again."
        )

    def _choose(self, then: Callable[[], object]) -> None:
        assert self._job is not None
        section = self._dock.image
        match = self._matches[max(self._dock.running.layer.currentIndex(), 0)]
        self._then = self._job.folder, then
        section.choice.value = match.layer
        section.axes.setCurrentText(match.axes)
        section.level.setCurrentIndex(match.level)
        if match.channel is not None:
            section.channel.setValue(match.channel)
        # If the form shows the image already, the section emits nothing.
        self._image_opened()

    def _image_opened(self) -> None:
        if self._then is not None and self._job is not None and self._dock.image.source is not None:
            self._dock.open_job(self._job.folder)

    def _job_opened(self) -> None:
        control = self._dock.control
        if self._then is None or control.state not in ("paused", "staged") or control.job is self._job:
            return
        (folder, then), self._then = self._then, None
        if control.job is not None and control.job.folder == folder and control.job.source is not None:
            then()

    def _give_up(self, message: str) -> None:
        self._then = None


def matches_of(layer: Image, job: Job) -> Iterator[Match]:
    """Yield the parts of a layer that have the pixels of a job's image. Call it in a thread, because it reads pixels."""
    spec = job.spec
    wanted = "".join(spec.image["axes"])
    shapes = layer_images.level_shapes(layer)
    others = [] if layer.rgb else AXES.get(len(shapes[0]), [])
    chosen = spec.image.get("channel")
    for axes in dict.fromkeys([layer_images.usual_axes(layer), *others]):
        if axes.replace("c", "") != wanted:
            continue
        for level, shape in enumerate(shapes):
            spatial = [n for axis, n in zip(axes, shape, strict=True) if axis != "c"]
            if spatial != list(spec.image["shape"]):
                continue
            channels: list[int | list[int] | None] = [None]
            if "c" in axes:
                channels = [chosen] if isinstance(chosen, list) else [*range(shape[axes.index("c")])]
            for channel in channels:
                if _is_same(layer, axes, level, channel, spec.identity):
                    yield Match(layer, axes, level, channel)


def _is_same(layer: Image, axes: str, level: int, channel: int | list[int] | None, identity: dict[str, Any]) -> bool:
    try:
        # The job has sizes of its own. They are no part of the pixels.
        source: ImageSource = layer_images.opened(layer, axes, level, channel)
        pixels = {key: value for key, value in identity.items() if key != "spacing"}
        found = {key: value for key, value in source.identity().items() if key != "spacing"}
        return str(source.dtype) == identity["dtype"] and found == pixels
    except (OSError, ValueError, RuntimeError):
        return False


def _name(match: Match) -> str:
    parts = [match.layer.name]
    if match.level:
        parts.append(f"level {match.level}")
    if isinstance(match.channel, list):
        parts.append(f"channels {', '.join(map(str, match.channel))}")
    elif match.channel is not None:
        parts.append(f"channel {match.channel}")
    return ", ".join(parts)
