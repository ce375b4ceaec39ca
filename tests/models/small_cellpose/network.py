"""The network: dilated convolutions (Yu & Koltun 2016, ICLR) at half the resolution, in Cellpose's interface.

It sees what lies within 50 pixels, less than the halo of two diameters, and moves with the image: nothing is pooled, and
the one step to half the resolution is blurred first (Zhang 2019, ICML). So tiles differ from the whole no more than Cellpose's
own tiles and dynamics make them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from napari_blockbuster.models.cellpose.imports import import_cellpose

import_cellpose()

from cellpose.vit import BaseModel  # noqa: E402

WIDTH = 40
DILATIONS = (1, 2, 4, 8, 4, 2, 1)
DIM = 0.05
"""Brightness, on the scale from 0 to 1, from which the network's second input is logarithmic."""


class Block(nn.Module):
    """A residual step: what lies `dilation` away is added to what is there."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(WIDTH, WIDTH, 3, padding=dilation, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm2d(WIDTH)
        self.mix = nn.Conv2d(WIDTH, WIDTH, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The features, refined."""
        y = torch.relu(self.norm(self.wide(x)))
        return torch.relu(x + self.norm2(self.mix(y)))


class SmallNetwork(BaseModel):
    """What `cellpose.models.CPSAM` is asked for: flows and probability of 256 x 256 tiles, and an empty style."""

    backbone = "sam_vitl"

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(dtype=dtype)
        # Cellpose takes weights without this entry for those of version 3.
        self.W2 = nn.Parameter(torch.zeros(1), requires_grad=False)
        line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        self.register_buffer("blur", torch.outer(line, line)[None, None])
        self.stem = nn.Sequential(nn.Conv2d(2, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU())
        self.blocks = nn.Sequential(*(Block(dilation) for dilation in DILATIONS))
        self.out = nn.Conv2d(WIDTH, 3, 3, padding=1)
        # Twice as fast on CPUs.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """Flows along y and x and the logit of the cell probability, of the first channel."""
        x = nn.functional.conv2d(images[:, :1], self.blur.to(images.dtype), stride=2, padding=2)
        # Dim objects count as much as bright ones.
        x = torch.cat([x, torch.log1p(x.clamp(min=0) / DIM)], 1)
        x = self.out(self.blocks(self.stem(x.to(memory_format=torch.channels_last))))
        x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return x, torch.zeros((len(x), 256), device=x.device)
