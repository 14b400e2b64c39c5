"""Conventions of the code that no linter knows."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
APP = ROOT / "app"
BANNED = frozenset(
    ("common", "data", "handler", "helper", "info", "item", "manager", "misc", "obj", "payload", "util", "utils")
)
"""Names without a meaning: a reader has to look for the thing."""
UNPICKLING = frozenset(("cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"))
"""Libraries that run code that a file names."""


RIDDLE = re.compile('^ *"""(?:What|How|Where|Who|Which) .*', re.MULTILINE)
"""A docstring that begins with a question and does not name its subject."""


@dataclass(frozen=True)
class Module:
    """The banned names, the imports (pairs of module and name) and the riddles of a module."""

    banned: list[str]
    imports: set[tuple[str, str]]
    riddles: list[str]


def banned_in(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the banned names of functions, their arguments, and classes; a function may not be called `process`."""
    for node in nodes:
        if (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in {*BANNED, "process"}) or (
            isinstance(node, ast.ClassDef) and {each.lower() for each in re.findall("[A-Z][a-z]+$", node.name)} & BANNED
        ):
            yield node.name
        elif isinstance(node, ast.arg) and node.arg in BANNED:
            yield node.arg


def imports_in(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
    """Yield the module and the name of each import, at the top or later."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((str(node.module), alias.name) for alias in node.names)


def nodes_of(source: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(source)))


@pytest.fixture(scope="module")
def modules() -> dict[Path, Module]:
    """All modules of the application, by their paths."""
    found = {}
    for path in APP.rglob("*.py"):
        source = path.read_text("utf-8")
        nodes = nodes_of(source)
        found[path.relative_to(APP)] = Module([*banned_in(nodes)], {*imports_in(nodes)}, RIDDLE.findall(source))
    return found


def test_names_have_a_meaning(modules: dict[Path, Module]) -> None:
    assert [path for path in modules if path.stem in BANNED] == []
    # `logging` calls its own classes handlers.
    assert {path: module.banned for path, module in modules.items() if {*module.banned} - {"LineHandler"}} == {}


def test_docstrings_name_their_subject(modules: dict[Path, Module]) -> None:
    assert {path: module.riddles for path, module in modules.items() if module.riddles} == {}
    others = {path for place in ("tests", "benchmarks", "examples") for path in (ROOT / place).rglob("*.py")}
    found = {
        path: RIDDLE.findall(path.read_text("utf-8")) for path in others if ROOT / "tests" / "own" not in path.parents
    }
    assert {path: riddles for path, riddles in found.items() if riddles} == {}
    assert RIDDLE.findall('    """How long it waits."""\n"""The wait."""') == ['    """How long it waits."""']


def test_banned_names_are_found() -> None:
    source = "class TaskManager: ...\ndef process(data, /, *, rows): ...\nlambda item: 1\n"
    assert sorted(banned_in(nodes_of(source))) == ["TaskManager", "data", "item", "process"]


@pytest.mark.fault("X02")
def test_in_the_server_only_the_loader_of_artifacts_imports_what_unpickles(modules: dict[Path, Module]) -> None:
    found = {
        path for path, module in modules.items() if {name.partition(".")[0] for name, _ in module.imports} & UNPICKLING
    }
    assert {path for path in found if path.parts[0] not in ("packing", "jobs")} == {Path("runtime", "loaders.py")}


def test_no_module_imports_from_the_public_home(modules: dict[Path, Module]) -> None:
    """It would let a package import from packages above it, which the import contracts do not check."""
    allowed = {"", "__version__", *(each.stem for each in APP.iterdir())}
    imported = {path: {name for home, name in module.imports if home == "app"} for path, module in modules.items()}
    assert {path: names - allowed for path, names in imported.items() if names - allowed} == {}
