"""StarDist: star-convex objects in 2D and 3D. Needs the extra ``napari-blockbuster[stardist]``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from napari_blockbuster.machine.units import count_text
from napari_blockbuster.models.base import PixelSource, Segmenter, Suggestion, setting
from napari_blockbuster.models.networks.base import NetworkModel
from napari_blockbuster.models.networks.weights import checked_digest
from napari_blockbuster.models.spacing import per_axis, round_up

from .network import UNKNOWN, Network, read_network
from .weights import BUILT_IN, DEFAULTS, FOR_COLORS, files_of, find_network, import_stardist, is_path, obtain_network

__all__ = ["StarDist"]

COLORS = 3
"""Channels of a color image: red, green and blue."""
SIDES = {2: 1024, 3: 128}
"""Longest side of a suggested tile."""
SAME = 0.05
"""Scales this close to 1 are set to 1. Networks tolerate more, and outlines are best without resampling."""


class StarDist(NetworkModel):
    """StarDist (Schmidt et al. 2018, MICCAI; Weigert et al. 2020, WACV), called tile by tile.

    Differences from StarDist on its own: percentiles of the whole image normalize brightness. Objects with their center
    within two pixels of a tile's border are kept. Nothing is downloaded during a run.
    """

    family: ClassVar[str] = "stardist"
    summary: ClassVar[str] = "StarDist: star-convex nuclei and cells, 2D and 3D (needs its weights)"
    packages: ClassVar[tuple[str, ...]] = ("stardist", "csbdeep", "tensorflow", "keras")
    most_channels: ClassVar[int] = 1000
    PERCENTILES: ClassVar[tuple[float, float]] = (1.0, 99.8)

    weights: str | None = setting(
        None,
        "Name (2D_versatile_fluo, 2D_versatile_he for H&E colors, 2D_paper_dsb2018, 2D_demo, 3D_demo), or the folder of a "
        "network of your own. Empty: 2D_versatile_fluo for images, 3D_demo for stacks.",
        min_length=1,
    )
    diameter: float = setting(
        24.0,
        "Diameter of a typical object, in voxels of the finest axis. Only the suggested halo depends on it.",
        unit="px",
        ge=2,
        le=2000,
    )
    scale: float = setting(
        1.0,
        "Factor by which the image is scaled for the network: 0.5 if objects are twice as large as in its training.",
        ge=0.05,
        le=20,
    )
    prob_threshold: float | None = setting(
        None,
        "Lower values find more objects, higher values fewer. Empty: the value stored with the network.",
        gt=0,
        lt=1,
    )
    nms_threshold: float | None = setting(
        None,
        "Overlap at which two candidates are one object. Lower values remove more. Empty: the value stored with the "
        "network.",
        ge=0,
        le=1,
        advanced=True,
    )

    def prepare(self, image: PixelSource) -> Self:
        """Find or download the network, check it, and measure brightness and anisotropy of the whole image.

        Raises
        ------
        ImportError
            If the extra is not installed and something must be downloaded.
        OSError
            If the network is missing and cannot be downloaded.
        ValueError
            If there is no such network, or it is not for images of this rank or with as many channels.
        """
        spacing = self._spacing_of(image)
        weights = self._weights(len(spacing))
        folder = obtain_network(weights)
        network = read_network(folder / "config.json")
        self._check(network, weights, len(spacing), image.n_channels)
        sha256 = checked_digest(folder, files_of(weights, folder), self.sha256)
        # Colors are one picture: a range for each would change them.
        brightness = self._measured(image, together=network.channels == COLORS)
        # Workers may run in another folder, and know only the names that StarDist registers.
        if is_path(weights):
            weights = str(Path(weights).expanduser().absolute())
        elif weights not in BUILT_IN or find_network(weights) != folder:
            weights = str(folder)
        update = {"spacing": spacing, "weights": weights, "sha256": sha256, **brightness}
        return self.model_copy(update=update)

    def suggest(self, image: PixelSource) -> Suggestion:
        """Return a tile and halo in multiples of the network's downsampling, so that it sees the same in all tiles.

        The halo is two diameters, or the receptive field of the network if that is larger.
        """
        spacing = self._spacing_of(image)
        if len(spacing) not in DEFAULTS:
            return Suggestion(None, (0,) * len(spacing))
        network = self._network(len(spacing))
        scales = self.scales(spacing, network)
        steps = [round_up(n / s, 1) for n, s in zip(network.divisor, scales, strict=True)]
        reach = [n / s for n, s in zip(network.reach, scales, strict=True)]
        wish = [max(a, b) for a, b in zip(per_axis(2 * self.diameter, spacing), reach, strict=True)]
        halo = tuple(round_up(math.ceil(n), step) for n, step in zip(wish, steps, strict=True))
        return Suggestion(_tile(image.spatial_shape, halo, steps, scales, network.bytes_per_voxel), halo)

    def load(self) -> Segmenter:
        """Load the network in this process.

        Raises
        ------
        ImportError
            If the extra is not installed.
        RuntimeError
            If the model is not prepared.
        OSError
            If the network is not on this machine: workers never download.
        """
        self._require("spacing", "weights", "low", "high", "sha256")
        assert self.weights is not None
        assert self.spacing is not None
        import_stardist()
        from .segmenter import StarDistSegmenter

        folder = find_network(self.weights)
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(
                f"the StarDist network {self.weights!r} is not on this worker's machine (no folder {folder}), and "
                "workers do not download. Let KERAS_HOME name a folder that all machines share"
            )
        files = files_of(self.weights, folder)
        checked_digest(folder, files, self.sha256)
        network = read_network(folder / "config.json")
        return StarDistSegmenter(self, network, folder, files[-1].name, self.scales(self.spacing, network))

    def scales(self, spacing: Sequence[float], network: Network) -> tuple[float, ...]:
        """Return the factor by which each axis is scaled. It includes the anisotropy that the network was trained on."""
        trained = network.anisotropy or tuple(spacing)
        wanted = [self.scale * s / t for s, t in zip(spacing, trained, strict=True)]
        return tuple(1.0 if abs(s - 1) <= SAME else s for s in wanted)

    def _weights(self, ndim: int) -> str:
        if ndim not in DEFAULTS:
            raise ValueError(f"the model 'stardist' needs images of 2 or 3 spatial axes. This one has {ndim}")
        return self.weights or DEFAULTS[ndim]

    def _network(self, ndim: int) -> Network:
        """Return the network if it is on this machine and fits, else one of the usual size."""
        try:
            network = read_network(find_network(self._weights(ndim)) / "config.json")
        except (OSError, ValueError):
            return UNKNOWN[ndim]
        return network if network.ndim == ndim else UNKNOWN[ndim]

    def channel_range(self) -> tuple[int, int]:
        """Return the number of channels of the network, if it is known."""
        if self.weights is None or self.weights in BUILT_IN:
            number = COLORS if self.weights in FOR_COLORS else 1
            return number, number
        try:
            number = read_network(find_network(self.weights) / "config.json").channels
        except (OSError, ValueError):
            return 1, self.most_channels
        return number, number

    def _check(self, network: Network, weights: str, ndim: int, n_channels: int) -> None:
        if network.ndim != ndim:
            raise ValueError(
                f"the StarDist network {weights!r} is for images of {network.ndim} axes, and this one has {ndim}. "
                f"Set weights to one for {ndim}, such as {DEFAULTS[ndim]}"
            )
        if network.channels != n_channels:
            raise ValueError(
                f"the StarDist network {weights!r} is for images of {count_text(network.channels, 'channel')}, and "
                f"{n_channels} {'was' if n_channels == 1 else 'were'} chosen. Choose as many, channel= (--channel), or set "
                "weights to another network"
            )


def _tile(
    shape: Sequence[int], halo: Sequence[int], steps: Sequence[int], scales: Sequence[float], memory: int
) -> tuple[int, ...]:
    """Return the longest tile within a worker's share of the memory. It is at least as long as its halo."""
    from napari_blockbuster.machine.limits import cpu_count, memory_limit_bytes

    budget = memory_limit_bytes() / cpu_count() / 2 / memory
    side = SIDES[len(shape)]
    while True:
        tile = tuple(min(n, round_up(max(side, h), s)) for n, h, s in zip(shape, halo, steps, strict=True))
        read = math.prod(min(t + 2 * h, n) * s for t, h, n, s in zip(tile, halo, shape, scales, strict=True))
        if read <= budget or side <= max(steps):
            return tile
        side //= 2
