"""The messages that docs/faq.md explains are messages of the application."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.docs.pages import text_of
from tests.end_to_end.process import ROOT

MESSAGES = re.findall(r"^### `(.+)`$", text_of("docs/faq.md"), re.MULTILINE)


def texts_of(module: ast.Module) -> Iterator[str]:
    """Yield the texts of a module that are not docstrings, with `…` for the fields of an f-string."""
    nodes = list(ast.walk(module))
    documenting = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if id(node) in documenting:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)


@pytest.fixture(scope="module")
def modules() -> list[str]:
    """Return all texts of each module of the application, as one text."""
    paths = sorted((ROOT / "app").rglob("*.py"))
    return ["\n".join(texts_of(ast.parse(path.read_text("utf-8")))) for path in paths]


def test_there_are_many_messages() -> None:
    assert len(MESSAGES) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("message", MESSAGES)
def test_the_message_is_one_of_the_application(message: str, modules: list[str]) -> None:
    parts = [part for part in re.split("…", message) if len(part) > 3]
    assert any(all(part in texts for part in parts) for texts in modules), f"no module has all of {parts}"
