"""Every snippet of the documentation runs, every link leads somewhere, and CI runs the two commands of the README."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from forked import command_line

from napari_blockbuster.images.examples.samples import write_nuclei

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:<!-- skip: (?P<reason>[^>]+) -->\s*\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```", re.M | re.S)


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str
    line: int
    skip: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(m["language"], m["text"], text.count("\n", 0, m.start("text")) + 1, m["reason"] or "")
        for m in BLOCK.finditer(text)
    ]


def pages_with(*languages: str) -> list[Path]:
    return [page for page in PAGES if any(b.language in languages for b in blocks(page))]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the demo's image, smaller: blobs where the demo has nuclei."""
    from scipy import ndimage

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    seeds = np.zeros((60, 160, 160), np.float32)
    for z, y, x in zip(rng.integers(22, 40, 12), *np.mgrid[20:160:42, 20:160:60].reshape(2, -1), strict=True):
        seeds[z, y, x] = 1
    nuclei = ndimage.gaussian_filter(seeds, (6, 9, 9))
    pixels = nuclei / nuclei.max() * 50000 + rng.normal(3000, 300, seeds.shape)
    (tmp_path / "demo-output").mkdir()
    pixels[5, 5, 5] = 65000
    write_nuclei(tmp_path / "demo-output" / "nuclei.ome.zarr", pixels.astype(np.uint16))
    return tmp_path


@pytest.mark.parametrize("page", pages_with("python"), ids=lambda page: page.stem)
def test_python_snippets_run(page: Path, place: Path) -> None:
    """All snippets of a page, in order, in one namespace, in a process of their own."""
    lines: list[str] = []
    for block in blocks(page):
        if block.language == "python" and not block.skip:
            # A failure names the line of the page.
            lines += [""] * (block.line - 1 - len(lines)) + block.text.splitlines()
    script = place / page.with_suffix(".py").name
    script.write_text("\n".join(lines) + "\n", encoding="utf-8")
    # As in a notebook: processes that a snippet starts do not run the whole page again.
    read_and_run = f"name = {str(script)!r}; exec(compile(open(name, encoding='utf-8').read(), name, 'exec'))"
    done = subprocess.run([sys.executable, "-c", read_and_run], cwd=place, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{page.name}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def commands(page: Path) -> list[str]:
    shell = [b.text for b in blocks(page) if b.language in ("sh", "bash", "shell", "console") and not b.skip]
    lines = [line.split("  #")[0].strip() for text in shell for line in text.splitlines()]
    quoted = re.findall(r"`(napari-blockbuster [a-z][^`]*)`", page.read_text(encoding="utf-8"))
    return [line for line in lines if line.startswith("napari-blockbuster")] + quoted


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda page: page.stem)
def test_commands_are_understood(page: Path) -> None:
    """Every command line on a page parses: names of commands and options, and the types of their values."""
    from napari_blockbuster.cli.main import app

    for line in commands(page):
        words = [word for word in shlex.split(line)[1:] if word != "..."]
        app.parse_args(words, exit_on_error=False, print_error=False)


def test_the_tutorials_commands_run(place: Path) -> None:
    for line in commands(ROOT / "docs" / "tutorial-headless.md"):
        if line.startswith(("napari-blockbuster segment", "napari-blockbuster info", "napari-blockbuster models")):
            done = command_line(*shlex.split(line)[1:], cwd=place)
            assert done.returncode == 0, f"{line}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|mailto:)([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_paths_of_the_repository_exist(page: Path) -> None:
    """Paths in backquotes, as `tests/merge/test_rules.py`; those with a placeholder (`<family>`) are not checked."""
    named = re.findall(r"`((?:src|tests|docs)/[\w./-]+)`", page.read_text(encoding="utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_names_are_in_the_files_that_contributing_gives() -> None:
    """Wherever the page says that a name is in a file, as `export_csv` in `src/...`, it is."""
    text = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
    named = re.findall(r"((?:`\w+` or )*`\w+`) in `((?:src|tests)/[\w./]+)`", text)
    named += [(names, path) for names, path in re.findall(r"(`\w+`), `(src/[\w./]+)`", text)]
    assert len(named) >= 6
    for names, path in named:
        source = (ROOT / path).read_text(encoding="utf-8")
        assert [name for name in re.findall(r"\w+", names.replace(" or ", " ")) if name not in source] == [], path


def test_the_design_names_every_package() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    package = ROOT / "src" / "napari_blockbuster"
    entries = [f"{path.name}/" if path.is_dir() else path.name for path in package.iterdir()]
    known = [name for name in entries if not name.startswith("_") and name != "py.typed"]
    assert [name for name in known if f"`{name}`" not in text] == []
    parts = [path.parent.relative_to(package).as_posix() for path in package.glob("*/**/__init__.py")]
    assert [part for part in parts if "/" in part and f"`{part}/" not in text] == []


def test_files_of_packages_exist() -> None:
    """Files and folders that the design names without the root, as `stage/sums/label_sums.py` or `merge/`."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    package = ROOT / "src" / "napari_blockbuster"
    own = "|".join(path.name for path in package.iterdir() if path.is_dir() and not path.name.startswith("_"))
    named = re.findall(rf"`((?:{own})/(?:[\w/]+(?:\.py)?)?)`", text)
    assert len(named) > 30
    assert [path for path in named if not (package / path).exists()] == []


def test_names_in_backquotes_exist() -> None:
    """Modules and what is in them, as `napari_blockbuster.merge.rules.decide`, in docstrings and in the documentation."""
    source = ROOT / "src"
    pages = [*source.rglob("*.py"), *(ROOT / "docs").glob("*.md")]
    named = {
        name for page in pages for name in re.findall(r"`(napari_blockbuster(?:\.\w+)+)`", page.read_text("utf-8"))
    }
    assert len(named) > 60
    for name in named:
        place, rest = source, name.split(".")
        while rest and (place / rest[0]).is_dir():
            place /= rest.pop(0)
        if rest and (place / f"{rest[0]}.py").exists():
            text = (place / f"{rest.pop(0)}.py").read_text("utf-8")
        else:
            text = (place / "__init__.py").read_text("utf-8")
        assert not rest or re.search(rf"\b{rest[0]}\b", text), name


def test_skipped_snippets_are_few_and_say_why() -> None:
    skipped = [b.skip for page in PAGES for b in blocks(page) if b.skip]
    assert len(skipped) <= 8
    assert all(reason.startswith("needs ") for reason in skipped)


def test_ci_runs_the_commands_of_the_readme() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    demo, tests = (next(line for line in lines if line.endswith(f"tox -e {name}")) for name in ("demo", "tests"))
    assert tests in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert demo in (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")


def test_ci_runs_the_commands_of_contributing() -> None:
    """CI and the workflow run each environment that the page names as a check of CI."""
    text = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8").partition("## Checks")[2]
    environments = re.findall(r"^tox -e (\w+)$", text, re.M)
    assert environments == ["lint", "tests"]
    for file in (ROOT / ".ci" / "run", ROOT / ".github" / "workflows" / "ci.yml"):
        script = file.read_text(encoding="utf-8")
        assert [name for name in environments if not re.search(rf"tox -e {name}\b", script)] == []


def test_the_readme_lists_the_models() -> None:
    from napari_blockbuster.models.registry import BUILT_IN

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in BUILT_IN if f"`{name}`" not in readme and name != "function"] == []
