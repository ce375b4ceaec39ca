"""Segmentation models: settings that build a segmenter. See ``docs/models.md``."""

from .base import Model, PixelSource, Segmenter, Suggestion
from .registry import ModelInfo, as_model, get_model, list_models, model_class, model_from_settings

__all__ = [
    "Model",
    "ModelInfo",
    "PixelSource",
    "Segmenter",
    "Suggestion",
    "as_model",
    "get_model",
    "list_models",
    "model_class",
    "model_from_settings",
]
