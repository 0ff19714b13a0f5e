"""Reasons for which frames are dropped: those that the code has, and those that the documentation explains."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import lift_ros

DOCUMENTED = Path(__file__).parents[1] / "docs" / "troubleshooting.md"
TREES = [ast.parse(file.read_text()) for file in sorted(Path(lift_ros.__file__).parent.rglob("*.py"))]


def nodes(kind: type) -> Iterator:
    return (node for tree in TREES for node in ast.walk(tree) if isinstance(node, kind))


def texts(node: ast.AST) -> set[str]:
    """A string literal, or both of a conditional expression."""
    if isinstance(node, ast.IfExp):
        return texts(node.body) | texts(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def takers() -> dict[str, int]:
    """Functions with a parameter called reason, and its place among what they are called with."""
    found = {"FrameRejected": 0}
    for function in nodes(ast.FunctionDef):
        names = [argument.arg for argument in function.args.args if argument.arg not in ("self", "cls")]
        # that of the counter has a name that sets have, too
        if "reason" in names and function.name not in ("__init__", "add"):
            found[function.name] = names.index("reason")
    return found


def given() -> set[str]:
    """Every reason that the code gives in so many words."""
    known, reasons = takers(), set()
    for call in nodes(ast.Call):
        name = ast.unparse(call.func)
        place = 0 if re.fullmatch(r"(.*\.)?_?drops\.add", name) else known.get(name.rpartition(".")[2])
        if place is not None and place < len(call.args):
            reasons |= texts(call.args[place])
    return reasons


def explained() -> list[str]:
    """Every reason in the first column of the table."""
    table = DOCUMENTED.read_text().split("| reason | meaning |")[1].split("\n\n")[0]
    return [reason for row in table.splitlines()[2:] for reason in re.findall(r"`(\w+)`", row.split("|")[1])]


def test_every_reason_is_explained_once_and_no_other():
    assert {"pose_missing", "mapper_busy", "labels_size", "labels_unreadable"} <= given()  # of each way to give one
    assert sorted(given()) == sorted(explained())
