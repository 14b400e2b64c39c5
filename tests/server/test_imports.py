"""Tests that the worker's modules have no import cycle, and import nothing of the rest of the service."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import app.server

ALLOWED_OUTSIDE = ("app.telemetry", "app.errors")


def imports_of(path: Path) -> set[str]:
    """Return each module of the service that a module imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.split(".")[0] == "app":
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in names if node.module == "app.server" and name.rpartition(".")[2] in MODULES}
            found |= modules or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "app"}
    return found


FOLDER = Path(app.server.__file__).parent
MODULES = {path.stem: path for path in FOLDER.glob("*.py")}


def test_the_modules_of_the_worker_have_no_import_cycle() -> None:
    graph = {f"app.server.{name}": imports_of(path) for name, path in MODULES.items() if name != "__init__"}
    assert "app.server.connection" in graph["app.server.dispatcher"]
    TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.slow
def test_the_worker_imports_nothing_else_of_the_service() -> None:
    imported = set().union(*(imports_of(path) for path in MODULES.values()))
    assert {name for name in imported if not name.startswith(("app.server", *ALLOWED_OUTSIDE))} == set()


def test_imports_are_not_hidden_from_python() -> None:
    assert [name for name, path in MODULES.items() if "TYPE_CHECKING" in path.read_text("utf-8")] == []
