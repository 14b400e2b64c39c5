"""What a column of strings holds: numbers, texts or codes; which of its words say that a value is missing."""

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

PANDAS_MARKERS = frozenset(
    (
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "1.#IND", "1.#QNAN", "-NaN", "-nan", "NaN", "nan"),
        *("<NA>", "N/A", "n/a", "NA", "NULL", "null", "None"),
    )
)
"""What `pandas.read_csv` takes for missing."""

SIGNS = frozenset(("?", "??", "-", "--", "---", "\u2013", "\u2014", ".", "..", "...", "*", "\\N"))
WORDS = frozenset(
    (
        *(
            "#div/0!",
            "#name?",
            "#null!",
            "#num!",
            "#ref!",
            "#value!",
            "(null)",
            "(none)",
            "n.a.",
            "n. a.",
            "n.d.",
            "nd",
        ),
        *(
            "k.a.",
            "k. a.",
            "missing",
            "none",
            "nil",
            "not available",
            "unknown",
            "undefined",
            "<null>",
            "[null]",
            "void",
        ),
    )
)
"""Beside the signs, what others write for a missing number; compared without regard to case."""

TRUTH = frozenset(("True", "TRUE", "true", "False", "FALSE", "false"))
FIRST_TRIED = 200
"""So many values are tried first: they rule out most formats."""

MANY = 0.5
"""Where so many of the values are numbers, words beside them are told of."""

ONE_THOUSAND_APART = 1.5
"""Powers of ten by which a number with a thousands separator differs clearly from one with a decimal."""


@dataclass(frozen=True, slots=True)
class Format:
    """How numbers are written: the sign before their decimals, and the one between groups of three digits."""

    decimal: str
    group: str = ""

    def fits(self, value: str) -> bool:
        """Whether this is a number written so."""
        return PATTERNS[self].fullmatch(value) is not None

    def plain(self, value: str) -> str:
        """The number as Python writes it."""
        return value.replace(self.group, "").replace(self.decimal, ".") if self.group else self._pointed(value)

    def _pointed(self, value: str) -> str:
        return value if self.decimal == "." else value.replace(self.decimal, ".")

    def __str__(self) -> str:
        said = "decimal comma" if self.decimal == "," else "decimal point"
        return said + (f", thousands separated by {self.group!r}" if self.group else "")


PLAIN = Format(".")
FORMATS = (
    PLAIN,
    Format(","),
    *(Format(d, g) for g in (",", ".", " ", "\u00a0", "\u202f", "\u2009", "'", "\u2019", "_") for d in ".," if d != g),
)


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


@dataclass(frozen=True, slots=True)
class _Words:
    """The different strings of a column: those that say missing, and the others."""

    missing: frozenset[str]
    present: tuple[str, ...]
    formats: tuple[Format, ...] = ()


def typed(
    raw: pd.DataFrame, expected: Expected, notes: list[str], *, commas: bool, plain: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The columns of a frame of strings, each as the number, truth value or text that it holds.

    Args:
        raw: every value as a string; no value is missing.
        expected: what is known of the columns.
        notes: to which is added what was taken for what.
        commas: whether a comma that may be either is rather the sign before decimals.
        plain: the same as `pandas.read_csv` reads it, where that has been tried: columns that are plainly numbers are
            taken from it, since looking at each value takes its time.
    """
    known = expected.of([str(name) for name in raw.columns])
    sure = set() if plain is None else {p for p, column in enumerate(known) if _is_sure(raw, plain, p, column)}
    counts: dict[int, Counter[str]] = {}
    words: dict[int, _Words] = {}

    def look_at(places: Iterable[int]) -> str:
        for place in places:
            counts[place] = Counter(raw.iloc[:, place].tolist())
            words[place] = _words(counts[place], known[place])
        return _decimal(list(words.values()), commas=commas)

    decimal = look_at(place for place in range(len(known)) if place not in sure)
    if decimal == "," and plain is not None:  # then a point may be one between thousands
        floats = {place for place in sure if plain.iloc[:, place].dtype.kind == "f"}
        sure -= floats
        decimal = look_at(sorted(floats))
    chosen = {place: _format(words[place], known[place], decimal) for place in sorted(words)}
    _note_formats({str(raw.columns[place]): style for place, style in chosen.items()}, notes)
    found: dict[str, Any] = {}
    for place, name in enumerate(raw.columns):
        if plain is not None and place in sure:
            found[name] = plain.iloc[:, place].array
        else:
            _note_column(str(name), counts[place], words[place], known[place], chosen[place], notes)
            found[name] = _values(raw.iloc[:, place], words[place], known[place], chosen[place])
    return pd.DataFrame(found, index=raw.index)


def _is_sure(raw: pd.DataFrame, plain: pd.DataFrame, place: int, column: Column) -> bool:
    """Whether a column is plainly numbers or truth values: no code among them, and none far from what is typical."""
    values = plain.iloc[:, place]
    if column.strings or column.may_be_text or values.dtype.kind not in "iufb":
        return False
    if values.dtype.kind in "iu":
        texts = raw.iloc[:, place].str
        return not bool((texts.startswith("0") & (texts.len() > 1)).any())
    if values.dtype.kind == "b" or not column.typical:
        return True
    middle = abs(float(values.abs().median()) / column.typical)
    return not middle > 0 or abs(math.log10(middle)) <= ONE_THOUSAND_APART


def _values(column: pd.Series[Any], words: _Words, known: Column, style: Format | None) -> Any:
    if style is None and not words.present:
        return float("nan")
    if known.strings or (style is None and not TRUTH.issuperset(words.present)):
        return column.mask(column.isin(words.missing))
    return _parsed(column, words.missing, style or PLAIN)


def _words(counts: Counter[str], column: Column) -> _Words:
    """Tells the markers of a column from its values; where it holds numbers, with the formats that fit all of them."""
    if column.strings:
        learned = set(column.categories or ())
        if not learned:
            return _split(counts, PANDAS_MARKERS.intersection(counts))
        return _split(counts, {v for v in counts.keys() - learned if is_marker(v, SIGNS)})
    words = _split(counts, {value for value in counts if is_marker(value, SIGNS | WORDS)})
    as_text = _split(counts, PANDAS_MARKERS.intersection(counts))
    if column.may_be_text and any(map(is_code, words.present)):
        return as_text
    formats = _formats(words.present)
    if formats or TRUTH.issuperset(words.present):
        return replace(words, formats=formats)
    others = _no_numbers(words.present)
    if len(others) == 1 and column.typical is not None and len(words.present) > 1:
        # A number of this column is known, so that its one word says missing, in whatever language.
        numbers = _split(counts, words.missing | others)
        return replace(numbers, formats=_formats(numbers.present))
    return as_text


def _split(counts: Counter[str], missing: Set[str]) -> _Words:
    return _Words(frozenset(missing), tuple(value for value in counts if value not in missing))


def _no_numbers(values: Sequence[str]) -> set[str]:
    """Those of the values that are no numbers in any format."""
    if len(values) > FIRST_TRIED and 2 * len(_no_numbers(values[:FIRST_TRIED])) > FIRST_TRIED:
        return set(values)  # a column of texts
    return {value for value in values if not any(style.fits(value.strip()) for style in FORMATS)}


def _formats(values: Sequence[str]) -> tuple[Format, ...]:
    """The formats that fit all of these values; those with a sign between groups only where it is written."""
    stripped = [value.strip() for value in values]
    signs = set().union(*stripped)
    fitting = [style for style in FORMATS if not style.group or style.group in signs]
    for some in (stripped[:FIRST_TRIED], stripped):
        fitting = [style for style in fitting if all(map(PATTERNS[style].fullmatch, some))]
    return tuple(fitting) if stripped else ()


def is_marker(value: str, more: Iterable[str]) -> bool:
    """Whether a value says missing: as pandas has it, or as one of `more`."""
    if value in PANDAS_MARKERS or value[:1].isdigit():
        return value in PANDAS_MARKERS
    stripped = value.strip()
    return stripped in more or stripped.lower() in more or not stripped


def _by_pandas(value: str) -> bool:
    return value in PANDAS_MARKERS


def is_code(value: str) -> bool:
    """Whether it is digits with a leading zero, which a number would lose."""
    return len(value) > 1 and value[0] == "0" and value.isdigit()


def _decimal(words: Sequence[_Words], *, commas: bool) -> str:
    """The sign before decimals in this file, as told by the columns that cannot be read otherwise."""
    signs = [{style.decimal for style in each.formats} for each in words]
    told = [next(iter(found)) for found in signs if len(found) == 1]
    if told:
        return "," if told.count(",") > told.count(".") else "."
    written = any("," in value for each in words if each.formats for value in each.present)
    return "," if commas and written else "."


def _format(words: _Words, column: Column, decimal: str) -> Format | None:
    """The format of a column: that of the file where it fits; a number typical of the column decides where it tells."""
    if not words.formats:
        return None
    ranked = sorted(words.formats, key=lambda style: (style.decimal != decimal, FORMATS.index(style)))
    best = ranked[0]
    if best is not PLAIN and PLAIN in ranked and not any(sign in value for value in words.present for sign in ".,"):
        return PLAIN  # whole numbers, which are written alike everywhere
    if not column.typical:
        return best
    distances = [_distance(style, words.present, column.typical) for style in ranked]
    near = min(distances) + ONE_THOUSAND_APART
    return next(style for style, distance in zip(ranked, distances, strict=True) if distance <= near)


def _distance(style: Format, values: Sequence[str], typical: float) -> float:
    """How many powers of ten lie between a number typical of the column and the middle one of these values."""
    numbers = sorted(abs(float(style.plain(value.strip()))) for value in values)
    middle = numbers[len(numbers) // 2]
    return abs(math.log10(middle / abs(typical))) if 0 < middle < math.inf else 0.0


def _parsed(column: pd.Series[Any], missing: frozenset[str], style: Format) -> Any:
    """The column through the parser of `pandas.read_csv`, so that its numbers are those of a notebook."""
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
    name: str, counts: Counter[str], words: _Words, column: Column, style: Format | None, notes: list[str]
) -> None:
    """Tells what was taken for missing that pandas would not take, and which numbers became text or lost zeros."""
    unusual = sorted(words.missing - PANDAS_MARKERS)
    if unusual:
        rows = sum(counts[value] for value in unusual)
        said = " and ".join(map(repr, unusual[:5]))
        notes.append(f"sample column {name!r}: {said} taken for missing, in {rows} row{'s' * (rows != 1)}")
    kept = sorted(PANDAS_MARKERS.intersection(words.present)) if column.strings else []
    if kept:
        notes.append(
            f"sample column {name!r}: {' and '.join(map(repr, kept))} taken as a value that the model has learned"
        )
    numbers = [] if style else [value for value in words.present if PLAIN.fits(value.strip())]
    if style is None and column.strings and numbers and len(numbers) == len(words.present):
        why = "the model has learned strings" if not column.may_be_text else "it is declared so"
        notes.append(f"sample column {name!r} read as text, such as {numbers[0]!r}: {why}")
    elif style is None and column.may_be_text and numbers:
        notes.append(f"sample column {name!r} read as text, such as {numbers[0]!r}: it is declared so")
    elif style is None and not column.strings:
        others = _no_numbers(words.present)
        rows = sum(counts[value] for value in words.present if value not in others)
        if others and rows > MANY * counts.total():
            said = " and ".join(map(repr, sorted(others)[:3]))
            notes.append(
                f"sample column {name!r} read as text: {rows} of {counts.total()} values are numbers, but {said} "
                f"{'is' if len(others) == 1 else 'are'} not"
            )
    elif style is not None and (code := next(filter(is_code, words.present), None)) is not None:
        notes.append(
            f"sample column {name!r}: {code!r} read as the number {int(code)}, since the model has learned no strings; "
            "to keep it as text, declare the input with --inputs"
        )
