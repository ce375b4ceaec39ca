"""What Cellpose's network takes is measured when it is loaded, and batch and tile follow from what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_data import ArraySource, drawn

from napari_blockbuster.models.cellpose import memory
from napari_blockbuster.models.cellpose.memory import MIB, Footprint, free_gpu_bytes
from napari_blockbuster.models.cellpose.model import Cellpose
from napari_blockbuster.models.cellpose.weights import FULL_BYTES, weights_bytes

BOARDS = """\
0, GPU-aaaa-1, 70000
1, GPU-bbbb-2, 3000
2, GPU-cccc-3, [N/A]
"""


@pytest.fixture
def boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ``nvidia-smi`` that lists three boards: no machine with one can run these tests."""
    (tmp_path / "listing").write_text(BOARDS)
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat {tmp_path / 'listing'}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    memory._ask_nvidia.cache_clear()
    return tool


# ------------------------------------------------------------------------------------------------------------- suggest
def test_the_fullest_gpu_that_may_be_used_counts(boards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_gpu_bytes() == 3000 * MIB
    for visible, expected in (("0", 70_000), ("GPU-bbbb", 3000), ("1,0", 3000), ("GPU-aaaa-1", 70_000)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert free_gpu_bytes() == expected * MIB
    # Hidden, or without a figure.
    for visible in ("", "-1", "2"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert free_gpu_bytes() is None


def test_a_gpu_is_asked_once_in_a_while(boards: Path) -> None:
    assert free_gpu_bytes() == 3000 * MIB
    boards.write_text("#!/bin/sh\nexit 9\n")
    memory._ask_nvidia.cache_clear()
    assert free_gpu_bytes() is None
    boards.unlink()
    assert free_gpu_bytes() is None


def test_tiles_shrink_with_the_memory_of_the_gpu(boards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for_host: Any = lambda: 2**45  # noqa: E731
    monkeypatch.setattr("napari_blockbuster.machine.limits.memory_limit_bytes", for_host)
    volume = ArraySource(np.broadcast_to(np.uint8(0), (2000, 4000, 4000)))

    def voxels(free: int, **settings: Any) -> int:
        (boards.parent / "listing").write_text(f"0, GPU-a, {free}\n")
        memory._ask_nvidia.cache_clear()
        tile = Cellpose(**settings).suggest(volume).tile_shape
        assert tile is not None
        return int(np.prod(tile))

    small, large = voxels(8000), voxels(80_000)
    assert small < large
    assert voxels(8000, device="cpu") > large
    # No room for the weights: still a tile, the smallest.
    assert voxels(500) == voxels(0) <= small


def test_weights_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(tmp_path))
    assert weights_bytes("cpsam_v2") == FULL_BYTES
    assert weights_bytes("nothing") == weights_bytes(str(tmp_path / "none.pt")) == 0
    (tmp_path / "cpsam_v2").write_bytes(b"1" * 777)
    assert weights_bytes("cpsam_v2") == 777


# --------------------------------------------------------------------------------------------------------------- batch
@pytest.mark.parametrize(("free", "batch"), [(10_000, 8), (1000, 8), (500, 4), (240, 1), (10, 1), (0, 1)])
def test_as_many_network_tiles_at_once_as_fit(free: int, batch: int) -> None:
    assert Footprint(weights=5, entry=100, free=free).batch(8) == batch


def test_a_pass_is_measured() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("cellpose")
    from napari_blockbuster.models.cellpose.imports import import_cellpose

    import_cellpose()

    class Hungry(torch.nn.Module):
        """Takes 96 MiB for each network tile, for a moment."""

        device, dtype = torch.device("cpu"), torch.float32

        def __init__(self) -> None:
            super().__init__()
            self.weights = torch.nn.Parameter(torch.zeros(1000))
            self.register_buffer("kept", torch.zeros(24, dtype=torch.float64))

        def forward(self, images: Any) -> Any:
            assert images.shape == (1, 2, 64, 64)
            for _ in range(3):
                taken = torch.ones(96 * MIB // 4)
                taken += 1
            return images, images

    found = memory.measure(Hungry(), Hungry.device, 64, 2)
    assert found.weights == 1000 * 4 + 24 * 8
    assert 90 * MIB < found.entry < 260 * MIB
    assert 0 < found.free < 2**50
    assert "96" in str(found) or "MiB for each network tile of a batch" in str(found)


def test_a_batch_that_would_not_fit_is_never_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cellpose")
    from small_cellpose.family import SmallCellpose
    from small_cellpose.network import SmallNetwork

    image = drawn((300, 300), 30, 0.3, 41)
    model = SmallCellpose(batch_size=8).prepare(ArraySource(image.pixels))
    roomy = model.load()
    assert roomy._batch_size == 8  # type: ignore[attr-defined]
    assert roomy.footprint.weights == sum(  # type: ignore[attr-defined]
        t.numel() * t.element_size() for t in SmallNetwork().state_dict().values()
    )
    least = 256 * 256 * 4 * 3
    assert roomy.footprint.entry >= least  # type: ignore[attr-defined]
    sizes: list[int] = []
    forward = SmallNetwork.forward

    def seen(self: SmallNetwork, images: Any) -> Any:
        sizes.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(SmallNetwork, "forward", seen)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 0)
    tight = model.load()
    np.testing.assert_array_equal(tight(image.pixels), roomy(image.pixels))
    assert sizes[0] == 1
    assert sizes[1:5] == [1] * 4
    assert max(sizes) > 1


def test_a_network_that_does_not_fit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cellpose")
    torch = pytest.importorskip("torch")
    from small_cellpose.family import SmallCellpose
    from small_cellpose.network import SmallNetwork

    def full(self: SmallNetwork, images: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 TiB")

    model = SmallCellpose().prepare(ArraySource(np.arange(4096, dtype=np.uint16).reshape(64, 64)))
    monkeypatch.setattr(SmallNetwork, "forward", full)
    with pytest.raises(MemoryError, match=r"with a single network tile of 256 x 256 pixels. Run fewer workers"):
        model.load()


def test_a_worker_keeps_to_its_limit(client: Any) -> None:
    def left() -> tuple[int, int | None]:
        import types

        from napari_blockbuster.machine.limits import worker_limit_bytes
        from napari_blockbuster.models.cellpose.memory import free_bytes

        return free_bytes(types.SimpleNamespace(type="cpu")), worker_limit_bytes()

    free, limit = client.submit(left, pure=False).result()
    told = {worker["memory_limit"] for worker in client.scheduler_info()["workers"].values()}
    assert {limit} == told
    assert 0 < free < limit
    assert left()[1] is None
