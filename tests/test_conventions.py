"""Conventions of the code that no linter knows."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

APP = Path(__file__).parents[1] / "app"
BANNED = frozenset(
    ("common", "data", "handler", "helper", "info", "item", "manager", "misc", "obj", "payload", "util", "utils")
)
"""Names that tell nothing: a reader has to look for the thing that they stand for."""
UNPICKLING = frozenset(("cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"))
"""Libraries that run code which a file names."""


RIDDLE = re.compile('^ *"""(?:What|How|Where|Who|Which) .*', re.MULTILINE)
"""A docstring whose subject is a question: it does not name the thing."""


@dataclass(frozen=True)
class Module:
    """The banned names in a module, its imports (modules with the names that are imported from them), and docstrings
    that begin with a question."""

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


def test_names_say_what_they_stand_for(modules: dict[Path, Module]) -> None:
    assert [path for path in modules if path.stem in BANNED] == []
    # A handler is what logging calls its own classes.
    assert {path: module.banned for path, module in modules.items() if {*module.banned} - {"LineHandler"}} == {}


def test_docstrings_name_their_subject(modules: dict[Path, Module]) -> None:
    assert {path: module.riddles for path, module in modules.items() if module.riddles} == {}
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
    """It would make a package import from those above it, and the import contracts do not look there."""
    allowed = {"", "__version__", *(each.stem for each in APP.iterdir())}
    imported = {path: {name for home, name in module.imports if home == "app"} for path, module in modules.items()}
    assert {path: names - allowed for path, names in imported.items() if names - allowed} == {}
