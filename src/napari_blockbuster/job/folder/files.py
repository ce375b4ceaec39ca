"""The names of the files in a job folder."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from napari_blockbuster.execution.admission.admission import SETTINGS_FILE
from napari_blockbuster.merge.decision_file import FILE as DECISIONS_FILE
from napari_blockbuster.stage.records.records import STAGE, life_of, name_in_life

__all__ = ["JobFiles"]

AGAIN = "again"
_OF_A_LIFE = re.compile(rf"({STAGE}|{AGAIN})(-[0-9a-f]{{12}})?$")


@dataclass(frozen=True)
class JobFiles:
    """The files of one job::

        job.json        the settings; without them the folder holds no job
        where.json      the region of interest; none if the job segments everything
        lock.json       held while a process changes the job
        stage-<life>/   staged tiles, deleted once the result is complete
        decisions.json  what a person decided at seams
        again.json      which tiles were segmented again, and with which settings
        again-<life>/   tiles segmented again (new/, tried.json) and the tiles that they replaced (before/)
        result.json     record of the result at the job's own output
        results/        records of results elsewhere
        placing.json    token of a result that is being put in place
        driver.*        files of a detached driver: its state, lock, log, and a request to stop

    Attributes
    ----------
    path : Path
        The job folder.
    life : str or None
        The life of the job that is meant: the token that was drawn when it was made. A job that replaces it in the same folder
        has another one. None: the life of the job that is in the folder now.
    """

    path: Path
    life: str | None = field(default=None, compare=False)

    @property
    def settings(self) -> Path:
        return self.path / SETTINGS_FILE

    @property
    def where(self) -> Path:
        return self.path / "where.json"

    @property
    def lock(self) -> Path:
        return self.path / "lock.json"

    @property
    def stage(self) -> Path:
        return self.path / self._in_life(STAGE)

    @property
    def decisions(self) -> Path:
        return self.path / DECISIONS_FILE

    @property
    def notes(self) -> Path:
        return self.path / "again.json"

    @property
    def again(self) -> Path:
        return self.path / self._in_life(AGAIN)

    def _in_life(self, name: str) -> str:
        return name_in_life(name, life_of(self.settings) if self.life is None else self.life)

    @property
    def again_new(self) -> Path:
        return self.again / "new"

    @property
    def again_before(self) -> Path:
        return self.again / "before"

    @property
    def again_tried(self) -> Path:
        return self.again / "tried.json"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def results(self) -> Path:
        return self.path / "results"

    @property
    def placing(self) -> Path:
        return self.path / "placing.json"

    @property
    def driver_state(self) -> Path:
        return self.path / "driver.json"

    @property
    def driver_lock(self) -> Path:
        return self.path / "driver.lock"

    @property
    def driver_log(self) -> Path:
        return self.path / "driver.log"

    @property
    def driver_stop(self) -> Path:
        return self.path / "driver.stop"

    @property
    def locks(self) -> tuple[Path, ...]:
        """The files that are held by processes."""
        return self.lock, self.driver_lock

    @property
    def content(self) -> tuple[Path, ...]:
        """All that is deleted with a job, in this order. Tiles without settings are no job, so the settings come first."""
        records = self.where, self.decisions, self.notes, self.result, self.results, self.placing
        return self.settings, *self.lives(), *records, self.driver_state, self.driver_stop, self.driver_log

    def lives(self) -> list[Path]:
        """Return the folders of all lives, also of dead ones."""
        found = (path for name in (STAGE, AGAIN) for path in self.path.glob(f"{name}*") if _OF_A_LIFE.match(path.name))
        return sorted(found)

    def is_job(self) -> bool:
        """Whether the folder holds a job."""
        return self.settings.exists()

    def has_stage(self) -> bool:
        """Whether the stage has not been deleted."""
        return (self.stage / "labels").exists()
