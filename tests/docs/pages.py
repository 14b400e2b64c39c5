"""README and the pages of docs/, divided into sections, tables and blocks of code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.end_to_end.process import ROOT

FENCE = re.compile(
    r"^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
NAVIGATION = re.findall(r"^ +- (?:\w+: )?([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
"""The pages of the site, in the order of its navigation."""
PAGES = ("README.md", *(f"docs/{name}" for name in NAVIGATION if (ROOT / "docs" / name).is_file()))


@dataclass(frozen=True)
class Block:
    """One fenced block. `answer` is the block that follows it, if only empty lines are between."""

    page: str
    line: int
    language: str
    title: str
    text: str
    answer: Block | None = None

    @property
    def is_request(self) -> bool:
        return self.language == "sh" and self.text.startswith("curl ")

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def text_of(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def blocks_of(page: str) -> list[Block]:
    text = text_of(page)
    found: list[Block] = []
    begins_next = -1
    for match in reversed(list(FENCE.finditer(text))):
        between = text[match.end() : begins_next] if begins_next >= 0 else "no block"
        answer = found[-1] if not between.strip() else None
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, match["language"], match["title"] or "", match["text"], answer))
        begins_next = match.start()
    return found[::-1]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def titled(page: str, title: str) -> str:
    """Return the text of the block of a page that has this title."""
    [found] = [block.text for block in BLOCKS if (block.page, block.title) == (page, title)]
    return found


def rows(page: str, head: str) -> list[list[str]]:
    """Return the cells of each table of a page whose first column has this name, without its head."""
    found, lines = [], text_of(page).splitlines()
    for number, line in enumerate(lines):
        if line.startswith(f"| {head} |") and lines[number + 1].startswith("|--"):
            end = next(at for at in range(number, len(lines) + 1) if at == len(lines) or not lines[at].startswith("|"))
            found += [[cell.strip() for cell in row.strip("|").split("|")] for row in lines[number + 2 : end]]
    assert found, f"{page} has no table that begins with {head!r}"
    return found


def links_of(page: str) -> list[str]:
    """Return the targets of links to files, relative to the page."""
    return re.findall(r"\]\((?!https?://|#)([^)#]+)", text_of(page))


def folder_of(page: str) -> Path:
    return (ROOT / page).parent
