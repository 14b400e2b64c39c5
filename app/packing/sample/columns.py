"""Decide what a column of strings holds: numbers, texts or codes, and which of its words mark a missing value."""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from app.packing.sample.expected import Column, Expected

FIRST_TRIED = 200
"""The number of values to try first: they rule out most formats."""

ONE_THOUSAND_APART = 1.5
"""Numbers that differ by more powers of ten differ by a thousands separator read as a decimal separator."""


@dataclass(frozen=True, slots=True)
class Format:
    """A way of writing numbers: the decimal separator, and the separator between groups of three digits."""

    decimal: str
    group: str = ""

    def fits(self, value: str) -> bool:
        """Return whether a text is a number in this format."""
        return PATTERNS[self].fullmatch(value) is not None

    def plain(self, value: str) -> str:
        """Return a number in this format as Python writes it."""
        if self.group:
            value = value.replace(self.group, "")
        return value if self.decimal == "." else value.replace(self.decimal, ".")

    def __str__(self) -> str:
        name = "decimal comma" if self.decimal == "," else "decimal point"
        return name + (f", thousands separated by {self.group!r}" if self.group else "")


PLAIN = Format(".")
GROUPS = (",", ".", " ", "\u00a0", "\u202f", "\u2009", "'", "\u2019", "_")
FORMATS = (PLAIN, Format(","), *(Format(d, g) for g in GROUPS for d in ".," if d != g))


def _pattern(style: Format) -> re.Pattern[str]:
    decimal, group = re.escape(style.decimal), re.escape(style.group)
    if style.group:
        return re.compile(
            rf"[+-]?[1-9][0-9]{{0,2}}(?:{group}[0-9]{{3}})+(?:{decimal}[0-9]*)?|[+-]?[0-9]+(?:{decimal}[0-9]+)?"
        )
    return re.compile(
        rf"[+-]?(?:[0-9]+(?:{decimal}[0-9]*)?|{decimal}[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:inf|infinity)", re.IGNORECASE
    )


PATTERNS = {style: _pattern(style) for style in FORMATS}


def is_number(value: str) -> bool:
    """Return whether a text is a number in any format."""
    return any(style.fits(value.strip()) for style in FORMATS)


def not_numbers(values: Sequence[str]) -> set[str]:
    """Return the values that are not numbers in any format; all values if most of the first are not."""
    if len(values) > FIRST_TRIED and 2 * len(not_numbers(values[:FIRST_TRIED])) > FIRST_TRIED:
        return set(values)  # a column of texts
    return {value for value in values if not is_number(value)}


def formats_of(values: Sequence[str]) -> tuple[Format, ...]:
    """Return the formats that fit all values; formats with groups only if their separator occurs."""
    stripped = [value.strip() for value in values]
    signs = set().union(*stripped)
    fitting = [style for style in FORMATS if not style.group or style.group in signs]
    for some in (stripped[:FIRST_TRIED], stripped):
        fitting = [style for style in fitting if all(map(PATTERNS[style].fullmatch, some))]
    return tuple(fitting) if stripped else ()


def likeliest(formats: Sequence[Format], values: Sequence[str], decimal: str, typical: float | None) -> Format | None:
    """Return the format of a column out of those that fit all its values; None if none fits.

    A format with another decimal separator than the file's is taken only if no other fits. A number typical of the
    column rules out formats that give numbers far from it.
    """
    if not formats:
        return None
    ranked = sorted(formats, key=lambda style: (style.decimal != decimal, FORMATS.index(style)))
    best = ranked[0]
    if best is not PLAIN and PLAIN in ranked and not any(sign in value for value in values for sign in ".,"):
        return PLAIN  # integers, which all formats write alike
    if not typical:
        return best
    distances = [powers_of_ten_apart(_middle(style, values), typical) for style in ranked]
    limit = min(distances) + ONE_THOUSAND_APART
    return next(style for style, distance in zip(ranked, distances, strict=True) if distance <= limit)


def powers_of_ten_apart(number: float, typical: float) -> float:
    """Return by how many powers of ten the size of a number differs from a typical one; 0 for 0 and infinity."""
    return abs(math.log10(number / abs(typical))) if 0 < number < math.inf else 0.0


def _middle(style: Format, values: Sequence[str]) -> float:
    numbers = sorted(abs(float(style.plain(value.strip()))) for value in values)
    return numbers[len(numbers) // 2]


PANDAS_MARKERS = frozenset([
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "1.#IND", "1.#QNAN", "-NaN", "-nan", "NaN", "nan", "<NA>",
    "N/A", "n/a", "NA", "NULL", "null", "None",
])  # fmt: skip
"""The texts that `pandas.read_csv` reads as missing; the empty text is one of them."""

SIGNS = frozenset(("?", "??", "-", "--", "---", "\u2013", "\u2014", ".", "..", "...", "*", "\\N"))
WORDS = frozenset([
    "#div/0!", "#name?", "#null!", "#num!", "#ref!", "#value!", "(null)", "(none)", "<null>", "[null]", "n.a.",
    "n. a.", "n.d.", "nd", "k.a.", "k. a.", "missing", "none", "nil", "not available", "unknown", "undefined", "void",
])  # fmt: skip
"""Other texts for a missing number, besides the signs; compared without regard to case."""

TRUTH = frozenset(("True", "TRUE", "true", "False", "FALSE", "false"))
MANY = 0.5
"""If at least this share of the values are numbers, a note names the words among them."""


@dataclass(frozen=True, slots=True)
class _Texts:
    """The different texts of a column: markers of missing values, and values with the formats that fit all of them."""

    missing: frozenset[str]
    present: tuple[str, ...]
    formats: tuple[Format, ...] = ()


def typed(
    raw: pd.DataFrame, expected: Expected, notes: list[str], *, commas: bool, plain: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Convert each column of a frame of strings to its numbers, truth values or texts.

    `raw` has no missing values. With `commas`, a comma that may separate decimals or thousands separates decimals.
    `plain` is the same frame as `pandas.read_csv` reads it: take columns that are plainly numbers from it, because
    examining each value takes long. `notes` receives a note on each decision that is not obvious.
    """
    expected_columns = expected.of([str(name) for name in raw.columns])
    sure = (
        set() if plain is None else {p for p, column in enumerate(expected_columns) if _is_sure(raw, plain, p, column)}
    )
    counts: dict[int, Counter[str]] = {}
    texts: dict[int, _Texts] = {}

    def look_at(places: Iterable[int]) -> str:
        for place in places:
            counts[place] = Counter(raw.iloc[:, place].tolist())
            texts[place] = _texts(counts[place], expected_columns[place])
        return _decimal(list(texts.values()), commas=commas)

    decimal = look_at(place for place in range(len(expected_columns)) if place not in sure)
    if decimal == "," and plain is not None:  # then a point may separate thousands
        floats = {place for place in sure if plain.iloc[:, place].dtype.kind == "f"}
        sure -= floats
        decimal = look_at(sorted(floats))
    chosen = {
        p: likeliest(texts[p].formats, texts[p].present, decimal, expected_columns[p].typical) for p in sorted(texts)
    }
    _note_formats({str(raw.columns[place]): style for place, style in chosen.items()}, notes)
    converted: dict[str, Any] = {}
    for place, name in enumerate(raw.columns):
        if place in texts:
            _note_column(str(name), counts[place], texts[place], expected_columns[place], chosen[place], notes)
            converted[name] = _values(raw.iloc[:, place], texts[place], expected_columns[place], chosen[place])
        elif plain is not None:
            converted[name] = plain.iloc[:, place].array
    return pd.DataFrame(converted, index=raw.index)


def is_marker(value: str, more: Iterable[str]) -> bool:
    """Return whether a text marks a missing value: for pandas, or as one of `more`."""
    if value in PANDAS_MARKERS or value[:1].isdigit():
        return value in PANDAS_MARKERS
    stripped = value.strip()
    return stripped in more or stripped.lower() in more or not stripped


def is_code(value: str) -> bool:
    """Return whether a text is digits with a leading zero, which a number would lose."""
    return len(value) > 1 and value[0] == "0" and value.isdigit()


def missing_note(name: str, markers: Sequence[str], counts: Counter[str]) -> str:
    """Return a note on the texts of a column that are read as missing."""
    rows = sum(counts[value] for value in markers)
    named = " and ".join(map(repr, markers[:5]))
    return f"sample column {name!r}: {named} taken for missing, in {rows} row{'s' * (rows != 1)}"


def _is_sure(raw: pd.DataFrame, plain: pd.DataFrame, place: int, column: Column) -> bool:
    """Return whether a column surely has numbers or truth values: it has no codes, and its numbers are typical."""
    values = plain.iloc[:, place]
    if column.strings or column.may_be_text or values.dtype.kind not in "iufb":
        return False
    if values.dtype.kind in "iu":
        texts = raw.iloc[:, place].str
        return not bool((texts.startswith("0") & (texts.len() > 1)).any())
    if values.dtype.kind == "b" or not column.typical:
        return True
    return powers_of_ten_apart(abs(float(values.abs().median())), column.typical) <= ONE_THOUSAND_APART


def _texts(counts: Counter[str], column: Column) -> _Texts:
    """Separate the markers of missing values of a column from its values, and find the formats of its numbers."""
    if column.strings:
        learned = set(column.categories or ())
        if not learned:
            return _split(counts, PANDAS_MARKERS.intersection(counts))
        return _split(counts, {v for v in counts.keys() - learned if is_marker(v, SIGNS)})
    texts = _split(counts, {value for value in counts if is_marker(value, SIGNS | WORDS)})
    as_text = _split(counts, PANDAS_MARKERS.intersection(counts))
    if column.may_be_text and any(map(is_code, texts.present)):
        return as_text
    formats = formats_of(texts.present)
    if formats or TRUTH.issuperset(texts.present):
        return replace(texts, formats=formats)
    others = not_numbers(texts.present)
    if len(others) == 1 and column.typical is not None and len(texts.present) > 1:
        # The model has learned a number of this column, so its one word means missing, in any language.
        numbers = _split(counts, texts.missing | others)
        return replace(numbers, formats=formats_of(numbers.present))
    return as_text


def _split(counts: Counter[str], missing: Set[str]) -> _Texts:
    return _Texts(frozenset(missing), tuple(value for value in counts if value not in missing))


def _decimal(texts: Sequence[_Texts], *, commas: bool) -> str:
    """Return the decimal separator of most of the columns that allow only one."""
    separators = [{style.decimal for style in each.formats} for each in texts]
    sure = [next(iter(found)) for found in separators if len(found) == 1]
    if sure:
        return "," if sure.count(",") > sure.count(".") else "."
    written = any("," in value for each in texts if each.formats for value in each.present)
    return "," if commas and written else "."


def _values(column: pd.Series[Any], texts: _Texts, known: Column, style: Format | None) -> Any:
    if style is None and not texts.present:
        return float("nan")
    if known.strings or (style is None and not TRUTH.issuperset(texts.present)):
        return column.mask(column.isin(texts.missing))
    return _parsed(column, texts.missing, style or PLAIN)


def _parsed(column: pd.Series[Any], missing: frozenset[str], style: Format) -> Any:
    """Parse a column with `pandas.read_csv`, so that its numbers equal those of a notebook."""
    plain = str.strip if style is PLAIN else lambda value: style.plain(value.strip())
    lines = ["" if value in missing else plain(value) for value in column.tolist()]
    return pd.read_csv(io.StringIO("\n".join(["column", *lines, ""])), skip_blank_lines=False)["column"].array


def _note_formats(chosen: Mapping[str, Format | None], notes: list[str]) -> None:
    by_format: dict[Format, list[str]] = {}
    for name, style in chosen.items():
        if style is not None and style is not PLAIN:
            by_format.setdefault(style, []).append(name)
    for style, names in by_format.items():
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        notes.append(f"sample: numbers with {style} in {', '.join(names[:10])}{more}")


def _note_column(
    name: str, counts: Counter[str], texts: _Texts, column: Column, style: Format | None, notes: list[str]
) -> None:
    """Note the texts read as missing that pandas would not, and the numbers read as text or without their zeros."""
    unusual = sorted(texts.missing - PANDAS_MARKERS)
    if unusual:
        notes.append(missing_note(name, unusual, counts))
    kept = sorted(PANDAS_MARKERS.intersection(texts.present)) if column.strings else []
    if kept:
        notes.append(
            f"sample column {name!r}: {' and '.join(map(repr, kept))} taken as a value that the model has learned"
        )
    if style is None:
        notes.extend(_text_notes(name, counts, texts, column))
    elif (code := next(filter(is_code, texts.present), None)) is not None:
        notes.append(
            f"sample column {name!r}: {code!r} read as the number {int(code)}, since the model has learned no strings; "
            "to keep it as text, declare the input with --inputs"
        )


def _text_notes(name: str, counts: Counter[str], texts: _Texts, column: Column) -> list[str]:
    """Return a note if a column is read as text although it holds numbers."""
    numbers = [value for value in texts.present if PLAIN.fits(value.strip())]
    if column.strings and numbers and len(numbers) == len(texts.present):
        why = "the model has learned strings" if not column.may_be_text else "it is declared so"
        return [f"sample column {name!r} read as text, such as {numbers[0]!r}: {why}"]
    if column.may_be_text and numbers:
        return [f"sample column {name!r} read as text, such as {numbers[0]!r}: it is declared so"]
    if column.strings:
        return []
    others = not_numbers(texts.present)
    rows = sum(counts[value] for value in texts.present if value not in others)
    if not others or rows <= MANY * counts.total():
        return []
    named = " and ".join(map(repr, sorted(others)[:3]))
    return [
        f"sample column {name!r} read as text: {rows} of {counts.total()} values are numbers, but {named} "
        f"{'is' if len(others) == 1 else 'are'} not"
    ]
