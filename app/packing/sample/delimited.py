"""Read delimited text: find its encoding, its separator and the line with the column names."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from app.packing.sample import columns
from app.packing.sample.columns import is_number
from app.packing.sample.documents import made_up_names
from app.packing.sample.expected import Expected

SEPARATORS = {",": "','", ";": "';'", "\t": "tabs", "|": "'|'"}
SPACES = r"\s+"
EXAMINED_CHARS = 200_000
EXAMINED_ROWS = 500
SEPARATOR_LINE = re.compile(r"\s*\"?sep=(.)\"?[^\S\r\n]*(\r\n|\r|\n)", re.IGNORECASE)
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)


def decoded(content: bytes) -> tuple[str, str]:
    """Decode text as Unicode, else as Windows-1252 or Latin-1.

    Returns:
        The text and the name of its encoding.
    """
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


def read(text: str, encoding: str, expected: Expected, notes: list[str]) -> pd.DataFrame:
    """Read the rows of a text, each column as the numbers or texts that it holds."""
    given = SEPARATOR_LINE.match(text[:100])
    if given:
        text = text[given.end() :]
        separator = given[1]
    else:
        separator = _separator(text, expected)
    options, note = _dialect(text, separator, expected)
    plain = None
    if options is None:  # each line is one text, in which commas need no quotes; a quoted text may span lines
        name, *rows = csv.reader(io.StringIO(text, newline=""))
        raw = pd.DataFrame({name[0]: [",".join(row) for row in rows if row]}, dtype=str)
    else:
        plain = pd.read_csv(io.StringIO(text), sep=separator, low_memory=False, **options)
        raw = pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, **options)
        raw = raw.fillna("")  # the values that a short line lacks
    named = SEPARATORS.get(separator, "spaces" if separator == SPACES else repr(separator))
    by_line = ", as its line sep= says" if given else ""
    notes.append(f"sample: {len(raw)} rows, {encoding}, separated by {named}{by_line}")
    notes.extend(note)
    return columns.typed(raw, expected, notes, commas=separator != ",", plain=plain)


def _separator(text: str, expected: Expected) -> str:
    """Return the separator that finds the most columns named by the model, then the most lines of equal length."""
    ranked = max(
        ((_score(_fields(text, separator), expected), separator) for separator in SEPARATORS), key=lambda pair: pair[0]
    )
    if ranked[0][0] <= 0 and ranked[0][1] <= 0:
        rows = _fields(text, SPACES)
        named, consistent, _ = _score(rows, expected)
        if named > 0 or (consistent > 0 and all(is_number(value) for row in rows[1:] for value in row)):
            return SPACES
    return ranked[1] if ranked[0][0] > 0 or ranked[0][1] > 0 else ","


def _score(rows: Sequence[Sequence[str]], expected: Expected) -> tuple[int, float, int]:
    """Rate a separator; one that does not occur in the first line scores nothing.

    Returns:
        The number of fields in the first line that the model names; the share of lines with as many fields; the number
        of fields.
    """
    if not rows or len(rows[0]) < 2:
        return 0, 0.0, 0
    width = len(rows[0])
    named = sum(expected.named(name.strip()) for name in rows[0])
    lengths = Counter(map(len, rows[1:]))
    # A line may have one field more: R writes row numbers without a name, and some programs end lines with a separator.
    fitting = max(lengths[width], lengths[width + 1]) / max(len(rows) - 1, 1) if len(rows) > 1 else 1.0
    return named, fitting if fitting > 0.8 else 0.0, width


def _fields(text: str, separator: str) -> list[list[str]]:
    """Split the first lines into fields."""
    start = text[:EXAMINED_CHARS]
    if len(text) > EXAMINED_CHARS:
        start = start.rpartition("\n")[0]
    if separator == SPACES:
        return [line.split() for line in start.splitlines() if line.strip()][:EXAMINED_ROWS]
    rows: list[list[str]] = []
    with contextlib.suppress(csv.Error):
        read = csv.reader(io.StringIO(start, newline=""), delimiter=separator)
        for row in itertools.islice(filter(None, read), EXAMINED_ROWS + 1):
            rows.append(row)
    return rows


def _dialect(text: str, separator: str, expected: Expected) -> tuple[dict[str, Any] | None, list[str]]:
    """Return options of `pandas.read_csv` for a text, None if each line is one text; and notes on them."""
    options: dict[str, Any] = {}
    notes: list[str] = []
    rows = _fields(text, separator)
    if not rows:
        return options, notes
    head, body = rows[0], rows[1:]
    if any(name.startswith(" ") for name in head[1:]) and not any(expected.named(name) for name in head[1:]):
        options["skipinitialspace"] = True
    if len(head) == 1 and any(len(row) > 1 for row in body):
        return None, ["sample: its first line names one column, so that each line is one text"]
    if body and all(len(row) == len(head) + 1 for row in body):
        # Without these names pandas would take the first column as an index.
        ends = all(not row[-1].strip() for row in body)
        extra = f"Unnamed: {len(head) if ends else 0}"
        options |= {"header": 0, "names": [*head, extra] if ends else [extra, *head]}
    elif _has_no_names(head, body, expected):
        options |= {"header": None, "names": made_up_names(len(head), expected)}
        notes.append(f"sample: its first line has no names, so that the columns are {', '.join(options['names'][:10])}")
    return options, notes


def _has_no_names(head: Sequence[str], body: Sequence[Sequence[str]], expected: Expected) -> bool:
    """Return whether the first line is a row like the others: most of its fields are numbers."""
    if any(expected.named(name.strip()) for name in head) or not body:
        return False
    numbers = [place for place, value in enumerate(head) if is_number(value)]
    return (
        2 * len(numbers) > len(head)
        and all(
            is_number(row[place]) for place in numbers for row in body[:20] if len(row) > place and row[place].strip()
        )
        and any("." in head[place] for place in numbers)
    )
