"""docs/security.md says which test is for which threat; each of them is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "security.md").read_text()
TABLE = PAGE.partition("## What stops what")[2].partition("\n## ")[0]
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in TABLE.splitlines() if line.startswith("| ")]
THREATS = {row[0]: row[-1] for row in ROWS[2:]}


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("threat", THREATS)
def test_the_test_of_a_threat_is_there(threat: str) -> None:
    found = re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)`", THREATS[threat])
    assert found is not None, THREATS[threat]
    assert found[2] in names_in(ROOT / found[1])


def test_each_row_says_what_stops_its_threat_and_each_test_of_attackers_is_named() -> None:
    assert len(THREATS) == len(ROWS) - 2 > 50
    assert all(len(row) == 3 and all(row) for row in ROWS)
    files = {cell.partition("::")[0].strip("`") for cell in THREATS.values()}
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "security").glob("test_*.py")} <= files
