"""The inputs of a job: its image and its model, and the settings that both have to match."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from napari_blockbuster.images import ImageSource, open_image, source_from_description
from napari_blockbuster.job.folder.settings import JobSpec
from napari_blockbuster.machine.errors import JobError, JobMismatchError
from napari_blockbuster.machine.versions import describe_versions
from napari_blockbuster.models import Model, model_from_settings

from . import edited_function

__all__ = ["Inputs", "reopen_others", "reopen_source", "with_function"]


class Inputs:
    """The image and the model of a job.

    Attributes
    ----------
    spec : JobSpec
        The settings of the job.
    source : ImageSource or None
        None for an image in memory that was not passed again.
    model : Model or None
        The prepared model; None for a function that was not passed again.
    others : ImageSource or None
        Channels that are measured and that the model does not see; None if there are none, or they cannot be opened.
    """

    def __init__(
        self, spec: JobSpec, source: ImageSource | None, model: Model | None, others: ImageSource | None = None
    ) -> None:
        self.spec, self.source, self.model, self.others = spec, source, model, others

    def ready(self) -> tuple[ImageSource, Model]:
        """Return the image and the model, ready to segment tiles. A function in a file is read again.

        Raises
        ------
        JobError
            If one of them is missing.
        JobMismatchError
            If the image or a version is not the one of the tiles staged so far.
        """
        source = self.image()
        if self.others is None and self.spec.measured.others is not None:
            raise JobError(
                f"The measured channels {', '.join(self.spec.measured.names)} cannot be opened. Pass the image again: "
                "Job.open(folder, image=...)."
            )
        if self.model is None:
            self.model = with_function(self.spec, None)
        if self.model is None:
            raise JobError(_why_no_model(self.spec))
        self._check_unchanged(source)
        self.model = edited_function.read_anew(self.model)
        return source, self.model

    def image(self) -> ImageSource:
        """Return the image.

        Raises
        ------
        JobError
            If the job was opened without it.
        """
        if self.source is None:
            raise JobError(
                "The image of this job was in memory, so only a session that has the image can resume it. In napari, open the "
                "image and the job, then press Resume. In Python, pass the image: Job.open(folder, image=...)."
            )
        return self.source

    def _check_unchanged(self, source: ImageSource) -> None:
        now = {"identity": source.identity(), "versions": describe_versions(self.spec.depends_on)}
        there = self.spec.model_copy(update=now)
        if changed := self.spec.differences(there):
            listing = "\n  ".join(changed)
            raise JobMismatchError(
                f"the job's tiles were made from something else than what is there now:\n  {listing}\n"
                f"{self.spec.remedy(there)}"
            )


# -------------------------------------------------------------------------------------------------------------- image
def reopen_source(spec: JobSpec, image: Any) -> ImageSource | None:
    """Open the image of a job again; None if it cannot be opened.

    Raises
    ------
    JobMismatchError
        If `image` is another one.
    """
    if image is not None:
        options = {
            key: spec.image[key] for key in ("channel", "level", "scene", "spacing") if spec.image.get(key) is not None
        }
        source = _with_sizes(image, spec) if isinstance(image, ImageSource) else open_image(image, **options)
        if changed := spec.differences(spec.model_copy(update={"identity": source.identity()})):
            raise JobMismatchError("this is not the image of the job: " + "; ".join(changed))
        return source
    try:
        return source_from_description(spec.image)
    except (OSError, ValueError):
        # A moved or in-memory image: the staged tiles can still be merged and written.
        return None
    except (KeyError, TypeError, AttributeError):
        raise JobError("the job's image entry cannot be read: job.json was edited or damaged") from None


def reopen_others(spec: JobSpec, image: Any) -> ImageSource | None:
    """Open the measured channels of a job that its model does not see; None without any, or if they cannot be opened."""
    described = spec.measured.others
    if described is None:
        return None
    try:
        if image is None or isinstance(image, ImageSource):
            return source_from_description(described)
        options = {key: described.get(key) for key in ("channel", "level", "scene", "spacing")}
        return open_image(image, **{key: value for key, value in options.items() if value is not None})
    except (OSError, ValueError):
        # The tiles can still be merged and written.
        return None


def _with_sizes(source: ImageSource, spec: JobSpec) -> ImageSource:
    """Return an image with the voxel size and the place that the job was made with."""
    given = spec.image.get("spacing")
    spacing = tuple(given) if isinstance(given, list) else given
    if source.layout.spacing == spacing:
        return source
    found = {name: tuple(values) for name in ("scale", "units", "translation") if (values := spec.image.get(name))}
    source = copy.copy(source)
    source.layout = replace(source.layout, spacing=spacing, **found)  # type: ignore[arg-type]
    return source


# -------------------------------------------------------------------------------------------------------------- model
def with_function(spec: JobSpec, asked: Model | None) -> Model | None:
    """Return the prepared model of a job, with the function that JSON cannot hold."""
    if asked is not None and asked.family == "function":
        return asked
    if spec.prepared.get("model") == "function" and not spec.prepared.get("sha256"):
        # Without a digest any function of that name would do, and finding it would import its module.
        raise JobError("the job's function has no digest: job.json was edited. The function is not run")
    try:
        return model_from_settings(spec.prepared)
    except (OSError, ValueError):
        if asked is not None or not _is_from_file(spec.prepared):
            return asked
    try:
        return _function_now(spec.prepared)
    except (OSError, ValueError):
        return None


def _why_no_model(spec: JobSpec) -> str:
    if spec.prepared.get("model") == "function" and spec.prepared.get("kind") == "python":
        return "this job's model is a Python function: pass it again, Job.open(folder, model=...)"
    try:
        (_function_now if _is_from_file(spec.prepared) else model_from_settings)(spec.prepared)
    except (OSError, ValueError) as error:
        return f"The model of this job cannot be used: {error}"
    return "The model of this job could not be used when the job was opened. Open the job again."


def _is_from_file(settings: dict[str, Any]) -> bool:
    return settings.get("model") == "function" and settings.get("kind") == "file"


def _function_now(settings: dict[str, Any]) -> Model:
    """Return the function of a file as it is now, whether it was edited or not. Nothing in the file is run."""
    from napari_blockbuster.models.function.model import FunctionModel

    return FunctionModel(**{key: value for key, value in settings.items() if key != "model"}).read_anew()
