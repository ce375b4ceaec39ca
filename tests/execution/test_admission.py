"""What is wrong with a worker is named by its cause."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from napari_blockbuster.execution.admission.admission import Requirements, Survey, look_around


def elsewhere(survey: Survey) -> Survey:
    return dataclasses.replace(survey, place=("node17", 1))


def test_a_worker_without_the_job_folder_is_not_blamed_for_the_packages_of_the_model(tmp_path: Path) -> None:
    """It does not know them: they are named in the job folder."""
    (tmp_path / "job.json").write_text(json.dumps({"depends_on": ["pytest"]}))
    requirements = Requirements.of(tmp_path)
    assert "pytest" in requirements.here.versions
    there = elsewhere(look_around(str(tmp_path / "a" / "b" / "c" / "d")))
    assert requirements.problem(there).startswith(f"does not see the job folder {tmp_path}")


def test_a_package_of_the_model_in_another_version_is_named(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(json.dumps({"depends_on": ["pytest"]}))
    requirements = Requirements.of(tmp_path, "settings.json")
    there = elsewhere(look_around(str(tmp_path), "settings.json"))
    assert requirements.problem(there) == ""
    older = dataclasses.replace(there, versions=there.versions | {"pytest": "1.0.1"})
    assert requirements.problem(older).startswith("has pytest 1.0.1, this process has ")
