"""Check that a job folder is complete and consistent: every marker has its labels, bands, objects and count, and the evidence
follows from them.

Markers are written last, so that a crash leaves none without its files. Damage found here has another cause: a disk that lost
data, an incomplete copy, an edited file. Repair un-stages such tiles, and resuming the job segments them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from napari_blockbuster.geometry.tiles import Box, Tile, TileGrid
from napari_blockbuster.job.folder.job_folder import JobFolder
from napari_blockbuster.job.state.tiles import Tiles
from napari_blockbuster.job.steps.second_try import settle
from napari_blockbuster.machine.disk import StoreError
from napari_blockbuster.machine.ownership import Owner
from napari_blockbuster.stage.regions.store import RegionStore
from napari_blockbuster.stage.repair import drop_damaged_evidence
from napari_blockbuster.stage.seams.evidence import compare, gather_evidence
from napari_blockbuster.stage.store import StagedTile, StageStore
from napari_blockbuster.stage.sums.label_sums import tile_sums

__all__ = ["CheckReport", "check_job"]


@dataclass
class CheckReport:
    """Result of a check.

    Attributes
    ----------
    n_staged : int
        Number of markers.
    damaged : dict of int to str
        Tiles whose files do not match their marker, and the reason for each.
    evidence : list of (int, int)
        Pairs of sound tiles whose evidence does not follow from their bands.
    regions : list of int
        Tiles whose regions (kept for filling holes) do not follow from their labels.
    layout : list of str
        Arrays whose metadata cannot be used.
    strangers : list of int
        Markers of tiles that the grid does not have.
    repaired : bool
        Whether the job was repaired: tiles un-staged, evidence dropped, metadata written again.
    """

    n_staged: int = 0
    damaged: dict[int, str] = field(default_factory=dict)
    evidence: list[tuple[int, int]] = field(default_factory=list)
    regions: list[int] = field(default_factory=list)
    layout: list[str] = field(default_factory=list)
    strangers: list[int] = field(default_factory=list)
    repaired: bool = False

    @property
    def sound(self) -> bool:
        """Whether nothing is damaged."""
        return not (self.damaged or self.evidence or self.regions or self.layout or self.strangers)


def check_job(folder: JobFolder, tiles: Tiles, *, repair: bool = False) -> CheckReport:
    """Read every file that belongs to a marker.

    Parameters
    ----------
    folder : JobFolder
    tiles : Tiles
    repair : bool, default False
        Un-stage tiles whose files are damaged, and drop evidence and regions that do not follow from them. Nothing else is
        changed.

    Returns
    -------
    CheckReport

    Raises
    ------
    JobLockedError
        With `repair`, if another process works on the job.
    JobError
        If its tiles were deleted after the result was written.
    """
    folder.check_stage()
    if not repair:
        return _check(tiles.store)
    with folder.holding("check") as owner:
        settle(folder, tiles, owner)
        report = _check(tiles.store)
        if not report.sound:
            _repair(tiles, report, owner)
    return report


# ------------------------------------------------------------------------------------------------------------- finding
def _check(store: StageStore) -> CheckReport:
    report = CheckReport()
    report.layout = _broken_arrays(store)
    staged = store.indices("tiles")
    report.n_staged = len(staged)
    report.strangers = sorted(index for index in staged if index >= len(store.grid))
    known = sorted(staged - set(report.strangers))
    if report.layout:
        # Tiles cannot be checked without their arrays: repair writes the metadata again and then checks the tiles.
        return report
    for index in known:
        problem = next(_problems(store, store.grid[index]), None)
        if problem:
            report.damaged[index] = problem
    sound = [index for index in known if index not in report.damaged]
    report.evidence = _wrong_evidence(store, set(sound))
    report.regions = [index for index in sound if not RegionStore(store).holds_for(index)]
    return report


def _broken_arrays(store: StageStore) -> list[str]:
    try:
        store.open_arrays()
    except StoreError as error:
        return [error.detail]
    return []


def _problems(store: StageStore, tile: Tile) -> Iterator[str]:
    """Yield the problems of a staged tile, cheapest check first."""
    try:
        staged = store.staged(tile.index)
        if staged.record.index != tile.index:
            yield f"marker: it is that of tile {staged.record.index}"
        yield from staged.problems()
        objects = staged.objects()
        if len(objects) != staged.record.n_objects:
            yield f"count: the marker says {staged.record.n_objects} objects, the table has {len(objects)}"
        if len(objects) and not store.labels_file(tile).exists():
            yield f"labels: there is no file {store.labels_file(tile).name} for it"
        labels = store.read_labels(tile).result()
        yield from _labels_against(labels, objects)
        yield from _sums_against(staged, store.grid, labels, len(objects))
        yield from _bands_against(staged, store.grid, tile, labels)
    except FileNotFoundError as error:
        yield f"{Path(str(error.filename)).parent.name}: the file is missing"
    except (ValueError, OSError) as error:
        yield (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _labels_against(labels: np.ndarray, objects: np.ndarray) -> Iterator[str]:
    sizes = np.bincount(labels.reshape(-1), minlength=len(objects) + 1)
    if len(sizes) != len(objects) + 1 or not np.array_equal(sizes[1:], objects["core"]):
        yield "labels: the voxels of its objects are not those of the table of objects"


def _sums_against(staged: StagedTile, grid: TileGrid, labels: np.ndarray, n: int) -> Iterator[str]:
    """Compare the sums of places and of faces with the labels. The pixels are not read again."""
    found = staged.sums()
    if found is None or not n:
        return
    expected = tile_sums(labels.reshape(labels.shape[grid.separate_axes :]), n)
    if not (np.array_equal(found.place, expected.place) and np.array_equal(found.contacts, expected.contacts)):
        yield "sums: they are not those of the labels"


def _bands_against(staged: StagedTile, grid: TileGrid, tile: Tile, labels: np.ndarray) -> Iterator[str]:
    """Compare a band with the labels inside the core. Outside, the band has its own checksum."""
    for axis, side in grid.band_keys:
        band = grid.band(tile, axis, side)
        if band is None:
            continue
        values = staged.band(axis, side)
        common = _common(band, tile.core)
        if not np.array_equal(values[common.within(band)], labels[common.within(tile.core)]):
            yield f"{axis}/{side}: the band is not the border of the labels"


def _common(a: Box, b: Box) -> Box:
    start = tuple(map(max, a.start, b.start))
    return Box(start, tuple(max(s, e) for s, e in zip(start, map(min, a.stop, b.stop), strict=True)))


def _wrong_evidence(store: StageStore, sound: set[int]) -> list[tuple[int, int]]:
    """Return the pairs whose evidence does not follow from their bands. Missing evidence is computed before the next merge."""
    try:
        table = gather_evidence(store, sound)
    except (ValueError, IndexError):
        return _unreadable(store)
    by_pair = _by_pair(table)
    wrong = []
    for pair in store.grid.all_pairs():
        found = by_pair.get((pair.low, pair.high))
        if found is None or pair.low not in sound or pair.high not in sound:
            continue
        expected = compare(store.grid, pair, lambda i, axis, side: store.staged(i).band(axis, side))
        if expected.tobytes() != found.tobytes():
            wrong.append((pair.low, pair.high))
    return wrong


def _by_pair(table: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    starts = np.flatnonzero(np.diff(table["low"], prepend=-1) | np.diff(table["high"], prepend=-1))
    parts = np.split(table, starts[1:]) if len(table) else []
    return {(int(part["low"][0]), int(part["high"][0])): part for part in parts}


def _unreadable(store: StageStore) -> list[tuple[int, int]]:
    return [(index, index) for index in drop_damaged_evidence(store, keep=True)]


# ----------------------------------------------------------------------------------------------------------- repairing
def _repair(tiles: Tiles, report: CheckReport, owner: Owner) -> None:
    store = tiles.store
    if report.layout:
        _write_layout_again(store)
        again = _check(store)
        report.damaged, report.evidence, report.strangers = again.damaged, again.evidence, again.strangers
        report.regions = again.regions
    for index in report.strangers:
        store.drop_marker(index, owner.remove)
    store.unstage(report.damaged, owner.remove)
    for pair in report.evidence:
        for index in pair:
            store.drop_evidence(index, owner.remove)
    for index in report.regions:
        RegionStore(store).drop(index)
    tiles.forget(report.damaged)
    report.repaired = True


def _write_layout_again(store: StageStore) -> None:
    for folder in store.array_folders():
        (folder / "zarr.json").unlink(missing_ok=True)
    StageStore.create(store.folder, store.grid)
