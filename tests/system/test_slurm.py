"""The SLURM recipes of the documentation on a real SLURM, which this module starts."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import slurm as slurms
from faults import HALO, N_TILES, TILE, Bench
from slurm import Slurm, running_slurm

from napari_blockbuster.cli.main import main
from napari_blockbuster.detached.files import DriverFiles

WHY_NOT = slurms.why_not()
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.xdist_group("slurm"),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
    pytest.mark.timeout(600),
]

PAGE = Path(__file__).parents[2] / "docs" / "howto-clusters.md"
MODEL = """
import os, time, uuid, zlib
from scipy import ndimage

def find(pixels):
    tile = zlib.crc32(pixels.tobytes())
    job = os.environ["SLURM_JOB_ID"]
    open(os.path.join({log!r}, f"{{tile}}-{{job}}-{{uuid.uuid4().hex}}"), "w").close()
    time.sleep({seconds})
    while os.path.exists({hold!r}):
        time.sleep(0.05)
    return ndimage.label(pixels > 100)[0]
"""


@dataclass(frozen=True)
class Site(Bench):
    """A bench beside a SLURM; its model notes which tile it saw in which job, and waits while there is a file ``hold``."""

    slurm: Slurm | None = None

    @classmethod
    def at(cls, folder: Path, image: Path, slurm: Slurm, seconds: float = 0.5) -> Site:
        bench = Bench.make(folder, image)
        site = cls(bench.folder, slurm)
        text = MODEL.format(log=str(folder / "calls"), hold=str(site.hold), seconds=seconds)
        (folder / "model.py").write_text(text)
        return site

    @property
    def hold(self) -> Path:
        return self.folder / "hold"

    def calls_by(self, part: int) -> Counter[str]:
        """How often the model was called for each tile (0), or in each job (1)."""
        return Counter(path.name.split("-")[part] for path in (self.folder / "calls").iterdir())

    def recipe(self) -> str:
        """The script of the page, on this bench's image and with its model; nothing else is changed but the wall time."""
        section = PAGE.read_text(encoding="utf-8").partition("## SLURM\n")[2]
        script = re.search(r"^```python\n(.*?)^```", section, re.M | re.S)[1]
        return (
            script.replace("/scratch/brain.ome.zarr", str(self.folder / "image.zarr"))
            .replace("/scratch/brain.labels.ome.zarr", str(self.output))
            .replace('"/scratch"', repr(str(self.folder)))
            .replace(", client=client)", f", client=client, **{self.options()!r})")
        )

    def batch_scripts(self) -> Iterator[tuple[str, list[str], str]]:
        """Name, options and commands of the batch scripts that leave a run alone; one worker in place of fifty."""
        section = PAGE.read_text(encoding="utf-8").partition("### Detach a SLURM run\n")[2]
        model, words = self.folder / "model.py", f"--tile {' '.join(map(str, TILE))} --halo {HALO} --merge touch"
        for text in re.findall(r"^```bash\n(.*?)^```", section, re.M | re.S)[:3]:
            options = re.search(r"^#SBATCH (.*)$", text, re.M)[1].replace("--array=1-50", "--array=1-1").split()
            commands = (
                text.replace("/scratch/brain.ome.zarr", str(self.folder / "image.zarr"))
                .replace("/scratch/brain.labels.ome.zarr", f"{self.output} --model {model}:find {words}")
                .replace("/scratch/scheduler.json", str(self.folder / "scheduler.json"))
            )
            name = options[0].removeprefix("--job-name=")
            yield name, options, f"export PATH={Path(sys.executable).parent}:$PATH\n{commands}"

    def options(self) -> dict[str, object]:
        model = f"{self.folder / 'model.py'}:find"
        return {"model": model, "tile_shape": TILE, "halo": HALO, "merge": "touch"}

    def start(self, script: str) -> subprocess.Popen[str]:
        """Run a script as on a login node."""
        (self.folder / "recipe.py").write_text(script)
        # A machine of one network card, and a page that names no card.
        environment = {**self.slurm.environment, "DASK_JOBQUEUE__SLURM__INTERFACE": "lo"}
        words = [sys.executable, "recipe.py"]
        return subprocess.Popen(words, cwd=self.folder, env=environment, stderr=subprocess.PIPE, text=True)

    def assert_done(self, script: subprocess.Popen[str], peace: dict[str, bytes]) -> str:
        """The script ends well, with the result of one process; returns what it printed."""
        try:
            _, errors = script.communicate(timeout=400)
        finally:
            script.kill()
            script.wait()
        assert script.returncode == 0, errors[-6000:]
        assert self.result() == peace
        assert len(self.calls_by(0)) == N_TILES
        return errors


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with running_slurm() as running:
        yield running


@pytest.fixture(scope="module")
def peace(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """An image, and what one process makes of it."""
    bench = Bench.make(tmp_path_factory.mktemp("peace") / "run")
    assert main(bench.words()) == 0
    return bench.folder / "image.zarr", bench.result()


def wait_for(
    condition: Callable[[], object], script: subprocess.Popen[str] | None = None, seconds: float = 120
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert script is None or script.poll() is None, script.stderr.read()[-6000:]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_recipe_starts_without_a_worker_and_runs_every_tile_once(slurm: Slurm, peace, tmp_path: Path) -> None:
    site = Site.at(tmp_path / "run", peace[0], slurm, seconds=4)
    # SLURM may start a worker sooner than the progress would mention the wait.
    soon = "import napari_blockbuster.job.progress.bar as bar; bar.LONG_WAIT = 0.5\n"
    script = site.start(soon + site.recipe())
    # Tiles wait once the first has succeeded, so the cluster grows.
    wait_for(lambda: site.markers >= 1, script)
    site.hold.touch()
    wait_for(lambda: len(site.calls_by(1)) >= 2, script)
    site.hold.unlink()
    errors = site.assert_done(script, peace[1])
    assert set(site.calls_by(0).values()) == {1}
    assert "waiting for a worker of tls://" in errors
    wait_for(lambda: not slurm.jobs())


def test_scancel_of_a_worker_costs_the_tiles_that_it_held(slurm: Slurm, peace, tmp_path: Path) -> None:
    site = Site.at(tmp_path / "run", peace[0], slurm)
    script = site.start(site.recipe())
    wait_for(lambda: site.markers >= 2, script)
    site.hold.touch()
    wait_for(lambda: site.calls > site.markers, script)
    busy = next(path.name.split("-") for path in (site.folder / "calls").iterdir() if site.calls > site.markers)
    before = site.calls - site.markers
    slurm.run("scancel", busy[1])
    wait_for(lambda: busy[1] not in slurm.jobs("PENDING,RUNNING,COMPLETING"), script)
    site.hold.unlink()
    site.assert_done(script, peace[1])
    assert sum(site.calls_by(0).values()) <= N_TILES + before
    assert len(site.calls_by(1)) >= 2, "another job took its place"


def test_a_job_at_its_walltime_is_replaced(slurm: Slurm, peace, tmp_path: Path) -> None:
    """One worker, whose job SLURM ends after a minute, in the middle of a tile."""
    site = Site.at(tmp_path / "run", peace[0], slurm, seconds=18)
    recipe = site.recipe().replace("04:00:00", "00:01:00").replace("maximum_jobs=200", "maximum_jobs=1")
    script = site.start(recipe.replace('"--lifetime", "230m", "--lifetime-stagger", "5m"', ""))
    site.assert_done(script, peace[1])
    jobs = site.calls_by(1)
    assert len(jobs) >= 2
    assert sum(jobs.values()) <= N_TILES + len(jobs) - 1, "each job that ended cost one tile"
    assert "TIMEOUT" in slurm.run("scontrol", "show", "jobs")


def test_detach_from_a_job_of_its_own(slurm: Slurm, peace, tmp_path: Path) -> None:
    """Scheduler, workers and the command that leaves, in three jobs: the scripts of the page."""
    site = Site.at(tmp_path / "run", peace[0], slurm)
    site.hold.touch()
    jobs = {}
    for name, options, body in site.batch_scripts():
        jobs[name] = slurm.submit(site.folder, name, body, *options)
        if name == "scheduler":
            wait_for((site.folder / "scheduler.json").exists)
    assert set(jobs) == {"scheduler", "worker", "start"}
    wait_for(lambda: jobs["start"] not in slurm.jobs("PENDING,RUNNING,COMPLETING"))
    said = (site.folder / "start.out").read_text()
    driver = DriverFiles(site.job).at_work()
    assert driver is not None, said
    assert f"process {driver.pid} on " in said
    assert site.markers == 0, "the run had not begun when the job that started it ended"
    site.hold.unlink()
    assert main(["attach", str(site.job)]) == 0
    assert site.result() == peace[1]
    assert site.calls_by(0) == dict.fromkeys(site.calls_by(0), 1)
    assert len(site.calls_by(0)) == N_TILES
