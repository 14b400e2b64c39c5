"""Text with a row a line: which encoding, which separator, which line has the names."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from app.packing.sample import columns
from app.packing.sample.documents import made_up_names
from app.packing.sample.expected import Expected

SEPARATORS = {",": "','", ";": "';'", "\t": "tabs", "|": "'|'"}
SPACES = r"\s+"
LOOKED_AT_CHARS = 200_000
LOOKED_AT_ROWS = 500
SEPARATOR_LINE = re.compile(r"\s*\"?sep=(.)\"?[^\S\r\n]*(\r\n|\r|\n)", re.IGNORECASE)
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)


def decoded(content: bytes) -> tuple[str, str]:
    """The text, and the name of its encoding: Unicode if it is that, else what Windows or Latin-1 make of it."""
    for mark, encoding, name in BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return content.decode(encoding), name
    for encoding, zeros in (("utf-16-le", content[1:2000:2]), ("utf-16-be", content[:2000:2])):
        if zeros and zeros.count(0) > len(zeros) * 0.6:
            return content.decode(encoding), "UTF-16"
    try:
        return content.decode("utf-8"), "UTF-8"
    except UnicodeDecodeError:
        pass
    try:
        return content.decode("cp1252"), "Windows-1252 (Latin-1)"
    except UnicodeDecodeError:
        return content.decode("latin-1"), "Latin-1"


@dataclass(frozen=True, slots=True)
class _Dialect:
    """How `pandas.read_csv` is to read the text."""

    options: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    one_column: bool = False


def read(text: str, encoding: str, expected: Expected, notes: list[str]) -> pd.DataFrame:
    """The rows, each column as the number or the text that it holds.

    Raises:
        Exception: whatever `pandas.read_csv` raises.
    """
    given = SEPARATOR_LINE.match(text[:100])
    if given:
        text = text[given.end() :]
        separator = "\t" if given[1] == "\t" else given[1]
    else:
        separator = _separator(text, expected)
    dialect = _dialect(text, separator, expected)
    plain = None
    if dialect.one_column:
        raw = _whole_lines(text)
    else:
        plain = pd.read_csv(io.StringIO(text), sep=separator, low_memory=False, **dialect.options)
        raw = pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, **dialect.options)
        raw = raw.fillna("")  # what a short line lacks
    said = SEPARATORS.get(separator, "spaces" if separator == SPACES else repr(separator))
    by_line = ", as its line sep= says" if given else ""
    notes.append(f"sample: {len(raw)} rows, {encoding}, separated by {said}{by_line}")
    notes.extend(dialect.notes)
    return columns.typed(raw, expected, notes, commas=separator != ",", plain=plain)


def _separator(text: str, expected: Expected) -> str:
    """The separator by which most columns that the model names are found, and most lines have as many fields."""
    ranked = max(
        ((_score(_fields(text, separator), expected), separator) for separator in SEPARATORS), key=lambda pair: pair[0]
    )
    if ranked[0][0] <= 0 and ranked[0][1] <= 0:
        rows = _fields(text, SPACES)
        named, consistent, _ = _score(rows, expected)
        if named > 0 or (consistent > 0 and all(_is_number(value) for row in rows[1:] for value in row)):
            return SPACES
    return ranked[1] if ranked[0][0] > 0 or ranked[0][1] > 0 else ","


def _score(rows: Sequence[Sequence[str]], expected: Expected) -> tuple[int, float, int]:
    """How many names of the model the first line has, how many lines have as many fields as it, and how many these are.

    A separator that does not stand in the first line has found nothing.
    """
    if not rows or len(rows[0]) < 2:
        return 0, 0.0, 0
    width = len(rows[0])
    named = sum(expected.named(name.strip()) for name in rows[0])
    lengths = Counter(map(len, rows[1:]))
    # A line may have one more: R writes no name over its row numbers, and some end each line with a separator.
    fitting = max(lengths[width], lengths[width + 1]) / max(len(rows) - 1, 1) if len(rows) > 1 else 1.0
    return named, fitting if fitting > 0.8 else 0.0, width


def _fields(text: str, separator: str) -> list[list[str]]:
    """The fields of the first lines."""
    start = text[:LOOKED_AT_CHARS]
    if len(text) > LOOKED_AT_CHARS:
        start = start.rpartition("\n")[0]
    if separator == SPACES:
        return [line.split() for line in start.splitlines() if line.strip()][:LOOKED_AT_ROWS]
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(start, newline=""), delimiter=separator):
            if row:
                rows.append(row)
            if len(rows) > LOOKED_AT_ROWS:
                break
    except csv.Error:
        return rows
    return rows


def _dialect(text: str, separator: str, expected: Expected) -> _Dialect:
    options: dict[str, Any] = {}
    notes: list[str] = []
    rows = _fields(text, separator)
    if not rows:
        return _Dialect()
    head, body = rows[0], rows[1:]
    if any(name.startswith(" ") for name in head[1:]) and not any(expected.named(name) for name in head[1:]):
        options["skipinitialspace"] = True
    if len(head) == 1 and any(len(row) > 1 for row in body):
        return _Dialect(
            notes=("sample: its first line names one column, so that each line is one text",), one_column=True
        )
    if body and all(len(row) == len(head) + 1 for row in body):
        # Else pandas makes an index of the first column, and moves every name.
        ends = all(not row[-1].strip() for row in body)
        extra = f"Unnamed: {len(head) if ends else 0}"
        options |= {"header": 0, "names": [*head, extra] if ends else [extra, *head]}
    elif _has_no_names(head, body, expected):
        options |= {"header": None, "names": made_up_names(len(head), expected)}
        notes.append(f"sample: its first line has no names, so that the columns are {', '.join(options['names'][:10])}")
    return _Dialect(options, tuple(notes))


def _whole_lines(text: str) -> pd.DataFrame:
    """The lines as a column of texts, in which a comma needs no quotes; those in quotes may have several lines."""
    name, *rows = csv.reader(io.StringIO(text, newline=""))
    return pd.DataFrame({name[0]: [",".join(row) for row in rows if row]}, dtype=str)


def _has_no_names(head: Sequence[str], body: Sequence[Sequence[str]], expected: Expected) -> bool:
    """Whether the first line is a row like the others: numbers, where names would be words."""
    if any(expected.named(name.strip()) for name in head) or not body:
        return False
    numbers = [place for place, value in enumerate(head) if _is_number(value)]
    return (
        2 * len(numbers) > len(head)
        and all(
            _is_number(row[place]) for place in numbers for row in body[:20] if len(row) > place and row[place].strip()
        )
        and any("." in head[place] for place in numbers)
    )


def _is_number(value: str) -> bool:
    return any(style.fits(value.strip()) for style in columns.FORMATS)
