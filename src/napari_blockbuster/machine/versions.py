"""Versions of Python and of the packages that results depend on."""

from __future__ import annotations

import functools
import json
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata

__all__ = ["PACKAGES", "describe_versions", "packages_of"]

PACKAGES = (
    "napari-blockbuster",
    "numpy",
    "scipy",
    "dask",
    "distributed",
    "zarr",
    "tensorstore",
    "cellpose",
    "torch",
)
"""Packages that a result may depend on."""


def describe_versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """Return the versions of Python and of the packages that a result may depend on, if they are installed.

    Parameters
    ----------
    packages : iterable of str
        Distributions to look for in addition, such as those that a model depends on.
    """
    versions = {"python": platform.python_version()}
    for package in dict.fromkeys((*PACKAGES, *packages)):
        if version := _version_of(package, by_module=package not in PACKAGES):
            versions[package] = version
    return versions


def packages_of(settings: str) -> tuple[str, ...]:
    """Return the distributions that a job's model depends on, from the text of its settings; none if it cannot be parsed."""
    try:
        return tuple(str(name) for name in json.loads(settings).get("depends_on", ()))
    except (ValueError, AttributeError, TypeError):
        return ()


def _version_of(package: str, by_module: bool) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        # The same library may have another name: tensorflow-cpu contains the module tensorflow.
        others = _distributions_by_package().get(package, ()) if by_module else ()
        return metadata.version(others[0]) if others else None


@functools.cache
def _distributions_by_package() -> Mapping[str, list[str]]:
    # This reads the metadata of every distribution, which takes a second.
    return metadata.packages_distributions()
