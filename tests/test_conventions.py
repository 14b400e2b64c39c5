"""Conventions of the code that no linter knows."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

APP = Path(__file__).parents[1] / "app"
BANNED = frozenset(
    ("common", "data", "handler", "helper", "info", "item", "manager", "misc", "obj", "payload", "util", "utils")
)
"""Names that tell nothing: a reader has to look for the thing that they stand for."""


def banned_in(source: str) -> Iterator[str]:
    """Yield the banned names of functions, their arguments, and classes; a function may not be called `process`."""
    for node in ast.walk(ast.parse(source)):
        if (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in {*BANNED, "process"}) or (
            isinstance(node, ast.ClassDef) and {each.lower() for each in re.findall("[A-Z][a-z]+$", node.name)} & BANNED
        ):
            yield node.name
        elif isinstance(node, ast.arg) and node.arg in BANNED:
            yield node.arg


@pytest.mark.parametrize("path", sorted(APP.rglob("*.py")), ids=lambda path: str(path.relative_to(APP)))
def test_names_say_what_they_stand_for(path: Path) -> None:
    assert path.stem not in BANNED
    # A handler is what logging calls its own classes.
    assert [name for name in banned_in(path.read_text("utf-8")) if name != "LineHandler"] == []


def test_banned_names_are_found() -> None:
    source = "class TaskManager: ...\ndef process(data, /, *, rows): ...\nlambda item: 1\n"
    assert sorted(banned_in(source)) == ["TaskManager", "data", "item", "process"]


UNPICKLING = frozenset(("cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"))
"""Libraries that run code which a file names."""


def imported_in(source: str) -> set[str]:
    """The packages that a module imports, at its top or later."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).partition(".")[0])
    return found


@pytest.mark.fault("X02")
def test_in_the_server_only_the_loader_of_artifacts_imports_what_unpickles() -> None:
    found = {path.relative_to(APP) for path in APP.rglob("*.py") if imported_in(path.read_text("utf-8")) & UNPICKLING}
    assert {path for path in found if path.parts[0] not in ("packing", "jobs")} == {Path("runtime", "loaders.py")}
