"""Run a model of bioimage.io on one tile with ``bioimageio.core``."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from napari_blockbuster.models.networks.device import Device, choose_device
from napari_blockbuster.models.spacing import check_channels

from .labels import from_boundaries, from_foreground, from_labels
from .package import read_geometry

__all__ = ["BioImageIOSegmenter", "check_package"]


class BioImageIOSettings(Protocol):
    """Settings that the segmenter reads."""

    spacing: tuple[float, ...] | None
    output: Literal["auto", "labels", "foreground", "boundary"]
    foreground_channel: int
    boundary_channel: int
    threshold: float
    boundary_threshold: float
    weights_format: Literal["auto", "pytorch_state_dict", "torchscript", "onnx"]
    device: Device
    statistics: tuple[float, ...] | None


def describe(path: Path) -> Any:
    """Read the description of a package, converted to the newest format.

    Raises
    ------
    ValueError
        If the library refuses it. The message has its reason.
    """
    spec: Any = importlib.import_module("bioimageio.spec")
    try:
        return spec.load_model_description(path, format_version="latest")
    except Exception as error:  # the library raises many kinds of errors for damaged packages
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} is not a model that bioimageio can read: {reason}") from error


def measures_of(description: Any) -> list[Any]:
    """Return the statistics of an image that pre- and postprocessing need, in a fixed order.

    Raises
    ------
    ValueError
        If the model needs statistics of its output, which differ from tile to tile, or of single lines and planes.
    """
    setup: Any = importlib.import_module("bioimageio.core.proc_setup")
    required = setup.get_requried_measures(description)
    tensor = description.inputs[0]
    spatial = {str(axis.id) for axis in tensor.axes if axis.type == "space"}
    for measure in (*required.pre, *required.post):
        if str(measure.member_id) != str(tensor.id):
            raise ValueError(
                f"the model measures the {measure.name} of its output {str(measure.member_id)!r}, which differs from "
                "tile to tile, so its tiles would not agree"
            )
        if measure.axes is not None and not spatial <= {str(axis) for axis in measure.axes}:
            raise ValueError(
                f"the model measures the {measure.name} along some spatial axes only. That is not supported"
            )
    return sorted({*required.pre, *required.post}, key=str)


def is_by_channel(measure: Any) -> bool:
    """Return whether a statistic is taken for each channel on its own."""
    return measure.axes is not None and "channel" not in map(str, measure.axes)


def measure(description: Any, values: Sequence[np.ndarray]) -> tuple[float, ...]:
    """Measure the statistics of a whole image from the values of each channel."""
    values = [each if len(each) else np.zeros(1) for each in values]
    how: dict[str, Any] = {"mean": np.mean, "std": np.std, "var": np.var}
    found = []
    for wanted in measures_of(description):
        for part in values if is_by_channel(wanted) else [np.concatenate(values)]:
            found.append(np.quantile(part, wanted.q) if wanted.name == "quantile" else how[wanted.name](part))
    return tuple(map(float, found))


def statistics_of(measures: Sequence[Any], numbers: Sequence[float], n_channels: int) -> dict[Any, Any]:
    """Return the statistics as the library takes them: a number each, or one for every channel.

    Raises
    ------
    ValueError
        If there are too many or too few numbers.
    """
    counts = [n_channels if is_by_channel(each) else 1 for each in measures]
    if sum(counts) != len(numbers):
        raise ValueError(f"statistics has {len(numbers)} numbers, but the model measures {sum(counts)} things")
    tensor: Any = importlib.import_module("bioimageio.core").Tensor
    rest, found = list(numbers), {}
    for each, count in zip(measures, counts, strict=True):
        part, rest = rest[:count], rest[count:]
        found[each] = part[0] if count == 1 else tensor(np.asarray(part, np.float32), dims=("channel",))
    return found


def output_of(settings: BioImageIOSettings, description: Any) -> str:
    """Return how the output becomes labels.

    Raises
    ------
    ValueError
        If neither the settings nor the description define it.
    """
    tensor = description.outputs[0]
    channels = [axis for axis in tensor.axes if axis.type == "channel"]
    count = len(channels[0].channel_names) if channels else 1
    asked = settings.output
    if asked == "auto":
        data = tensor.data[0] if isinstance(tensor.data, (list, tuple)) else tensor.data
        whole = str(data.type).startswith(("int", "uint")) and data.type not in ("int8", "uint8")
        asked = "labels" if whole and count == 1 else "auto"
    if asked == "auto":
        raise ValueError(
            f"the model returns {count} map{'s' * (count > 1)} of {data.type}, and does not say how they become objects. "
            "Set output to labels, foreground or boundary"
        )
    wanted = {"labels": 0, "foreground": settings.foreground_channel}.get(
        asked, max(settings.foreground_channel, settings.boundary_channel)
    )
    if wanted >= count:
        raise ValueError(f"the model's output has {count} channel{'s' * (count > 1)}, so there is no channel {wanted}")
    return asked


def check_package(
    settings: BioImageIOSettings, path: Path, values: Sequence[np.ndarray] | None = None
) -> tuple[float, ...]:
    """Check that a package can be used with these settings, and measure the statistics of its preprocessing.

    Parameters
    ----------
    settings : BioImageIO
    path : Path
    values : sequence of numpy.ndarray, optional
        Values of each channel of the image. None measures nothing.

    Raises
    ------
    ValueError
        If it cannot be used.
    """
    description = describe(path)
    output_of(settings, description)
    measures_of(description)
    return () if values is None else measure(description, values)


class BioImageIOSegmenter:
    """A network on a device, with the settings that it runs with."""

    def __init__(self, settings: BioImageIOSettings, path: Path) -> None:
        core: Any = importlib.import_module("bioimageio.core")
        self._digest_spec: Any = importlib.import_module("bioimageio.core.digest_spec")
        self._settings = settings
        self._geometry = read_geometry(path)
        self._description = describe(path)
        self._output = output_of(settings, self._description)
        assert settings.statistics is not None
        measures = measures_of(self._description)
        self._statistics = statistics_of(measures, settings.statistics, self._geometry.channels)
        self._pipeline: Any = core.create_prediction_pipeline(
            self._description,
            devices=_devices(settings.device),
            weights_format=None if settings.weights_format == "auto" else settings.weights_format,
            fixed_dataset_statistics=self._statistics,
        )
        self._pipeline.load()

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        """Return the labels of a tile, with channels as the last axis if there are several. Does not change the tile.

        Raises
        ------
        ValueError
            If the model does not accept or return images of this size.
        """
        check_channels(tile, self._settings.spacing, self._geometry.channels)
        extent = tile.shape[: len(self._geometry.least)]
        shape = self._geometry.fitting(extent)
        maps = self._maps(_filled(tile, shape))
        if maps.shape[1:] != shape:
            raise ValueError(f"the model returns {maps.shape[1:]} voxels for {shape}. It must return as many")
        maps = maps[(slice(None), *map(slice, extent))]
        s = self._settings
        if self._output == "labels":
            return from_labels(maps[0])
        if self._output == "foreground":
            return from_foreground(maps[s.foreground_channel], s.threshold)
        return from_boundaries(maps[s.foreground_channel], maps[s.boundary_channel], s.threshold, s.boundary_threshold)

    def _maps(self, pixels: np.ndarray) -> np.ndarray:
        """Return the first output of the network as (channel, *space)."""
        axes = self._geometry.axes
        image = pixels if self._geometry.channels > 1 else pixels[..., None]
        inner = [name for name in axes if name != "batch"]
        image = np.moveaxis(image, -1, inner.index("channel")) if "channel" in inner else image[..., 0]
        image = np.expand_dims(image, axes.index("batch")) if "batch" in axes else image
        sample = self._digest_spec.create_sample_for_model(
            # It writes into this dictionary.
            self._description,
            inputs=image,
            stat=dict(self._statistics),
        )
        # The halo of the run replaces the halo of the package.
        found = self._pipeline.predict_sample_without_blocking(
            sample, skip_input_padding=True, skip_output_cropping=True
        )
        tensor = next(iter(found.members.values()))
        spatial = [name for name in axes if name not in ("batch", "channel")]
        names = [str(name) for name in tensor.dims]
        array = np.asarray(tensor.to_numpy())
        if "batch" in names:
            array = array.take(0, names.index("batch"))
            names.remove("batch")
        if "channel" not in names:
            array, names = array[None], ["channel", *names]
        return array.transpose([names.index(name) for name in ("channel", *spatial)])


def _filled(tile: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a float32 copy, finite, padded by mirroring to a shape that the network accepts."""
    pixels = tile.astype(np.float32)
    if tile.dtype.kind == "f":
        finite = pixels[np.isfinite(pixels)]
        np.nan_to_num(pixels, copy=False, nan=float(finite.min()) if finite.size else 0.0)
    missing = [(0, n - m) for n, m in zip(shape, tile.shape, strict=False)]
    return np.pad(pixels, missing + [(0, 0)] * (tile.ndim - len(shape)), mode="symmetric")


def _devices(asked: str) -> list[str] | None:
    if asked == "auto":
        return None
    return [str(choose_device(asked))]
