"""Fixtures that several tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import numpy as np
import pytest
from jobs import OPTIONS, chunks_of, components, finish, write_image
from scipy import ndimage

from napari_blockbuster import Job

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext

    from distributed import Client

# Machines that run tests are shared: how long an example takes says nothing about the code.
hypothesis.settings.register_profile("shared-machine", deadline=None)
hypothesis.settings.load_profile("shared-machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the groups of tests that share a cluster. Each group runs in one process, so it must not start last."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """A real cluster of two processes, shared by all tests that do not harm it."""
    from napari_blockbuster import make_local_cluster

    client, cluster = make_local_cluster(n_workers=2, memory_limit="2 GiB")
    yield client
    client.close()
    cluster.close()


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    """Starts processes that have everything imported."""
    from forked import fork_server

    return fork_server()


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder in memory, if there is one, for tests that start many processes."""
    from faults import quick_folder

    with quick_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def blobs() -> np.ndarray:
    """A small 3D image of bright blobs on a dark, slightly noisy ground: uint16, (48, 96, 80)."""
    rng = np.random.default_rng(7)
    field = ndimage.gaussian_filter(rng.standard_normal((48, 96, 80)), 3)
    field = (field - field.min()) / np.ptp(field)
    return (field**4 * 4000 + rng.random(field.shape) * 20).astype(np.uint16)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image of `jobs.write_image`, on disk; for tests that leave it alone."""
    return write_image(tmp_path_factory.mktemp("image") / "image.zarr")


@pytest.fixture(scope="session")
def expected(image: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The chunks that an undisturbed job of `jobs.components` on `image` writes."""
    return chunks_of(finish(Job.create(image, components, tmp_path_factory.mktemp("peace") / "o.ome.zarr", **OPTIONS)))
