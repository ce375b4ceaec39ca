"""Channels of an image, and those that a model takes."""

from __future__ import annotations

from napari_blockbuster.images import ImageSource
from napari_blockbuster.machine.units import count_text
from napari_blockbuster.models import Model

__all__ = ["check_channels", "fitting_channels"]


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
