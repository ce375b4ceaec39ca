"""Build the small network: ``python tests/models/small_instanseg/build.py``. Nothing is trained; it is the same each time.

Its convolutions are Gaussians and their derivatives, so that it finds blobs: seeds where a difference of Gaussians has
its maxima, and each pixel belongs to the seed to which the slope of the smoothed image leads. What makes labels of that,
`InstanSeg_Torchscript` with its pixel classifier, is InstanSeg's own, and so is the export.

It needs the package seaborn, which InstanSeg's losses import without asking for it. The result is committed.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from instanseg.utils.loss.instanseg_loss import InstanSeg_Torchscript, ProbabilityNet
from torch import nn

from small_instanseg import WEIGHTS

PIXEL_SIZE = 0.5
UNIT = 4
"""Pixels in InstanSeg's unit of length."""
REACH = 20
"""Pixels around a seed that may belong to it, along a diagonal path, after they followed the slope."""
FOREGROUND = 1.5
"""Where foreground begins, on the scale of `BlobNetwork`."""


def gaussian(sigma: float, derivative: int | None = None) -> nn.Conv2d:
    """A fixed convolution with a Gaussian, or with its derivative along axis 0 or 1."""
    reach = round(3 * sigma)
    x = torch.arange(-reach, reach + 1, dtype=torch.float32)
    bell = torch.exp(-(x**2) / (2 * sigma**2))
    bell /= bell.sum()
    slope = x / sigma**2 * bell
    kernel = torch.outer(slope if derivative == 0 else bell, slope if derivative == 1 else bell)
    layer = nn.Conv2d(1, 1, 2 * reach + 1, padding=reach, padding_mode="replicate", bias=False)
    layer.weight.data = kernel[None, None]
    return layer


class BlobNetwork(nn.Module):
    """The five maps that InstanSeg asks a network for: way to the centre (x, y), two free ones, and seeds."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.middle, self.wide = gaussian(1.0), gaussian(4.0), gaussian(8.0)
        self.down, self.right = gaussian(4.0, 0), gaussian(4.0, 1)
        self.pixel_classifier = classifier()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Maps of an image between 0 and 1: (batch, 5, y, x)."""
        # Dim objects count as much as bright ones.
        light = torch.log1p(20 * torch.clamp(image, 0, 2))
        smooth = self.middle(light)
        # In a Gaussian blob the slope of the logarithm, times the variance, is the way to the centre.
        way = 2 * 16 * torch.cat([self.right(light), self.down(light)], 1) / (smooth + 0.3)
        foreground = torch.clamp(4 * (self.fine(light) - FOREGROUND) + 0.5, 0, 1)
        seeds = 30 * (smooth - self.wide(light))
        # InstanSeg takes (sigmoid(f) - 0.5) * 8 units for the way, which is 2 f for short ones.
        return torch.cat([way / (2 * UNIT), foreground, torch.zeros_like(foreground), seeds], 1)


def classifier() -> ProbabilityNet:
    """Foreground less the distance to a seed, of the features that InstanSeg makes: dx, dy, and the two free maps."""
    net = ProbabilityNet(4, width=5)
    for layer in (net.fc1, net.fc2, net.fc3):
        layer.weight.data.zero_()
        layer.bias.data.zero_()
    for row, (column, sign) in enumerate([(0, 1), (0, -1), (1, 1), (1, -1), (2, 1)]):
        net.fc1.weight.data[row, column] = sign
    net.fc2.weight.data = torch.eye(5)
    far = 30 / (REACH / UNIT)
    net.fc3.weight.data[0] = torch.tensor([-far, -far, -far, -far, 30.0])
    return net


def main() -> None:
    """Build and store the network."""
    network = InstanSeg_Torchscript(BlobNetwork(), pixel_size=PIXEL_SIZE, n_sigma=2, backbone_dim_in=1)
    torch.jit.save(torch.jit.script(network), WEIGHTS)
    print(WEIGHTS.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
