"""The network: an encoder and a decoder with skip connections (Ronneberger et al. 2015), in Cellpose's interface."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from napari_blockbuster.models._cellpose_library import import_cellpose

import_cellpose()

from cellpose.vit import BaseModel  # noqa: E402

WIDTHS = (20, 28, 40, 48)
"""Channels at a half, a quarter, an eighth and a sixteenth of the resolution."""


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions, normalised over the batch."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class SmallNetwork(BaseModel):
    """What `cellpose.models.CPSAM` is asked for: flows and probability of 256 x 256 tiles, and an empty style."""

    backbone = "sam_vitl"

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(dtype=dtype)
        # Cellpose takes weights without this entry for those of version 3.
        self.W2 = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.down = nn.ModuleList(block(a, b) for a, b in zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False))
        self.up = nn.ModuleList(block(a + b, b) for a, b in zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True))
        self.stem = nn.Conv2d(1, WIDTHS[0], 4, stride=2, padding=1)
        self.out = nn.ConvTranspose2d(WIDTHS[0], 3, 4, stride=2, padding=1)

    def forward(self, images: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """Flows along y and x and the logit of the cell probability, of the first channel."""
        x, kept = self.stem(images[:, :1]), []
        for i, down in enumerate(self.down):
            x = down(nn.functional.max_pool2d(x, 2) if i else x)
            kept.append(x)
        for up, skip in zip(self.up, kept[-2::-1], strict=True):
            x = nn.functional.interpolate(x, scale_factor=2, mode="nearest")
            x = up(torch.cat([x, skip], 1))
        return self.out(x), torch.zeros((len(x), 256), device=x.device)
