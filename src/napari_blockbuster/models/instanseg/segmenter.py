"""Running InstanSeg on one tile."""

from __future__ import annotations

import gc
import importlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_blockbuster.models.device import choose_device
from napari_blockbuster.models.network import thread_share
from napari_blockbuster.models.spacing import check_rank

if TYPE_CHECKING:
    from .model import InstanSeg

__all__ = ["InstanSegSegmenter"]

LEAST = 256
"""The network's pixels that an image has along each axis: InstanSeg's windows reach beyond smaller ones."""
THRESHOLDS = ("seed_threshold", "mask_threshold", "overlap_threshold", "peak_distance")


class InstanSegSegmenter:
    """A network on a device, and the settings that it is called with."""

    def __init__(self, settings: InstanSeg, path: Path) -> None:
        import torch

        library: Any = importlib.import_module("instanseg")
        torch.set_num_threads(max(1, min(thread_share(), torch.get_num_threads())))
        self._settings = settings
        self._device = choose_device(settings.device)
        network: Any = torch.jit.load(path, map_location="cpu")
        self._scale = float(settings.pixel_size or 0) / float(network.pixel_size)
        # Its first argument would make it download; a network that is given is used as it is.
        self._instanseg: Any = library.InstanSeg(
            network.eval(), device=str(self._device), image_reader="skimage.io", verbosity=0
        )

    @property
    def device(self) -> Any:
        """The torch device that the network is on."""
        return self._device

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        """Labels of a tile; the tile is left as it is.

        Raises
        ------
        MemoryError
            If the tile does not fit into the device's memory.
        """
        import torch

        check_rank(tile, self._settings.spacing)
        pixels = self._settings._scaled_copy(tile, math.ceil(LEAST / self._scale))
        try:
            with torch.no_grad():
                found = self._evaluate(torch.from_numpy(pixels)[None])
                labels: np.ndarray = found.cpu().numpy().reshape(pixels.shape)
        except (MemoryError, RuntimeError) as error:
            if not _is_memory(error):
                raise
            reason = str(error).strip().rpartition("\n")[2]
        else:
            whole: np.ndarray = labels[tuple(map(slice, tile.shape))].astype(np.int32)
            return whole
        # Outside the handler: the error's frames hold what must be freed.
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        raise MemoryError(
            f"InstanSeg ran out of memory on {self._device} with a tile of {tile.shape} pixels ({reason}); use smaller "
            "tiles (tile_shape), a smaller halo or fewer workers"
        )

    def _evaluate(self, image: Any) -> Any:
        s = self._settings
        given = {name: value for name in THRESHOLDS if (value := getattr(s, name)) is not None}
        return self._instanseg.eval_small_image(
            image,
            pixel_size=s.pixel_size,
            # Brightness is that of the whole image already; InstanSeg would take the tile's.
            normalise=False,
            return_image_tensor=False,
            target=s.target,
            # Sizes are filtered after the merge.
            min_size=0,
            **given,
        )


def _is_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(
        t in text for t in ("out of memory", "not enough memory", "can't allocate memory")
    )
