"""Errors of images that carry what the caller can choose from."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["ChannelNotChosenError"]


class ChannelNotChosenError(ValueError):
    """An image has several channels, and none was chosen.

    Attributes
    ----------
    channels : list of str
        Each channel by number, with its name if the image has one: ``["0 (DAPI)", "1"]``.
    """

    def __init__(self, message: str, channels: Sequence[str]) -> None:
        super().__init__(message)
        self.channels = list(channels)
