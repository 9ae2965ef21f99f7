"""The threat model names tests; each of them is there."""

import ast
import re

from tests.environment import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")


def named_in(path: str) -> set[str]:
    """`name`, or `Class::name`, of every test of a file."""
    found = set()
    for node in ast.parse((ROOT / path).read_text()).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{one.name}" for one in node.body if is_test(one)}
        elif is_test(node):
            found.add(node.name)
    return found


def is_test(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test_")


def test_every_test_that_it_names_is_there():
    named = NAMED.findall(PAGE)
    assert len(named) > 40
    assert PAGE.count("`tests/") == len(named) + 1, "a test is not named as path::name"
    assert [f"{path}::{name}" for path, name in named if name not in named_in(path)] == []


def test_every_threat_has_a_test():
    rows = PAGE.split("\n## Threats\n")[1].split("\n## ")[0].splitlines()
    without = [row for row in rows if row.startswith("| ") and "::" not in row]
    assert without[1:] == []
