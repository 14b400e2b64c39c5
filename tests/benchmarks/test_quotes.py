"""Quotes of the results in README and docs."""

# ruff: noqa: RUF001 - a multiplication sign is one

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import quotes

PAGE = """Before.

<!-- quote: results.md
section: Small, and quick
columns: server | CPU, of ours
rows: Retort | FastAPI
-->
old figures
<!-- end of quote -->

After."""
RESULTS = """# Results

## Small, and quick

| server | CPU µs | CPU, of ours |
| --- | ---: | ---: |
| Retort | 49.4 | 1 |
| Flask, the tutorial | 360 | 7.28 × (7.06–7.98) |
| FastAPI, the tutorial | 233 | 4.70 × (4.43–5.02) |

A note.

## Another
"""


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotes, "ROOT", tmp_path)
    (tmp_path / "results.md").write_text(RESULTS, "utf-8")


def test_a_quote_has_the_rows_and_columns_that_it_names(results: None) -> None:
    new = quotes.renewed(PAGE)
    table = "| server | CPU, of ours |\n| --- | ---: |\n| Retort | 1 |\n| FastAPI, the tutorial | 4.70 × (4.43–5.02) |"
    assert new == PAGE.replace("old figures", f"\n{table}\n")
    assert quotes.renewed(new) == new


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("section: Small", "section: Large", "no section 'Large, and quick'"),
        ("CPU, of ours", "memory", "no column 'memory'"),
        ("Retort | FastAPI", "Django", "no row that begins with Django"),
    ],
)
def test_a_quote_of_nothing_is_refused(results: None, old: str, new: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        quotes.renewed(PAGE.replace(old, new))


@pytest.mark.parametrize("page", quotes.pages(), ids=lambda page: page.name)
def test_the_figures_of_a_page_are_those_of_the_results(page: Path) -> None:
    text = page.read_text("utf-8")
    assert quotes.renewed(text) == text, "`python -m benchmarks.quotes` fills in the figures of the results"
