"""Run StarDist on one tile."""

from __future__ import annotations

import contextlib
import io
import threading
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_blockbuster.models.networks.base import NetworkSegmenter, NetworkSettings
from napari_blockbuster.models.networks.device import thread_share
from napari_blockbuster.models.networks.memory import retry_in_memory

from .network import Network
from .weights import import_stardist

__all__ = ["StarDistSegmenter"]

PIECES = 64
"""Most pieces that StarDist cuts a tile into when memory runs out."""


class StarDistSettings(NetworkSettings, Protocol):
    """Prepared settings that the segmenter reads."""

    prob_threshold: float | None
    nms_threshold: float | None


class StarDistSegmenter(NetworkSegmenter):
    """A network, with the settings that it runs with."""

    def __init__(
        self, settings: StarDistSettings, network: Network, folder: Path, weights: str, scales: tuple[float, ...]
    ) -> None:
        models: Any = import_stardist()
        _configure()
        self._settings = settings
        self._divisor = network.divisor
        self._channels = () if network.channels == 1 else (1,)
        self._scale = None if all(s == 1 for s in scales) else (*scales, *self._channels)
        self._pieces = 1
        # Keras compiles the prediction at the first call, which must not happen in two threads at once.
        self._lock = threading.Lock()
        cls = models.StarDist2D if network.ndim == 2 else models.StarDist3D
        # StarDist prints the files that it loads.
        with contextlib.redirect_stdout(io.StringIO()):
            self._stardist: Any = cls(None, name=folder.name, basedir=str(folder.parent))
            self._stardist.load_weights(weights)
        # Prevents StarDist from writing into the user's folder.
        self._stardist.basedir = None

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        """Return the labels of a tile, with channels as the last axis if there are several. Does not change the tile."""
        pixels = self._settings.scaled(tile, max(self._divisor))
        with self._lock:
            labels = retry_in_memory(
                lambda: self._instances(pixels),
                self._halve_pieces,
                lambda reason: (
                    f"StarDist ran out of memory with a tile of {pixels.shape} voxels, also in {self._pieces} pieces "
                    f"({reason}). Use smaller tiles (tile_shape), a smaller halo or fewer workers"
                ),
            )
        return labels[tuple(map(slice, tile.shape[: labels.ndim]))]

    def _instances(self, pixels: np.ndarray) -> np.ndarray:
        labels, _ = self._stardist.predict_instances(
            pixels,
            prob_thresh=self._settings.prob_threshold,
            nms_thresh=self._settings.nms_threshold,
            scale=self._scale,
            n_tiles=self._n_tiles(pixels.shape),
            show_tile_progress=False,
            # By default StarDist removes candidates within two pixels of the border of a tile.
            predict_kwargs={"b": 0},
        )
        return np.asarray(labels)

    def _n_tiles(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the number of pieces along each axis. The longest is halved first."""
        shape = shape[: len(shape) - len(self._channels)]
        counts = [1] * len(shape)
        while np.prod(counts) < self._pieces:
            longest = int(np.argmax([n / c for n, c in zip(shape, counts, strict=True)]))
            counts[longest] *= 2
        return (*counts, *self._channels)

    def _halve_pieces(self) -> bool:
        """Cut this tile and all that follow into twice as many pieces. Returns False at `PIECES`.

        StarDist's pieces overlap by the receptive field of the network, so they do not change the result.
        """
        if self._pieces >= PIECES:
            return False
        self._pieces *= 2
        return True


def _configure() -> None:
    """Limit TensorFlow to this process's share of the CPUs, and to the GPU memory that it needs."""
    import tensorflow as tf

    # TensorFlow refuses both after its first computation. Another network has set them then.
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(thread_share())
        tf.config.threading.set_inter_op_parallelism_threads(1)
    with contextlib.suppress(RuntimeError, ValueError):
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
