"""The commands ``info`` and ``models``."""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import Parameter

from napari_blockbuster.cli.options import ImageOptions, ModelOptions, UsageError
from napari_blockbuster.cli.terminal import DONE, FAILED_TILES, print_rows

__all__ = ["info", "models"]


def info(
    path: str,
    /,
    *,
    model: ModelOptions = ModelOptions(),  # noqa: B008
    part: ImageOptions = ImageOptions(),  # noqa: B008
    json_: Annotated[bool, Parameter(name="--json")] = False,
    check: bool = False,
    repair: bool = False,
) -> int:
    """Describe a job (settings, tiles, disk, merge), an image (axes, chunks, suggested tile), or list a folder or plate.

    The options of model and image are for images. With --check the exit code is 1 if a staged tile is damaged.

    Parameters
    ----------
    path
        A job folder, the output next to one, an image, or a folder, pattern or plate of images.
    json_
        Print JSON.
    check
        For a job: check that every staged tile has its labels, bands, objects and count.
    repair
        With --check: unstage damaged tiles, so that `resume` segments them again.
    """
    from napari_blockbuster.cli.batch import collection_of

    from .images import describe_collection, describe_image
    from .jobs import describe_check, describe_job, find_job

    folder = find_job(path)
    sound = True
    if repair and not check:
        raise UsageError("--repair requires --check")
    if check:
        if folder is None:
            raise UsageError(f"--check takes a job folder, and {path} is not one")
        rows, sound = describe_check(folder, repair)
    elif folder is not None:
        rows = describe_job(folder)
    elif (found := collection_of((path,), part)) is not None:
        rows = describe_collection(found)
    else:
        rows = describe_image(path, model.make(), **part.arguments())
    if json_:
        print(json.dumps(dict(rows), indent=2))
    else:
        print_rows(rows)
    return DONE if sound else FAILED_TILES


def models(name: str | None = None, /) -> int:
    """List the models, or the settings of one model.

    Parameters
    ----------
    name
        Name of a model.
    """
    from .models import describe_model, describe_models

    if name is None:
        print_rows(describe_models())
        return DONE
    heading, rows = describe_model(name)
    print_rows(rows, heading)
    return DONE
