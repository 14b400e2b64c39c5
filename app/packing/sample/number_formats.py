"""Formats of numbers in text: the decimal separator, and the separator between groups of three digits."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

FIRST_TRIED = 200
"""The number of values that are tried first: they rule out most formats."""

ONE_THOUSAND_APART = 1.5
"""Numbers that differ by more powers of ten differ by a thousands separator read as a decimal separator."""


@dataclass(frozen=True, slots=True)
class Format:
    """A way of writing numbers: the decimal separator, and the separator between groups of three digits."""

    decimal: str
    group: str = ""

    def fits(self, value: str) -> bool:
        """Whether a text is a number in this format."""
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
    """Whether a text is a number in any format."""
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
