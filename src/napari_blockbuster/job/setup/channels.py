"""Channels of an image, and those that a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_blockbuster.images import ChannelNotChosenError, ImageSource, open_image
from napari_blockbuster.job.folder.settings import Measured
from napari_blockbuster.machine.units import count_text
from napari_blockbuster.models import Model

__all__ = ["check_channels", "fitting_channels", "measured_channels"]


def check_channels(source: ImageSource, model: Model) -> None:
    """Refuse more channels than the model takes, or fewer.

    Raises
    ------
    ValueError
        With both numbers.
    """
    least, most = model.channel_range()
    n = source.n_channels
    if least <= n <= most:
        return
    chosen = "1 channel was" if n == 1 else f"{n} channels were"
    number = count_text(most if n > most else least, "channel").replace("1 channel", "one channel")
    takes = f"takes exactly {number}" if least == most > 1 else f"takes {number} at {'most' if n > most else 'least'}"
    remedy = "fewer" if n > most else "more"
    raise ValueError(f"{chosen} chosen, but the model {model.family!r} {takes}. Choose {remedy}, channel= (--channel)")


def fitting_channels(n_channels: int, model: Model) -> list[int] | None:
    """Return the channels for a model that needs several, if the image leaves no choice; None if the user must choose.

    The fourth channel of a color image is its opacity, which is no part of the picture.
    """
    least, _ = model.channel_range()
    fits = n_channels == least or (least == 3 and n_channels == 4)
    return list(range(least)) if least > 1 and fits else None


def measured_channels(
    image: Any, source: ImageSource, measure: int | str | Sequence[int | str] | None, part: dict[str, Any]
) -> tuple[Measured, ImageSource | None]:
    """Return the channels to measure, and those of them that the model does not see.

    Parameters
    ----------
    image : path, URL, array or ImageSource
    source : ImageSource
        The channels that the model sees.
    measure : int, str or sequence of these, or None
        Channels to measure in addition.
    part : dict
        Level, axes, scene and spacing; see `napari_blockbuster.images.open_image`.

    Raises
    ------
    ValueError
        If the image has no such channels.
    """
    seen = source.channels
    names = _names(image, part) if any(channel is not None for channel in seen) else []
    others = None
    if measure is not None:
        asked = [measure] if isinstance(measure, int | np.integer | str) else list(measure)
        if asked and isinstance(image, ImageSource):
            raise ValueError(
                f"measure is {measure!r}, but the channels of an open image cannot be changed. Pass its path."
            )
        opened = [open_image(image, channel=channel, **part).channels[0] for channel in asked]
        new = [channel for channel in dict.fromkeys(opened) if channel is not None and channel not in seen]
        if new:
            others = open_image(image, channel=new if len(new) > 1 else new[0], **part)
    channels = [*seen, *(others.channels if others is not None else [])]
    described = None if others is None else others.describe()
    return Measured(names=tuple(_named(channels, names)), others=described), others


def _names(image: Any, part: dict[str, Any]) -> list[str]:
    """Return the names of all channels of an image, "" for one without; empty if they are not known."""
    if isinstance(image, ImageSource):
        return []
    try:
        open_image(image, **part)
    except ChannelNotChosenError as error:
        return error.names
    return []


def _named(channels: Sequence[int | None], names: Sequence[str]) -> list[str]:
    """Return a name for each channel: its own, or its number. A channel that is alone needs none."""
    if list(channels) == [None]:
        return [""]
    numbers = [place if channel is None else channel for place, channel in enumerate(channels)]
    found = [names[number] if number < len(names) and names[number] else str(number) for number in numbers]
    # A name that two channels share would name two columns.
    return [name if found.count(name) == 1 else f"{name}-{number}" for name, number in zip(found, numbers, strict=True)]
