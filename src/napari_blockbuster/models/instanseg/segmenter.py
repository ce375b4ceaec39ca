"""Run InstanSeg on one tile."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from napari_blockbuster.models.networks.base import NetworkSegmenter, NetworkSettings
from napari_blockbuster.models.networks.device import Device, choose_device, limit_torch_threads
from napari_blockbuster.models.networks.memory import retry_in_memory

__all__ = ["InstanSegSegmenter"]

LEAST = 256
"""Least length of an axis in the network's pixels. InstanSeg's windows do not fit into smaller images."""
THRESHOLDS = ("seed_threshold", "mask_threshold", "overlap_threshold", "peak_distance")


class InstanSegSettings(NetworkSettings, Protocol):
    """Prepared settings that the segmenter reads."""

    pixel_size: float | None
    target: Literal["nuclei", "cells"]
    seed_threshold: float | None
    mask_threshold: float | None
    overlap_threshold: float | None
    peak_distance: int | None
    device: Device


class InstanSegSegmenter(NetworkSegmenter):
    """A network on a device, with the settings that it runs with."""

    def __init__(self, settings: InstanSegSettings, path: Path) -> None:
        import torch

        library: Any = importlib.import_module("instanseg")
        limit_torch_threads()
        self._settings = settings
        self._device = choose_device(settings.device)
        network: Any = torch.jit.load(path, map_location="cpu")
        self._scale = float(settings.pixel_size or 0) / float(network.pixel_size)
        # Given a name, InstanSeg would download the network. It uses a given network as it is.
        self._instanseg: Any = library.InstanSeg(
            network.eval(), device=str(self._device), image_reader="skimage.io", verbosity=0
        )

    @property
    def device(self) -> Any:
        """The torch device that the network is on."""
        return self._device

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        """Return the labels of a tile, with channels as the last axis if there are several. Does not change the tile.

        Raises
        ------
        MemoryError
            If the tile does not fit into the device's memory.
        """
        pixels = self._settings.scaled(tile, math.ceil(LEAST / self._scale))
        labels = retry_in_memory(
            lambda: self._labels(pixels),
            # The network sees a tile as one image, which cannot be split.
            lambda: False,
            lambda reason: (
                f"InstanSeg ran out of memory on {self._device} with a tile of {tile.shape} pixels ({reason}). Use "
                "smaller tiles (tile_shape), a smaller halo or fewer workers"
            ),
        )
        whole: np.ndarray = labels[tuple(map(slice, tile.shape[:2]))].astype(np.int32)
        return whole

    def _labels(self, pixels: np.ndarray) -> np.ndarray:
        import torch

        with torch.no_grad():
            image = pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
            found = self._evaluate(torch.from_numpy(image))
            return np.asarray(found.cpu().numpy().reshape(pixels.shape[:2]))

    def _evaluate(self, image: Any) -> Any:
        s = self._settings
        given = {name: value for name in THRESHOLDS if (value := getattr(s, name)) is not None}
        return self._instanseg.eval_small_image(
            image,
            pixel_size=s.pixel_size,
            # Brightness is normalized already. InstanSeg would use percentiles of the tile.
            normalise=False,
            return_image_tensor=False,
            target=s.target,
            # Sizes are filtered after the merge.
            min_size=0,
            **given,
        )
