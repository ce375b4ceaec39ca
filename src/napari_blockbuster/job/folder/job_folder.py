"""The job folder: its locks, its settings, and its lifecycle.

A process may be killed at any moment. It then leaves either no job, or a job that can be resumed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.machine.disk import writing_to
from napari_blockbuster.machine.errors import JobError, JobMismatchError
from napari_blockbuster.machine.files import discard
from napari_blockbuster.machine.ownership import Owner
from napari_blockbuster.output.result import job_folder, output_of
from napari_blockbuster.stage.records.records import life_of
from napari_blockbuster.stage.store import StageStore

from .files import JobFiles
from .leftovers import is_leftover, sweep
from .lock import JobLockedError, holding
from .placing import take_back
from .settings import JobSpec
from .where import EVERYWHERE, Where

__all__ = ["JobFolder", "naming_deletion"]


class JobFolder(JobFiles):
    """One job on disk; `JobFiles` names what is in it.

    Attributes
    ----------
    path : Path
    life : str or None
        See `JobFiles`. Holding the lock of a folder with a life makes sure that it is still that job.
    """

    # --------------------------------------------------------------------------------------------------------- finding
    @classmethod
    def beside(cls, output: Path) -> Self:
        """Return the job folder of an output, whether it exists or not."""
        return cls(job_folder(output))

    @classmethod
    def find(cls, path: Path) -> Self | None:
        """Return the job folder at a path, or the one beside the output at that path; None if there is no job."""
        here = cls(path)
        if here.is_job():
            return here
        beside = cls.beside(path)
        return beside if beside.is_job() else None

    def of(self, spec: JobSpec) -> Self:
        """Return the same folder for the job with these settings, and for none that replaces it."""
        return dataclasses.replace(self, life=spec.life)

    # ----------------------------------------------------------------------------------------------------------- locks
    @contextlib.contextmanager
    def holding(self, doing: str) -> Iterator[Owner]:
        """Hold the lock of the job; see `napari_blockbuster.job.folder.lock.holding`.

        Yields
        ------
        Owner
            Makes the changes to files that all jobs in the folder share.

        Raises
        ------
        JobError
            If another run has replaced the job since it was opened.
        """
        with holding(self.lock, doing) as lock:
            self.check_same_life()
            take_back(self.path)
            yield lock.owner

    @contextlib.contextmanager
    def holding_all(self, doing: str) -> Iterator[Owner]:
        """Hold the lock of the job and that of a detached driver, which the driver keeps between its steps."""
        # First the lock that is held for longer: who is refused has not shut out the owner of the other one.
        with holding(self.driver_lock, doing), self.holding(doing) as owner:
            yield owner

    def check_same_life(self) -> None:
        """Refuse to work on a job that another one has replaced."""
        if self.life is not None and self.is_job() and life_of(self.settings) != self.life:
            raise JobError(
                f"Another run has replaced the job in {self.path} since it was opened here, and its tiles were deleted. "
                "Open the job again to work on the new one."
            )

    # -------------------------------------------------------------------------------------------------------- settings
    def load(self) -> JobSpec:
        """Read the settings, with the output next to where the folder is now.

        A folder that was moved, or came from another machine, names a path that may belong to somebody else.

        Raises
        ------
        JobError
            See `JobSpec.load`.
        """
        spec = JobSpec.load(self.settings)
        if job_folder(Path(spec.output)) == self.path:
            return spec
        return spec.model_copy(update={"output": str(output_of(self.path))})

    def load_stored(self) -> JobSpec:
        """Read the settings as they are stored."""
        return JobSpec.load(self.settings)

    def save(self, spec: JobSpec, owner: Owner) -> None:
        """Write the settings."""
        with writing_to(self.path):
            owner.write(self.settings, spec.to_json())

    def load_where(self) -> Where:
        """Read where the job segments.

        Raises
        ------
        JobError
            See `Where.load`.
        """
        return Where.load(self.where)

    def save_where(self, where: Where, owner: Owner) -> None:
        """Write where the job segments, if it is not everywhere."""
        with writing_to(self.path):
            if where:
                owner.write(self.where, where.to_bytes())
            else:
                owner.remove(self.where)

    def settings_text(self) -> str:
        """Return the text of the settings, to compare it with the text that another machine reads."""
        return self.settings.read_text("utf-8", "surrogateescape")

    # ----------------------------------------------------------------------------------------------------------- stage
    def check_stage(self) -> None:
        """Refuse to merge or write after the stage was deleted.

        Raises
        ------
        JobError
            Saying how to keep it next time.
        """
        if not self.has_stage():
            self.check_same_life()
            raise JobError(
                f"the staged tiles of {self.path} were deleted after the result was written. "
                "To merge more than once, run again with keep_stage=True (--keep-stage)."
            )

    def lay_out(self, grid: TileGrid) -> None:
        """Create the parts of an empty stage that are missing."""
        with writing_to(self.path):
            StageStore.create(self.stage, grid)

    # ------------------------------------------------------------------------------------------------------- lifecycle
    def known(self, spec: JobSpec, overwrite: bool) -> JobSpec | None:
        """Return the settings of the job in the folder if it is the same run; None if a new job may be made here.

        Nothing is deleted: `make` replaces the job that may be replaced.

        Raises
        ------
        JobError
            If the folder holds something else, or another run and `overwrite` is false.
        JobLockedError
            If another process works on the run that would be replaced.
        """
        known = self._same_run(spec, overwrite)
        if known is not None:
            # The process that made the job may have been killed before its layout was complete.
            self.of(known).lay_out(known.grid.grid())
        elif self.is_job():
            # Refuse a job in use now, not after the model was prepared. `make` takes the locks again.
            with self.holding_all("replace"):
                pass
        return known

    def _same_run(self, spec: JobSpec, overwrite: bool) -> JobSpec | None:
        """See `known`."""
        if not self.is_job():
            if self.path.exists() and not all(is_leftover(self, path) for path in self.path.iterdir()):
                raise JobError(f"{self.path} exists and is not a job folder. Move it away or choose another output.")
            return None
        known = self.load_stored()
        differences = known.differences(spec)
        if not overwrite and known.is_same_but_for_code(spec.model):
            # Whether an edited function may run on the remaining tiles is checked once they are known.
            differences = known.differences(spec.model_copy(update={"model": known.model}))
        if not differences and self.has_stage():
            return known
        if differences and not overwrite:
            listing = "\n  ".join(differences)
            raise JobMismatchError(f"{self.path} holds tiles of a different run:\n  {listing}\n{known.remedy(spec)}")
        return None

    def make(
        self, spec: JobSpec, overwrite: bool, check_output: Callable[[], None], where: Where = EVERYWHERE
    ) -> JobSpec:
        """Write a new job. Another job in the folder is deleted only after the new stage is complete.

        Every record of the other job is deleted too: decisions, results, and tiles that were segmented again.

        Parameters
        ----------
        spec : JobSpec
        overwrite : bool
        check_output : callable
            Refuses an output that must not be replaced. Called with the lock: another process may have just completed its result,
            whose record would be deleted here.
        where : Where, optional
            Where the job segments.

        Returns
        -------
        JobSpec
            The settings, with the life of the new job.

        Raises
        ------
        JobError
            As `known`: another process may have made a job meanwhile.
        """
        with writing_to(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with self.holding_all("create") as owner:
            if self._same_run(spec, overwrite) is not None:
                raise JobLockedError(
                    f"another process has just started this run in {self.path}. Wait for it to finish or stop it."
                )
            check_output()
            self.sweep(owner)
            spec = spec.model_copy(update={"life": uuid.uuid4().hex[:12]})
            mine = self.of(spec)
            try:
                with writing_to(self.path):
                    mine.lay_out(spec.grid.grid())
                    self._discard_content(owner, keep=mine.stage)
                    self.save_where(where, owner)
                    owner.write(self.settings, spec.to_json())
            except BaseException:
                discard(mine.stage)
                raise
            return spec

    def _discard_content(self, owner: Owner, keep: Path | None = None) -> None:
        for path in self.content:
            if path != keep:
                owner.remove(path)

    def sweep(self, owner: Owner) -> None:
        """Delete the half-written and half-deleted files of killed processes, and dead lives. Call it with the lock."""
        sweep(self, owner, alive=(self.stage, self.again) if self.is_job() else ())

    def delete(self) -> None:
        """Delete the job. Its results, and files of others in the folder, stay.

        Raises
        ------
        JobLockedError
            If another process works on it.
        """
        with self.holding_all("delete") as owner:
            self._discard_content(owner)
        with contextlib.suppress(OSError):
            self.path.rmdir()


@contextlib.contextmanager
def naming_deletion(folder: JobFolder) -> Iterator[None]:
    """Turn an error of reading tiles that another process has deleted into one that says so.

    Raises
    ------
    JobError
        See `JobFolder.check_stage`.
    """
    try:
        yield
    except Exception as error:
        # On a disk that is gone, the job is missing as well.
        if folder.is_job():
            try:
                folder.check_stage()
            except JobError as deleted:
                raise deleted from error
        raise
