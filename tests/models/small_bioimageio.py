"""Packages of bioimage.io models, made on the spot: a few fixed convolutions as TorchScript, with a description."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn


class Maps(nn.Module):
    """Foreground of the last channel, between 0 and 1, from smoothed brightness; with it, if asked for, its boundaries."""

    def __init__(self, ndim: int, boundary: bool) -> None:
        super().__init__()
        layer = nn.Conv2d if ndim == 2 else nn.Conv3d
        self.smooth = layer(1, 1, 5, padding=2, padding_mode="replicate", bias=False)
        self.smooth.weight.data.fill_(1 / 5**ndim)
        self.boundary = boundary
        self.pool = nn.MaxPool2d(5, 1, 2) if ndim == 2 else nn.MaxPool3d(5, 1, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        foreground = torch.sigmoid(20.0 * (self.smooth(image[:, -1:]) - 0.13))
        if not self.boundary:
            return foreground
        # Where some pixel within 2 is background.
        edge = self.pool(1 - foreground)
        return torch.cat([foreground, edge], 1)


class Instances(nn.Module):
    """An instance mask: cells of 16 pixels, numbered, where the image is bright."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        y = torch.arange(image.shape[2]) // 16
        x = torch.arange(image.shape[3]) // 16
        number = y[:, None] * (x.max() + 1) + x[None] + 1
        return (image > 0.5) * number.to(torch.int32)


def write_package(
    folder: Path,
    *,
    kind: str = "foreground",
    ndim: int = 2,
    size: Any = None,
    channels: int = 1,
    preprocessing: Any = None,
    postprocessing: Any = None,
    zipped: bool = False,
) -> Path:
    """A package in a folder: the path of its description, or of a zip file of it."""
    folder.mkdir(parents=True, exist_ok=True)
    network = Instances() if kind == "labels" else Maps(ndim, kind == "boundary")
    spatial = ["z", "y", "x"][-ndim:]
    size = size if size is not None else {"min": 16, "step": 8}
    side = size if isinstance(size, int) else 32
    image = np.random.default_rng(0).random((1, channels, *[side] * ndim)).astype(np.float32)
    torch.jit.save(torch.jit.script(network), folder / "weights.pt")
    np.save(folder / "input.npy", image)
    np.save(folder / "output.npy", network(torch.from_numpy(image)).detach().numpy())
    (folder / "README.md").write_text("# Small\n\n## Validation\n\nNone.\n")
    names = {"foreground": ["foreground"], "boundary": ["foreground", "boundary"], "labels": ["labels"]}[kind]
    if preprocessing is None:
        axes = ["channel", *spatial]
        preprocessing = [
            {"id": "scale_range", "kwargs": {"axes": axes, "min_percentile": 1, "max_percentile": 99.8}},
        ]
    description = {
        "type": "model",
        "format_version": "0.5.4",
        "name": "small",
        "description": "a small model",
        "authors": [{"name": "The testers"}],
        "license": "MIT",
        "cite": [{"text": "nothing", "doi": "10.1000/xyz"}],
        "documentation": "README.md",
        "inputs": [
            {
                "id": "raw",
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": [f"c{i}" for i in range(channels)]},
                    *({"type": "space", "id": axis, "size": size} for axis in spatial),
                ],
                "test_tensor": {"source": "input.npy"},
                "data": {"type": "float32"},
                "preprocessing": preprocessing,
            }
        ],
        "outputs": [
            {
                "id": "found",
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": names},
                    *({"type": "space", "id": a, "size": {"tensor_id": "raw", "axis_id": a}} for a in spatial),
                ],
                "test_tensor": {"source": "output.npy"},
                "data": {"type": "int32" if kind == "labels" else "float32"},
                "postprocessing": postprocessing or [],
            }
        ],
        "weights": {"torchscript": {"source": "weights.pt", "pytorch_version": torch.__version__.partition("+")[0]}},
    }
    path = folder / "bioimageio.yaml"
    path.write_text(yaml.safe_dump(description))
    if not zipped:
        return path
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as packed:
        for file in folder.iterdir():
            packed.write(file, file.name)
    return archive
