"""Optional dependencies of the model families."""

from __future__ import annotations

import importlib.util

__all__ = ["EXTRAS", "install_command", "is_installed", "require"]

EXTRAS = {
    "cellpose": ("cellpose", "torch"),
    "stardist": ("stardist", "tensorflow"),
    "instanseg": ("instanseg", "torch"),
    "bioimageio": ("bioimageio", "bioimageio.core", "torch"),
}
"""Families that need an extra of their own name, and the modules that it installs."""


def is_installed(family: str) -> bool:
    """Return whether the extra of a family is installed. Nothing but namespace packages is imported."""
    return all(importlib.util.find_spec(module) is not None for module in EXTRAS.get(family, ()))


def install_command(family: str) -> str:
    """Return the command that installs the extra of a family."""
    return f"pip install 'napari-blockbuster[{family}]'"


def require(family: str) -> None:
    """Refuse to continue without the extra of a family.

    Raises
    ------
    ImportError
        With the command that installs it.
    """
    if not is_installed(family):
        raise ImportError(f"the model {family!r} needs: {install_command(family)}")
