"""Geometry of a StarDist network, read from its ``config.json`` without TensorFlow."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["UNKNOWN", "Network", "read_network"]


class Network(NamedTuple):
    """Geometry of a network along each spatial axis.

    Attributes
    ----------
    channels : int
        Channels of its input.
    divisor : tuple of int
        A shift by a multiple of this does not change its result, in its own pixels.
    reach : tuple of int
        Receptive field on each side of a pixel, in its own pixels.
    anisotropy : tuple of float or None
        Voxel size of its training images, in units of the finest axis.
    bytes_per_voxel : int
        Approximate working memory.
    """

    channels: int
    divisor: tuple[int, ...]
    reach: tuple[int, ...]
    anisotropy: tuple[float, ...] | None
    bytes_per_voxel: int

    @property
    def ndim(self) -> int:
        return len(self.divisor)


def read_network(path: Path) -> Network:
    """Read a network from its ``config.json``.

    Raises
    ------
    ValueError
        If the file is not one of StarDist's.
    """
    try:
        return _network(json.loads(path.read_text("utf-8")))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is not the configuration of a StarDist network ({error!r})") from error


def _network(config: dict[str, Any]) -> Network:
    ndim = int(config["n_dim"])
    grid = tuple(map(int, config["grid"]))
    backbone = config["backbone"]
    if backbone not in ("unet", "resnet") or len(grid) != ndim or ndim not in (2, 3):
        raise ValueError(f"backbone {backbone!r}, n_dim {ndim}, grid {grid}")
    anisotropy = config.get("anisotropy")
    if anisotropy is not None:
        anisotropy = tuple(a / min(anisotropy) for a in anisotropy)
    walk = _unet if backbone == "unet" else _resnet
    divisor, reach = zip(*(walk(config, axis, grid) for axis in range(ndim)), strict=True)
    # Two layers of floats at full resolution, and the widest ones on the grid: those of the last convolution and of
    # the rays, each with what it is computed from.
    wide = config.get(f"net_conv_after_{backbone}", 0) + config["n_rays"] + config[f"{backbone}_n_filter_base"]
    full = 2 * config[f"{backbone}_n_filter_base"]
    memory = 4 * (full + 2 * wide // math.prod(grid))
    return Network(int(config["n_channel_in"]), divisor, reach, anisotropy, memory)


def _steps(axis: int, grid: tuple[int, ...]) -> list[int]:
    """Return the downsampling of an axis in each of the first layers, down to StarDist's grid."""
    steps, pooled = [], [1] * len(grid)
    while tuple(pooled) != grid:
        step = [2 if g > p else 1 for g, p in zip(grid, pooled, strict=True)]
        pooled = [a * b for a, b in zip(pooled, step, strict=True)]
        if any(p > g for p, g in zip(pooled, grid, strict=True)):
            raise ValueError(f"grid {grid} is not made of powers of 2")
        steps.append(step[axis])
    return steps


def _unet(config: dict[str, Any], axis: int, grid: tuple[int, ...]) -> tuple[int, int]:
    """Return divisor and reach of a U-Net: the sum over its convolutions and poolings at their strides."""
    half, pool = config["unet_kernel_size"][axis] // 2, config["unet_pool"][axis]
    depth, convolutions = config["unet_n_depth"], config["unet_n_conv_per_depth"]
    stride, reach = 1, 0
    for step in _steps(axis, grid):
        reach += convolutions * half * stride + (step - 1) * stride
        stride *= step
    for _ in range(depth):
        # Down and up again: two blocks of convolutions, a pooling and its inverse.
        reach += 2 * convolutions * half * stride + 2 * (pool - 1) * stride
        stride *= pool
    reach += convolutions * half * stride
    if config.get("net_conv_after_unet", 0):
        reach += half * grid[axis]
    # The extent of the coarsest pixel.
    return stride, reach + stride - 1


def _resnet(config: dict[str, Any], axis: int, grid: tuple[int, ...]) -> tuple[int, int]:
    """Return divisor and reach of StarDist's residual network: convolutions of 7 and 3, then blocks."""
    half = config["resnet_kernel_size"][axis] // 2
    steps = _steps(axis, grid)
    stride, reach = 1, 3 + 1
    for n in range(config["resnet_n_blocks"]):
        stride *= steps[n] if n < len(steps) else 1
        reach += config["resnet_n_conv_per_block"] * half * stride
    if config.get("net_conv_after_resnet", 0):
        reach += half * stride
    return grid[axis], reach + stride - 1


UNKNOWN = {
    2: Network(1, (16, 16), (136, 136), None, 600),
    3: Network(1, (8, 16, 16), (64, 64, 64), None, 1500),
}
"""Networks of the usual size, for suggestions before the download."""
