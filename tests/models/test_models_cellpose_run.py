"""The real Cellpose: its constructor, loader, tiling, flows and 3D, with the small network and no download."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_data import Annotated, ArraySource, drawn, f1, ids, matches, real, tiled

pytest.importorskip("cellpose")
torch = pytest.importorskip("torch")

from small_cellpose import WEIGHTS  # noqa: E402
from small_cellpose.family import SmallCellpose, loads  # noqa: E402
from small_cellpose.network import SmallNetwork  # noqa: E402

from napari_blockbuster import segment  # noqa: E402
from napari_blockbuster.models.cellpose import weights as _cellpose_weights  # noqa: E402
from napari_blockbuster.models.cellpose.imports import import_cellpose  # noqa: E402
from napari_blockbuster.models.cellpose.model import Cellpose  # noqa: E402
from napari_blockbuster.models.cellpose.segmenter import CellposeSegmenter  # noqa: E402
from napari_blockbuster.models.networks.device import choose_device, fast_in_bfloat16  # noqa: E402
from napari_blockbuster.models.networks.weights import digest  # noqa: E402

TRUTH = 0.01
"""How far tiled and untiled may be apart in F1 against the truth."""


@pytest.fixture(autouse=True)
def _no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is downloaded fails the test."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"a download was attempted: {args}")

    torch.set_num_threads(min(2, torch.get_num_threads()))
    import_cellpose()
    monkeypatch.setattr(importlib.import_module("cellpose.utils"), "download_url_to_file", refuse)
    monkeypatch.setattr("urllib.request.urlopen", refuse)


def prepared(image: Annotated, **settings: Any) -> SmallCellpose:
    settings.setdefault("diameter", image.diameter)
    return SmallCellpose(**settings).prepare(ArraySource(image.pixels, image.spacing))


def ap50(labels: np.ndarray, truth: np.ndarray) -> float:
    """Average precision as Cellpose counts it: true positives over all that is found or missed."""
    found = len(matches(labels, truth)[0])
    return found / (len(ids(labels)) + len(ids(truth)) - found)


def test_names_are_those_of_the_cellpose_that_is_installed() -> None:
    models = import_cellpose()
    assert set(_cellpose_weights.BUILT_IN) == set(models.MODEL_NAMES)
    assert models._MODEL_URL.endswith("/")
    # A setting that Cellpose adds must be given too, or it leaks from one model into the next.
    model = prepared(real("dsb"))
    assert set(model.load()._normalization(False)) == set(models.normalize_default)  # type: ignore[attr-defined]


def test_the_small_network_finds_real_nuclei() -> None:
    image = real("dsb")
    labels = prepared(image).load()(image.pixels)
    assert labels.shape == image.pixels.shape
    assert labels.dtype.kind in "iu"
    assert ap50(labels, image.truth) >= 0.7
    assert WEIGHTS.stat().st_size < 1_000_000


def test_the_network_moves_with_the_image() -> None:
    network = SmallNetwork()
    network.load_model(str(WEIGHTS), device=torch.device("cpu"))
    network.eval()
    image = torch.from_numpy(drawn((256, 256), 30, 0.4, 42).pixels[None, None].astype(np.float32) / 1000)
    reach = 52
    with torch.no_grad():
        here, there = network(image[..., :240, :240])[0], network(image[..., 6:246, 12:252])[0]
    inner, moved = here[..., 6:, 12:], there[..., :234, :228]
    cut = (..., slice(reach, -reach), slice(reach, -reach))
    assert inner[cut].std() > 1
    torch.testing.assert_close(inner[cut], moved[cut], atol=1e-4, rtol=1e-4)


def test_tiled_equals_untiled() -> None:
    image = real("dsb")
    model = prepared(image)
    run = model.load()
    whole = run(image.pixels)
    reach = model.suggest(ArraySource(image.pixels)).halo
    assert reach == (48, 48)
    parts = tiled(run, image.pixels, (256, 256), reach)
    assert f1(parts, whole) >= 0.98
    assert abs(f1(parts, image.truth) - f1(whole, image.truth)) <= TRUTH


def test_on_a_cluster_each_worker_loads_once(client: Any, tmp_path: Path) -> None:
    image = real("dsb")
    # A worker that is still importing torch when the other one is through with all tiles would load nothing.
    client.run(import_cellpose)
    before = client.run(loads)
    result = segment(
        image.pixels,
        SmallCellpose(diameter=image.diameter),
        tmp_path / "labels.ome.zarr",
        tile_shape=(128, 128),
        client=client,
        progress=False,
    )
    after = client.run(loads)
    assert not result.failed_tiles
    assert len(after) == 2
    assert {after[worker] - before[worker] for worker in after} == {1}
    labels = np.asarray(result.labels)
    whole = prepared(image).load()(image.pixels)
    assert f1(labels, whole) >= 0.98
    assert abs(f1(labels, image.truth) - f1(whole, image.truth)) <= TRUTH
    assert result.provenance["prepared"]["sha256"] == digest([WEIGHTS])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64", "bool"])
def test_the_tile_is_left_as_it_is(dtype: str) -> None:
    image = drawn((96, 130), 20, 0.3, 31)
    pixels = (image.pixels > 300) if dtype == "bool" else (image.pixels / 16).astype(dtype)
    before = pixels.copy()
    pixels.flags.writeable = False
    run = prepared(image._replace(pixels=pixels)).load()
    first = run(pixels)
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(run(pixels), first)


def test_models_with_different_settings_do_not_leak_into_each_other() -> None:
    image = drawn((160, 160), 22, 0.35, 32)
    negative = image._replace(pixels=(65535 - image.pixels).astype(np.uint16))
    jobs = [(prepared(image), image), (prepared(negative, invert=True, cellprob_threshold=1.0), negative)]
    default = dict(import_cellpose().normalize_default)
    runs = [(model.load(), picture.pixels) for model, picture in jobs]
    alone = [run(pixels) for run, pixels in runs]
    assert len(ids(alone[0])) > 5
    results: dict[int, list[np.ndarray]] = {0: [], 1: []}

    def repeat(which: int) -> None:
        run, pixels = runs[which]
        results[which] += [run(pixels) for _ in range(3)]

    threads = [threading.Thread(target=repeat, args=(i,)) for i in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for which, labels in results.items():
        assert len(labels) == 3
        for found in labels:
            np.testing.assert_array_equal(found, alone[which])
    assert import_cellpose().normalize_default == default


def test_a_tile_of_noise_beside_objects_stays_empty() -> None:
    image = drawn((128, 256), 22, 0.3, 33)
    rng = np.random.default_rng(0)
    pixels = image.pixels.copy()
    pixels[:, 128:] = rng.normal(100, 5, (128, 128))
    model = prepared(image._replace(pixels=pixels))
    assert len(ids(model.load()(pixels[:, :120]))) > 3
    assert len(ids(model.load()(pixels[:, 140:]))) == 0


def test_nothing_is_deleted_for_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    image = drawn((64, 64), 20, 0.3, 34)
    run = prepared(image).load()
    seen: dict[str, Any] = {}
    dynamics = importlib.import_module("cellpose.dynamics")
    for place, name in ((run._cellpose, "eval"), (dynamics, "resize_and_compute_masks")):  # type: ignore[attr-defined]
        known = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *a, known=known, **how: seen.update(how) or known(*a, **how))
    run(image.pixels)
    assert (seen["min_size"], seen["max_size_fraction"], seen["flow_threshold"]) == (-1, 1.0, 0.0)
    assert seen["normalize"]["lowhigh"] == [[run._settings.low, run._settings.high]]  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", ["planes", "3d"])
def test_the_two_parts_of_a_tile_do_what_cellpose_does_in_one_call(mode: str) -> None:
    """Network and flows, then masks. Between them, the network runs on the next tile."""
    image = drawn((8, 64, 64), 20, 0.3, 34, (2.0, 1.0, 1.0)) if mode == "3d" else drawn((64, 96), 16, 0.3, 34)
    run = prepared(image, mode=mode, flow_threshold=0.0).load()
    rest = run.begin(image.pixels)  # type: ignore[attr-defined]
    run.begin(image.pixels[..., ::-1])  # type: ignore[attr-defined]
    volume = {"z_axis": 0, "do_3D": True, "anisotropy": 2.0} if mode == "3d" else {}
    expected, _, _ = run._cellpose.eval(  # type: ignore[attr-defined]
        run._float_copy(image.pixels[..., None], mode == "3d"),  # type: ignore[attr-defined]
        normalize=run._normalization(mode == "3d"),  # type: ignore[attr-defined]
        channel_axis=image.pixels.ndim,
        diameter=run._settings.plane_diameter(run._settings.spacing),  # type: ignore[attr-defined]
        flow_threshold=0.0,
        min_size=-1,
        max_size_fraction=1.0,
        **volume,
    )
    assert expected.max() > 3
    np.testing.assert_array_equal(rest(), expected[tuple(map(slice, image.pixels.shape))])


def test_only_whole_objects_are_judged_by_their_flows() -> None:
    run = prepared(drawn((64, 64), 20, 0.3, 34)).load()
    y, x = np.mgrid[:64, :64]
    labels, flows = np.zeros((64, 64), np.uint32), np.zeros((2, 64, 64), np.float32)
    centers = [(20, 20), (44, 44), (2, 44)]
    for i, (cy, cx) in enumerate(centers, 1):
        disc = (y - cy) ** 2 + (x - cx) ** 2 <= 81
        labels[disc] = i
        away = np.stack([y - cy, x - cx])[:, disc] / 9
        # The first disc's flows lead to its centre, as they should; those of the others lead away from it.
        flows[:, disc] = 5 * (-away if i == 1 else away)
    kept = run._without_unlikely(labels, flows)  # type: ignore[attr-defined]
    assert [bool(kept[min(c[0], 63), c[1]]) for c in centers] == [True, False, True]


@pytest.mark.parametrize("mode", ["3d", "stitch", "planes"])
def test_stacks(mode: str) -> None:
    image = drawn((12, 64, 64), 20, 0.2, 35, (2.0, 1.0, 1.0))
    # Without smoothing, Cellpose leaves out a part of the voxels where planes are far apart.
    model = prepared(image, mode=mode, flow_smoothing=1)
    labels = model.load()(image.pixels)
    assert labels.shape == image.pixels.shape
    if mode == "planes":
        per_plane = [set(ids(plane)) for plane in labels]
        assert sum(map(len, per_plane)) == len(set().union(*per_plane)) > 20
        assert f1(labels[6], image.truth[6]) >= 0.6
    else:
        assert f1(labels, image.truth) >= (0.9 if mode == "3d" else 0.6)


def test_tiled_equals_untiled_in_3d() -> None:
    image = drawn((12, 72, 36), 16, 0.3, 36, (2.0, 1.0, 1.0))
    model = prepared(image, flow_smoothing=1)
    run = model.load()
    whole = run(image.pixels)
    halo = model.suggest(ArraySource(image.pixels, image.spacing)).halo
    assert halo == (16, 32, 32)
    parts = tiled(run, image.pixels, (12, 36, 36), halo)
    assert len(ids(whole)) > 8
    assert f1(whole, image.truth) >= 0.8
    assert f1(parts, whole) >= 0.98
    assert abs(f1(parts, image.truth) - f1(whole, image.truth)) <= TRUTH


def test_stitching_begins_anew_after_an_empty_plane() -> None:
    run = prepared(drawn((64, 64), 20, 0.3, 34), mode="stitch").load()
    labels = np.zeros((6, 16, 16), np.uint32)
    labels[0, 2:6, 2:6] = 1
    labels[2:4, 8:12, 8:12] = 1
    labels[5, 2:6, 2:6] = 1
    stitched = run._stitched(labels)  # type: ignore[attr-defined]
    assert len(ids(stitched)) == 3
    assert stitched[2, 9, 9] == stitched[3, 9, 9]


@pytest.mark.parametrize("shape", [(1, 90), (90, 1), (3, 200), (1, 1)])
def test_slivers_at_the_end_of_an_image(shape: tuple[int, int]) -> None:
    image = drawn((200, 200), 20, 0.3, 37)
    run = prepared(image).load()
    assert run(image.pixels[: shape[0], : shape[1]]).shape == shape


def test_thin_stacks_and_missing_pixels() -> None:
    image = drawn((3, 40, 40), 20, 0.3, 38, (4.0, 1.0, 1.0))
    pixels = image.pixels.astype(np.float32)
    pixels[:, :5] = np.nan
    pixels[:, -1] = np.inf
    labels = prepared(image._replace(pixels=pixels)).load()(pixels[:1])
    assert labels.shape == (1, 40, 40)
    assert not labels[:, :3].any()


# -------------------------------------------------------------------------------------------------------------- memory
def test_batches_shrink_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    image = drawn((400, 400), 24, 0.3, 39)
    run = prepared(image, batch_size=8).load()
    expected = run(image.pixels)
    limit = [2]
    forward = SmallNetwork.forward
    sizes = []

    def limited(self: SmallNetwork, images: Any) -> Any:
        sizes.append(len(images))
        if len(images) > limit[0]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 TiB")
        return forward(self, images)

    monkeypatch.setattr(SmallNetwork, "forward", limited)
    np.testing.assert_array_equal(run(image.pixels), expected)
    assert max(sizes) > 2
    sizes.clear()
    run(image.pixels)
    # What fits is remembered.
    assert max(sizes) == 2
    limit[0] = 0
    with pytest.raises(MemoryError, match=r"also with batch_size=1 .*Use smaller tiles \(tile_shape\)"):
        run(image.pixels)


def test_other_errors_are_not_taken_for_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    image = drawn((64, 64), 20, 0.3, 34)
    run = prepared(image).load()

    def broken(self: SmallNetwork, images: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(SmallNetwork, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(image.pixels)


# ------------------------------------------------------------------------------------------------------------- refusals
def test_other_weights_are_refused(tmp_path: Path) -> None:
    source = ArraySource(np.zeros((64, 64), np.uint8))
    version_3, text = tmp_path / "cyto3.pt", tmp_path / "text.pt"
    torch.save({"output.2.weight": torch.zeros(3), "diam_mean": torch.tensor([30.0])}, version_3)
    text.write_text("not weights")
    with pytest.raises(ValueError, match=r"does not hold weights of Cellpose 4. Cellpose 4 cannot run .*cellpose<4"):
        Cellpose(weights=str(version_3)).prepare(source)
    with pytest.raises(ValueError, match="is not a file of weights that Cellpose 4 can read"):
        Cellpose(weights=str(text)).prepare(source)
    dino = tmp_path / "dino.pt"
    torch.save({"encoder.cls_token": torch.zeros(1), "W2": torch.zeros(1)}, dino)
    if not hasattr(import_cellpose(), "CPDINO"):
        with pytest.raises(ImportError, match="dinov3"):
            Cellpose(weights=str(dino)).prepare(source)


def test_missing_weights_and_wrong_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(tmp_path))
    source = ArraySource(np.zeros((64, 64), np.uint8))
    with pytest.raises(FileNotFoundError, match="there are no weights at"):
        Cellpose(weights=str(tmp_path / "none.pt")).prepare(source)
    with pytest.raises(ValueError, match="cellpose has no weights 'cyto3'"):
        Cellpose(weights="cyto3").prepare(source)
    with pytest.raises(ValueError, match=r"2 or 3 spatial axes\. This one has 1"):
        SmallCellpose().prepare(ArraySource(np.zeros(64, np.uint8)))
    with pytest.raises(ValueError, match="are not those of this run"):
        SmallCellpose(sha256="00").prepare(source)


def test_a_blank_image_can_be_prepared() -> None:
    pixels = np.full((64, 64), 7, np.uint8)
    model = SmallCellpose().prepare(ArraySource(pixels))
    assert (model.low, model.high) == (7, 8)
    assert not model.load()(pixels).any()


def test_devices() -> None:
    cpu = torch.device("cpu")
    assert choose_device("cpu") == cpu
    assert not fast_in_bfloat16(cpu)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match=r"device is 'cuda', but torch .* finds no such device"):
            choose_device("cuda")
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        assert choose_device("auto") == cpu


@pytest.mark.slow
def test_the_full_network_with_random_weights(tmp_path: Path) -> None:
    """CPSAM as it is downloaded, but for what it has learnt: 305 million parameters, 1.2 GB."""
    torch.manual_seed(0)
    path = tmp_path / "random.pt"
    import_cellpose().CPSAM().save_model(path)
    assert path.stat().st_size > 1e9
    image = drawn((100, 100), 30, 0.3, 40)
    model = Cellpose(weights=str(path), diameter=30, device="cpu").prepare(ArraySource(image.pixels))
    run = model.load()
    assert isinstance(run, CellposeSegmenter)
    assert type(run._cellpose.net).__name__ == "CPSAM"
    assert run._cellpose.net.dtype == torch.float32
    assert run(image.pixels).shape == (100, 100)


@pytest.mark.gpu
def test_cuda() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    image = real("dsb")
    labels = {}
    for device in ("cuda", "cpu"):
        run = prepared(image, device=device, precision="float32").load()
        labels[device] = run(image.pixels)
        assert run.device.type == device  # type: ignore[attr-defined]
    assert f1(labels["cuda"], labels["cpu"]) >= 0.98
    run = prepared(image, device="cuda").load()
    assert f1(run(image.pixels), labels["cpu"]) >= 0.95
    stack = drawn((20, 96, 96), 20, 0.15, 35, (2.0, 1.0, 1.0))
    # As on the CPU, the small network leaves out voxels of such a stack without smoothing.
    assert f1(prepared(stack, device="cuda", flow_smoothing=1).load()(stack.pixels), stack.truth) >= 0.6
