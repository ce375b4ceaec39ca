"""Images as the engine sees them: axes, scale, and pixels of a box; never the whole image at once."""

from napari_blockbuster.images.metadata.scenes import Scene
from napari_blockbuster.images.metadata.sizes import ImageWarning
from napari_blockbuster.images.tiff.source import TiffSource
from napari_blockbuster.images.zarr.source import StoredSource

from .arrays import ArraySource, DaskSource
from .base import ChannelNotChosenError, ImageReadError, ImageSource
from .channels import ChannelsSource
from .collection import Collection, Member, find_images
from .opening import list_scenes, open_image, source_from_description

__all__ = [
    "ArraySource",
    "ChannelNotChosenError",
    "ChannelsSource",
    "Collection",
    "DaskSource",
    "ImageReadError",
    "ImageSource",
    "ImageWarning",
    "Member",
    "Scene",
    "StoredSource",
    "TiffSource",
    "find_images",
    "list_scenes",
    "open_image",
    "source_from_description",
]
