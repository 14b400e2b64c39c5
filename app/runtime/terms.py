"""Count terms in texts exactly as scikit-learn's vectorizers do; a graph receives the counts.

Source: `sklearn.feature_extraction.text`. The same regular expressions in the same Python find the same words.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import chain
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

TERMS = "retort.terms"
"""The metadata key of a graph whose value is the counters of its inputs, as JSON."""

PARTS = {"_columns": "int64", "_counts": "float64"}
"""The suffixes of the two inputs that a counter fills, and their dtypes."""

_WHITE_SPACES = re.compile(r"\s\s+")


class TermCounter(msgspec.Struct, frozen=True, dict=True):
    """A fitted vectorizer for the texts of one column. `vocabulary` maps each term to its column, from 0."""

    column: str
    vocabulary: dict[str, int]
    analyzer: Literal["word", "char", "char_wb"]
    ngram_range: tuple[int, int]
    lowercase: bool
    strip_accents: Literal["ascii", "unicode"] | None
    token_pattern: str
    stop_words: tuple[str, ...]

    def counts(self, texts: Iterable[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the columns of the terms in each text and their counts, both of shape (texts, most terms).

        Texts with fewer terms are padded with the column after the last one and the count 0.
        """
        column_of, analyze = self.vocabulary.get, self._analyze
        found_columns: list[int | None] = []
        found_counts: list[int] = []
        lengths = []
        for text in texts:
            counter = Counter(map(column_of, analyze(text)))
            counter.pop(None, None)
            found_columns += counter
            found_counts += counter.values()
            lengths.append(len(counter))
        most = max(lengths, default=0) or 1
        is_filled = np.arange(most) < np.array(lengths, dtype=np.int64)[:, None]
        columns = np.full(is_filled.shape, len(self.vocabulary))
        columns[is_filled] = found_columns
        counts = np.zeros(is_filled.shape)
        counts[is_filled] = found_counts
        return columns, counts

    @cached_property
    def _analyze(self) -> Callable[[str], Iterable[str]]:
        """The function from a text to its terms."""
        prepare = self._prepare
        if self.analyzer != "word":
            grams = self._grams_of_text if self.analyzer == "char" else self._grams_of_words
            return lambda text: grams(_WHITE_SPACES.sub(" ", prepare(text)))
        find, left_out = re.compile(self.token_pattern).findall, frozenset(self.stop_words)
        low, high = self.ngram_range
        if not left_out and (low, high) == (1, 1):
            return lambda text: find(prepare(text))

        def terms(text: str) -> Iterable[str]:
            words = find(prepare(text))
            if left_out:
                words = [word for word in words if word not in left_out]
            return _word_ngrams(words, low, high) if high > 1 else words

        return terms

    def _prepare(self, text: str) -> str:
        if self.lowercase:
            text = text.lower()
        return text if self.strip_accents is None else _STRIP[self.strip_accents](text)

    def _grams_of_text(self, text: str) -> Iterator[str]:
        low, high = self.ngram_range
        for size in range(low, min(high, len(text)) + 1):
            for start in range(len(text) - size + 1):
                yield text[start : start + size]

    def _grams_of_words(self, text: str) -> Iterator[str]:
        """Yield the n-grams of each word, padded by a space on both sides. Yield a word that is too short once."""
        low, high = self.ngram_range
        for word in text.split():
            padded = f" {word} "
            for size in range(low, high + 1):
                yield padded[:size]
                for start in range(1, len(padded) - size + 1):
                    yield padded[start : start + size]
                if size >= len(padded):
                    break


def _word_ngrams(words: list[str], low: int, high: int) -> Iterator[str]:
    """Yield all runs of `low` to `high` words."""
    runs = (zip(*(words[start:] for start in range(size)), strict=False) for size in range(low, high + 1))
    return map(" ".join, chain.from_iterable(runs))


def _without_accents(text: str) -> str:
    if text.isascii():
        return text
    return "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ASCII", "ignore").decode("ASCII")


_STRIP: dict[str, Callable[[str], str]] = {"ascii": _ascii, "unicode": _without_accents}
