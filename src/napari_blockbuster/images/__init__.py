"""Images as the engine sees them: axes, scale, and pixels of a box; never the whole image at once."""

from .arrays import ArraySource, DaskSource
from .base import ImageReadError, ImageSource
from .channels import ChannelsSource
from .errors import ChannelNotChosenError
from .opening import open_image, source_from_description
from .stored import StoredSource
from .tiff import TiffSource

__all__ = [
    "ArraySource",
    "ChannelNotChosenError",
    "ChannelsSource",
    "DaskSource",
    "ImageReadError",
    "ImageSource",
    "StoredSource",
    "TiffSource",
    "open_image",
    "source_from_description",
]
