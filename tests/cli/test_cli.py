"""The command line as a user runs it: another process, its exit code, what it prints and what it leaves behind."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
from command_line import COMMAND, mistake, numbers, run
from scipy import ndimage

from napari_blockbuster import Job
from napari_blockbuster.cli.options import MergeOptions, UsageError
from napari_blockbuster.cli.workers import WorkerOptions
from napari_blockbuster.job.progress.bar import Pace, duration
from napari_blockbuster.merge.decisions import Decisions

TILES = ["--tile", "16", "32", "32", "--halo", "6"]
N_TILES = 8
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TIFF of 3D blobs: (32, 64, 64), eight tiles."""
    field = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal((32, 64, 64)), 3)
    pixels = (np.clip(field / field.max(), 0, 1) ** 2 * 4000 + 100).astype(np.uint16)
    path = tmp_path_factory.mktemp("image") / "blobs.tif"
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata={"axes": "ZYX"})
    return path


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A file of functions; every call leaves a file in ``calls/``."""
    path = tmp_path / "my_models.py"
    path.write_text(
        f"""
import os, time, uuid
from scipy import ndimage

def plain(pixels):
    open(os.path.join({str(tmp_path / "calls")!r}, uuid.uuid4().hex), "w").close()
    return ndimage.label(pixels > 1000)[0]

def slow(pixels):
    time.sleep(0.5)
    return plain(pixels)


def broken(pixels):
    if not os.path.exists({str(tmp_path / "mended")!r}):
        raise RuntimeError("not today")
    return plain(pixels)


def shaky(pixels):
    # Works once, and then not until it is mended.
    return broken(pixels) if os.listdir({str(tmp_path / "calls")!r}) else plain(pixels)
"""
    )
    (tmp_path / "calls").mkdir()
    return path


def start_and_wait(job: Path, n_staged: int, *words: object) -> subprocess.Popen[str]:
    """Start a run and return once some tiles are staged."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    process = subprocess.Popen([*COMMAND, *map(str, words)], text=True, **pipes)
    deadline = time.monotonic() + 120
    while len(list(job.glob("stage*/tiles/*/[0-9]*.tile"))) < n_staged:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def assert_all_gone(family: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(family, timeout=15)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


# ------------------------------------------------------------------------------------------------------------- segment
def test_segment_reports_what_it_did(image: Path, models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ome.zarr"
    done = run("segment", image, "--model", f"{models}:plain", "-o", out, *TILES, "--workers", 0, "--merge", "touch")
    report = numbers(done.stdout)
    truth = ndimage.label(tifffile.imread(image) > 1000)[1]
    assert report["tiles"] == f"{N_TILES} of {N_TILES}"
    assert report["objects"] == str(truth)
    assert int(report["merges"].split()[0]) > 0
    assert report["output"] == str(out)
    assert re.match(r"[0-9.]+ s \(tiles .*merge .*writing", report["time"])
    assert "staging 8/8" in done.stderr
    assert out.exists()
    assert not list(Path(f"{out}.job").glob("stage*"))


def test_the_default_is_a_process_cluster_and_it_is_closed(image: Path, tmp_path: Path) -> None:
    done = run("segment", image, "--set", "diameter=10", "-o", tmp_path / "out.ome.zarr", *TILES, "--workers", 2, "-q")
    assert "workers" in numbers(done.stdout)["time"]
    assert done.stderr == ""


def test_one_number_is_a_cube_and_settings_reach_the_model(image: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ome.zarr"
    words = ["--set", "diameter=9", "outline=0.3", "--tile", 32, "--halo", 8, "--workers", 0, "--keep-stage"]
    run("segment", image, "--model", "voronoi-otsu", *words, "-o", out)
    job = Job.open(out)
    assert job.spec.grid.tile_shape == (32, 32, 32)
    assert job.spec.model["diameter"] == 9
    assert job.spec.model["outline"] == 0.3


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_both_versions_of_ome_zarr(image: Path, models: Path, tmp_path: Path, version: str) -> None:
    import zarr

    out = tmp_path / "out.ome.zarr"
    run("segment", image, "--model", f"{models}:plain", "-o", out, *TILES, "--workers", 0, "--ome-zarr", version)
    assert zarr.open_group(out, mode="r").metadata.zarr_format == {"0.4": 2, "0.5": 3}[version]


def test_failed_tiles_give_exit_code_1_and_can_be_tried_again(image: Path, models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ome.zarr"
    words = ["segment", image, "--model", f"{models}:shaky", "-o", out, *TILES, "--workers", 0]
    done = run(*words, code=1)
    assert "1 of 8" in numbers(done.stdout)["tiles"]
    assert "tile 1 failed: RuntimeError: not today" in done.stderr
    advice = done.stderr.strip().splitlines()[-1]
    assert "7 of 8 tiles failed" in advice
    (tmp_path / "mended").touch()
    again = shlex.split(advice.partition("napari-blockbuster ")[2])
    assert numbers(run(*again, "--workers", 0).stdout)["tiles"] == "8 of 8"


def test_a_model_that_fails_at_once_ends_the_run_with_one_line(image: Path, models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ome.zarr"
    words = ["segment", image, "--model", f"{models}:broken", "-o", out, *TILES, "--workers", 0]
    told = run(*words, code=2).stderr.strip().splitlines()[-1]
    assert re.search(
        r"error: the first 3 tiles, .* all failed, .*RuntimeError: not today\)\. Fix the problem and resume$", told
    )
    assert not out.exists(), "a result without any tile is not written"
    (tmp_path / "mended").touch()
    assert numbers(run("resume", f"{out}.job", "--workers", 0).stdout)["tiles"] == "8 of 8"


# ------------------------------------------------------------------------------------------------------------ mistakes
def test_wrong_calls_are_told_in_one_line(image: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ome.zarr"
    quick = ["-o", out, "--workers", 0]
    assert "nowhere.tif" in mistake("segment", tmp_path / "nowhere.tif", *quick)
    assert "voronoi-otsu" in mistake("segment", image, "--model", "voronoi", *quick)
    assert "diameter" in mistake("segment", image, "--set", "diametre=18", *quick)
    assert "diameter" in mistake("segment", image, "--set", "diameter=big", *quick)
    assert "name=value" in mistake("segment", image, "--set", "18", *quick)
    assert "3 axes (z, y, x)" in mistake("segment", image, "--tile", 16, 16, *quick)
    assert "halo" in mistake("segment", image, "--tile", 16, "--halo", 40, *quick)
    assert not out.exists()
    assert not Path(f"{out}.job").exists()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["segment"], "IMAGE"),
        (["segmnt", "a.tif"], "segment"),
        (["segment", "a.tif", "--tiles", "5"], "--tile"),
        (["segment", "a.tif", "--merge", "magic"], "overlap"),
        (["segment", "a.tif", "--min-iou", "3"], "0 to 1"),
        (["segment", "a.tif", "--connectivity", "7"], "1"),
        (["segment", "a.tif", "--scheduler", "tcp://x:1", "--workers", "2"], "--scheduler"),
        (["segment", "a.tif", "--workers", "-1"], "--workers"),
        (["segment", "a.tif", "--ome-zarr", "0.3"], "0.5"),
        (["resume", "nothing-here"], "job"),
        (["attach", "nothing-here"], "job"),
        (["merge", "nothing-here"], "job"),
        (["info", "nothing-here"], "nothing-here"),
        (["models", "magic"], "voronoi-otsu"),
    ],
)
def test_mistakes(words: list[str], hint: str) -> None:
    assert hint in mistake(*words)


def test_no_scheduler_at_the_address(image: Path, models: Path, tmp_path: Path) -> None:
    words = ["segment", image, "--model", f"{models}:plain", "-o", tmp_path / "o.zarr", *TILES]
    assert "127.0.0.1:9" in mistake(*words, "--scheduler", "tcp://127.0.0.1:9")
    assert "host:8786" in mistake(*words, "--scheduler", "somewhere")


def test_an_output_is_kept_unless_told_otherwise(image: Path, models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ome.zarr"
    out.mkdir()
    (out / "precious").write_text("years of work")
    words = ["segment", image, "--model", f"{models}:plain", "-o", out, *TILES, "--workers", 0]
    assert "--overwrite" in mistake(*words)
    assert (out / "precious").read_text() == "years of work"
    run(*words, "--overwrite")
    assert not (out / "precious").exists()


def test_the_image_is_never_the_output(image: Path) -> None:
    before = image.read_bytes()
    mistake("segment", image, "-o", image, "--overwrite", "--workers", 0)
    assert image.read_bytes() == before


def test_a_job_of_an_array_or_a_function_cannot_be_resumed_from_the_shell(tmp_path: Path) -> None:
    pixels = np.zeros((32, 32), np.uint8)
    pixels[5:9, 5:9] = 200
    Job.create(pixels, "threshold", tmp_path / "array.ome.zarr", tile_shape=16, halo=4)
    assert "Job.open(folder, image=...)" in mistake("resume", tmp_path / "array.ome.zarr.job", "--workers", 0)
    tifffile.imwrite(tmp_path / "small.tif", pixels)
    Job.create(tmp_path / "small.tif", lambda x: x > 1, tmp_path / "f.ome.zarr", tile_shape=16, halo=4)
    assert "Job.open(folder, model=...)" in mistake("resume", tmp_path / "f.ome.zarr.job", "--workers", 0)


def test_debug_shows_the_traceback() -> None:
    done = subprocess.run([*COMMAND, "--debug", "info", "nothing-here"], capture_output=True, text=True, timeout=60)
    assert "Traceback" in done.stderr


# --------------------------------------------------------------------------------------------------------- interrupted
def test_a_killed_run_resumes(image: Path, models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ome.zarr"
    words = ["segment", image, "--model", f"{models}:slow", "-o", out, *TILES, "--workers", 2, "--keep-stage"]
    process = start_and_wait(Path(f"{out}.job"), 2, *words)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=20)
    assert len(family) >= 3
    assert_all_gone(family)
    (tiles,) = Path(f"{out}.job").glob("stage*/tiles")
    before = {path: path.stat().st_mtime_ns for path in tiles.glob("*/[0-9]*.tile")}
    assert 2 <= len(before) < N_TILES
    report = numbers(run("resume", f"{out}.job", "--workers", 0, "--keep-stage", "--merge", "touch").stdout)
    assert report["tiles"] == "8 of 8"
    assert report["objects"] == str(ndimage.label(tifffile.imread(image) > 1000)[1])
    assert {path: path.stat().st_mtime_ns for path in before} == before, "a finished tile ran again"


@posix
@pytest.mark.parametrize(
    ("number", "code", "workers"), [(signal.SIGINT, 130, 2), (signal.SIGINT, 130, 0), (signal.SIGTERM, 143, 2)]
)
def test_a_stopped_run_says_how_to_resume(
    image: Path, models: Path, tmp_path: Path, number: signal.Signals, code: int, workers: int
) -> None:
    out = tmp_path / "out.ome.zarr"
    words = ["segment", image, "--model", f"{models}:slow", "-o", out, *TILES, "--workers", workers, "--merge", "touch"]
    process = start_and_wait(Path(f"{out}.job"), 1, *words)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert_all_gone(family)
    lines = [line for line in errors.splitlines() if not line.startswith("staging")]
    assert len(lines) == 1, errors
    assert re.match(r"Stopped\. \d of 8 tiles are done\. To resume: napari-blockbuster resume ", lines[0])
    assert not Path(f"{out}.job/lock.json").exists()
    again = shlex.split(lines[0].partition("napari-blockbuster ")[2])
    assert {"--merge", "touch", "--workers", str(workers)} <= set(again)
    report = numbers(run(*again).stdout)
    assert report["tiles"] == "8 of 8"
    assert report["objects"] == str(ndimage.label(tifffile.imread(image) > 1000)[1])


# ------------------------------------------------------------------------------------------------------ merge and info
def test_merging_again_needs_no_model(image: Path, models: Path, tmp_path: Path) -> None:
    out, calls = tmp_path / "out.ome.zarr", tmp_path / "calls"
    words = ["segment", image, "--model", f"{models}:plain", "-o", out, *TILES, "--workers", 0]
    whole = numbers(run(*words, "--merge", "touch", "--keep-stage").stdout)
    assert len(list(calls.iterdir())) == N_TILES
    models.unlink()
    assert "--overwrite" in mistake("merge", f"{out}.job", "--rule", "none")
    cut = numbers(run("merge", f"{out}.job", "--rule", "none", "-o", tmp_path / "cut.ome.zarr").stdout)
    assert int(cut["objects"]) > int(whole["objects"])
    assert cut["merges"].startswith("0 ")
    assert cut["output"] == str(tmp_path / "cut.ome.zarr")
    strict = numbers(run("merge", out, "--min-iou", 0.9, "--overwrite").stdout)
    filled = np.flatnonzero(Job.open(f"{out}.job").tiles.labels_table().counts)[:4].tolist()
    first, second, third, fourth = (f"{tile}:1" for tile in filled)
    corrected = run(
        *("merge", out, "--overwrite", "--join", f"{first},{second}", "--join", f"{first},{third}"),
        *("--cut", f"{second},{third}", "--remove", fourth),
    )
    assert "1 pair cut and 2 joined by hand" in corrected.stdout
    assert "1 label removed by hand" in corrected.stdout
    assert "TILE:LABEL" in mistake("merge", out, "--remove", "3", "--overwrite")
    Decisions.load(f"{out}.job").clear()
    assert "TILE:LABEL,TILE:LABEL" in mistake("merge", out, "--join", "0-1", "--overwrite")
    assert int(whole["objects"]) <= int(strict["objects"]) <= int(cut["objects"])
    run("merge", out, "--overwrite", "--discard-stage")
    assert len(list(calls.iterdir())) == N_TILES
    assert "keep" in mistake("merge", out, "--rule", "touch", "--overwrite")
    assert "Nothing to resume" in run("resume", out).stdout


def test_info_of_a_job(image: Path, models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ome.zarr"
    run("segment", image, "--model", f"{models}:broken", "-o", out, *TILES, "--workers", 0, code=2)
    rows = numbers(run("info", f"{out}.job").stdout)
    assert rows["tiles"] == "8: 0 staged, 3 failed, 5 missing"
    assert rows["tile 0"] == "RuntimeError: not today"
    assert rows["merge"] == "not yet"
    assert rows["output"].endswith("(not written yet)")
    (tmp_path / "mended").touch()
    run("resume", f"{out}.job", "--workers", 0, "--merge", "touch")
    known = json.loads(run("info", out, "--json").stdout)
    assert known["merge"] == "touch, connectivity 1"
    assert known["tile"] == "16 x 32 x 32"
    assert known["halo"] == "6 x 6 x 6"
    assert known["shape"] == "32 x 64 x 64 (z y x)"
    assert "deleted" in known["tiles"]
    assert re.match(r"[0-9.]+ (bytes|kB|MB)", known["disk"])


def test_info_of_an_image(image: Path) -> None:
    rows = numbers(run("info", image).stdout)
    assert rows["shape"] == "32 x 64 x 64 (z y x)"
    assert rows["type"].startswith("uint16, 262.1 kB")
    assert rows["tiles"] == "1"
    assert {"chunks", "tile", "halo"} <= rows.keys()


def test_info_lists_the_channels_of_an_image(tmp_path: Path) -> None:
    """Names of channels may contain anything, also what messages use to separate them."""
    names = ["DAPI (--channel): 1", "GFP"]
    path = tmp_path / "two.ome.tif"
    metadata = {"axes": "CYX", "Channel": {"Name": names}}
    tifffile.imwrite(path, np.zeros((2, 64, 64), np.uint8), ome=True, photometric="minisblack", metadata=metadata)
    rows = numbers(run("info", path).stdout)
    assert rows["channels"] == f"0 ({names[0]}), 1 ({names[1]}); choose one with --channel"
    assert "channels" not in numbers(run("info", path, "--channel", "GFP").stdout)
    assert "GFP" in mistake("segment", path, "-o", tmp_path / "out.ome.zarr")


def test_models_lists_names_and_settings() -> None:
    assert {"voronoi-otsu", "threshold", "function"} <= numbers(run("models").stdout).keys()
    settings = numbers(run("models", "voronoi-otsu").stdout)
    assert any(name.startswith("diameter=") for name in settings)
    assert any("px" in text and ">=" in text for text in settings.values())


# ---------------------------------------------------------------------------------------------------------- small parts
def test_help_is_quick_and_loads_no_engine() -> None:
    code = (
        "import sys; from napari_blockbuster.cli.main import main; main(['--help'])\n"
        "heavy = {'dask', 'distributed', 'numpy', 'scipy', 'tensorstore', 'zarr', 'napari', 'torch', 'qtpy'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "segment" in done.stdout
    assert done.stderr.strip() == "[]"
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        run("--help")
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 1.5, "0.4 s on an idle machine"


def test_every_command_has_help() -> None:
    from napari_blockbuster.cli.main import main

    for name in ("segment", "resume", "attach", "merge", "relate", "info", "models", "demo"):
        assert main([name, "--help"]) == 0


def test_the_command_line_offers_every_merge_rule() -> None:
    from typing import get_args, get_type_hints

    from napari_blockbuster.merge.rules import RULES

    assert get_args(get_type_hints(MergeOptions)["rule"]) == RULES


def test_the_script_is_installed() -> None:
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="napari-blockbuster")
    assert script.load().__name__ == "main"


def test_default_workers_are_no_more_than_the_tiles() -> None:
    assert WorkerOptions()._processes(1) == 0
    assert WorkerOptions(workers=3)._processes(1) == 3
    assert WorkerOptions(gpu=True)._processes(1) is None
    with pytest.raises(UsageError):
        WorkerOptions(workers=0, gpu=True).check()
    with pytest.raises(UsageError):
        MergeOptions(min_iou=-1).check()


def test_pace_counts_only_what_this_run_did() -> None:
    now = [0.0]
    pace = Pace(clock=lambda: now[0])
    assert pace.rate is None
    now[0] = 2.0
    pace.report(91, 100)
    now[0] = 4.0
    pace.report(92, 100)
    assert pace.rate == 0.5
    assert pace.left == 16
    assert str(pace) == "2.0 s/tile"


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.21, "8.2 s"), (59.97, "1 min 00 s"), (200, "3 min 20 s"), (50700, "14 h 05 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
