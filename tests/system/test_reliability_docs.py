"""The table of docs/reliability.md is backed by tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "reliability.md"


def test_every_row_names_a_test_that_exists() -> None:
    text = PAGE.read_text().partition("## Bad input and its answer")[2].partition("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| what goes wrong")]
    named = [re.search(r"`(test_\w+)` \|$", row) for row in rows]
    assert len(rows) > 25
    assert all(named), [row for row, name in zip(rows, named, strict=True) if not name]
    known = {
        node.name
        for path in TESTS.rglob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    assert {match.group(1) for match in named if match} <= known
