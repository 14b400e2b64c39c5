"""Update the quotes of RESULTS.md in README and docs: `python -m benchmarks.quotes`.

A comment in a page names the quoted table, which is written between it and the closing comment:

    <!-- quote: benchmarks/RESULTS.md
    section: Logistic regression, 2 features
    columns: server | CPU µs a request
    rows: FastAPI | Flask
    -->
    <!-- end of quote -->

`rows` has the beginnings of first cells. It is optional.
"""

# ruff: noqa: RUF001 - a multiplication sign is one

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUOTE = re.compile(
    r"(<!-- quote: (?P<source>\S+)\n(?P<wanted>.*?)-->\n)(?P<quoted>.*?)(<!-- end of quote -->)", re.DOTALL
)
NUMBER = re.compile(r"[-–]?[\d,.]+( ×)?( \(.*\))?")


def pages() -> list[Path]:
    """Return the pages that may quote results."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def renewed(text: str) -> str:
    """Return a page with its quotes updated from the results.

    Raises:
        ValueError: the results have no such section, column or row.
    """
    return QUOTE.sub(lambda found: f"{found[1]}\n{_table(found['source'], found['wanted'])}\n\n{found[5]}", text)


def _table(source: str, wanted: str) -> str:
    asked = dict(line.split(": ", 1) for line in wanted.strip().splitlines())
    section, names = asked["section"], asked["columns"].split(" | ")
    beginnings = tuple(asked["rows"].split(" | ")) if "rows" in asked else ("",)
    head, *rows = _rows((ROOT / source).read_text("utf-8"), section)
    if missing := [name for name in names if name not in head]:
        raise ValueError(f"section {section!r} has no column {missing[0]!r}; there are: {', '.join(head)}")
    places = [head.index(name) for name in names]
    chosen = [[row[place] for place in places] for row in rows if row[0].startswith(beginnings)]
    if not chosen:
        raise ValueError(f"section {section!r} has no row that begins with {' or '.join(beginnings)}")
    are_numbers = [all(NUMBER.match(row[at]) for row in chosen) for at in range(len(names))]
    rule = ["---:" if is_number else "---" for is_number in are_numbers]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (names, rule, *chosen))


def _rows(text: str, section: str) -> Iterator[list[str]]:
    """Yield the cells of each row of the first table of a section: the head first, without the line below it."""
    found = re.search(rf"^## {re.escape(section)}\n+(?P<body>.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    table = re.search(r"^\|.*?(?=\n\n|\Z)", found["body"], re.MULTILINE | re.DOTALL) if found else None
    if table is None:
        raise ValueError(f"the results have no section {section!r} with a table")
    for number, line in enumerate(table[0].splitlines()):
        if number != 1:
            yield [cell.strip() for cell in line.strip("|").split("|")]


def main() -> None:
    """Update the quotes of all pages, and name the pages that changed."""
    for page in pages():
        text = page.read_text("utf-8")
        if (new := renewed(text)) != text:
            page.write_text(new, "utf-8")
            sys.stdout.write(f"{page.relative_to(ROOT)}: its figures are those of the results again\n")


if __name__ == "__main__":
    main()
