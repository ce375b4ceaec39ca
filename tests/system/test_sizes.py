"""Limits that keep modules, functions, classes and folders of the package readable."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "napari_blockbuster"
FILES = sorted(PACKAGE.rglob("*.py"))
FILE, FUNCTION, CLASS, ATTRIBUTES, ENTRIES = 400, 60, 250, 12, 14


def nodes() -> Iterator[tuple[str, ast.AST]]:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield f"{path.relative_to(PACKAGE)}: {node.name}", node


def length(node: ast.AST) -> int:
    """Lines of a definition. The docstring of a function does not count."""
    lines = node.end_lineno - node.lineno + 1
    if isinstance(node, ast.ClassDef) or ast.get_docstring(node) is None:
        return lines
    return lines - (node.body[0].end_lineno - node.body[0].lineno + 1)


def attributes(node: ast.ClassDef) -> set[str]:
    """Attributes that methods of a class set. Records, whose fields are columns of a file or options, have none."""
    stored = (each for each in ast.walk(node) if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store))
    return {each.attr for each in stored if isinstance(each.value, ast.Name) and each.value.id == "self"}


def test_files_are_short() -> None:
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert len(lengths) > 250
    assert {path: n for path, n in lengths.items() if n > FILE} == {}


@pytest.mark.parametrize(("kind", "most"), [(ast.FunctionDef, FUNCTION), (ast.ClassDef, CLASS)])
def test_functions_and_classes_are_short(kind: type[ast.AST], most: int) -> None:
    lengths = {name: length(node) for name, node in nodes() if isinstance(node, kind)}
    assert len(lengths) > 300
    assert {name: n for name, n in lengths.items() if n > most} == {}


def test_classes_have_few_attributes() -> None:
    counts = {name: len(attributes(node)) for name, node in nodes() if isinstance(node, ast.ClassDef)}
    assert max(counts.values()) > 8
    assert {name: n for name, n in counts.items() if n > ATTRIBUTES} == {}


def test_folders_have_few_entries() -> None:
    """The root also holds what tools look for there: the manifest, and the marker for type checkers."""
    folders = {path.parent for path in FILES if path.parent != PACKAGE}
    entries = {
        folder: [path for path in folder.iterdir() if path.name not in ("__init__.py", "__pycache__")]
        for folder in folders
    }
    assert {str(folder): len(found) for folder, found in entries.items() if len(found) > ENTRIES} == {}
    assert len([path for path in PACKAGE.iterdir() if not path.name.startswith("__") and path.suffix != ".typed"]) <= 16
