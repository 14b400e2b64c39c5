"""Text vectorizers: words as counts, and counts as tf-idf.

Words are found by ONNX Runtime's Tokenizer, a regular expression of RE2. What is a letter in Python is written out as
ranges of code points, since RE2 has a Unicode of its own. Lower case is glibc's, letter by letter, which is Python's
but for two letters: `İ`, of whose two lower-case characters only the first belongs to the word, ends a word; and the
`Σ` at the end of a word, for which a graph would have to know the letters around it.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from app.packing.exporters.graph import CONTRIB, Features, Graph, NotExportable, Predict, Tensor, Transform

WORDS = r"(?u)\b\w\w+\b"
LOCALE = "C.UTF-8"
PADDING = "\x00"
DOTTED_I = "\u0130"
SIGMAS = {"\u03c3", "\u03c2"}
LAST_POINT = 0x10FFFF


def count(g: Graph, est: Any, features: Features) -> Features:
    """`CountVectorizer.transform`, dense: how often each term occurs, shape (rows, terms).

    Raises:
        NotExportable: an option needs what the tokenizer of a graph cannot do.
    """
    counts = _counts(g, est, features)
    if est.binary:
        return (g.cast(g.node("Greater", [counts, g.constant(0.0)], "bool", counts.width), "float64"),)
    return (counts,)


def tfidf_vectorizer(g: Graph, est: Any, features: Features) -> Features:
    """`TfidfVectorizer.transform`, dense: counts, then as `TfidfTransformer`."""
    if np.dtype(est.dtype) != np.float64:
        raise NotExportable(f"it computes in {np.dtype(est.dtype)}")
    return tfidf(g, est._tfidf, count(g, est, features))


def tfidf(g: Graph, est: Any, features: Features) -> Features:
    """`TfidfTransformer.transform`, dense: counts times idf, each row divided by its norm unless that is 0."""
    x = g.matrix(features)
    width = x.width
    if est.sublinear_tf:
        none = g.node("Equal", [x, g.constant(0.0)], "bool", width)
        log = g.node("Add", [g.node("Log", [x], "float64", width), g.constant(1.0)], "float64", width)
        x = g.node("Where", [none, x, log], "float64", width)
    if est.use_idf:
        x = g.node("Mul", [x, g.constant(est.idf_)], "float64", width)
    if est.norm is None:
        return (x,)
    axis = g.constant([1], "int64")
    if est.norm == "l1":
        norm = g.node("ReduceL1", [x, axis], "float64", 1)
    else:
        norm = g.node("Sqrt", [g.node("ReduceSumSquare", [x, axis], "float64", 1)], "float64", 1)
    empty = g.node("Equal", [norm, g.constant(0.0)], "bool", 1)
    norm = g.node("Where", [empty, g.constant(1.0), norm], "float64", 1)
    return (g.node("Div", [x, norm], "float64", width),)


def _counts(g: Graph, est: Any, features: Features) -> Tensor:
    grams = _grams(est)
    words = {word for gram in grams for word in gram}
    # A word that is no one's at the end of each text, since the nodes want at least one.
    last = next(word for length in range(2, len(words) + 3) if (word := "_" * length) not in words)
    (column,) = features
    texts = g.node("Squeeze", [column, g.constant([1], "int64")], "string", None)
    texts = g.node("StringConcat", [texts, g.constant(f" {last}", "string")], "string", None)
    pattern = _word_pattern(est.lowercase)
    tokens = g.node(
        "Tokenizer", [texts], "string", None, CONTRIB, mark=0, mincharnum=1, pad_value=PADDING, tokenexp=pattern
    )
    if est.lowercase:
        shape = g.node("Shape", [tokens], "int64", None)
        flat = g.node("Reshape", [tokens, g.constant([-1], "int64")], "string", None)
        lower = g.node(
            "StringNormalizer", [flat], "string", None, case_change_action="LOWER", is_case_sensitive=1, locale=LOCALE
        )
        tokens = g.node("Reshape", [lower, shape], "string", None)
    low, high = est.ngram_range
    ordered = sorted(grams.items(), key=lambda pair: len(pair[0]))
    lengths = [len(gram) for gram, _ in ordered]
    starts = [sum(n * (length == n) for length in lengths for n in range(1, size)) for size in range(1, high + 1)]
    counts = g.node(
        "TfIdfVectorizer",
        [tokens],
        "float32",
        len(grams),
        mode="TF",
        min_gram_length=low,
        max_gram_length=high,
        max_skip_count=0,
        ngram_counts=starts,
        ngram_indexes=[int(index) for _, index in ordered],
        pool_strings=[word for gram, _ in ordered for word in gram],
    )
    return g.cast(counts, "float64")


def _grams(est: Any) -> dict[tuple[str, ...], int]:
    """The vocabulary: the words of each term, and its column."""
    for option, only in (("analyzer", "word"), ("tokenizer", None), ("preprocessor", None), ("strip_accents", None)):
        if getattr(est, option) != only:
            raise NotExportable(f"its {option} is {getattr(est, option)!r}")
    if est.input != "content":
        raise NotExportable(f"its input is {est.input}")
    if est.token_pattern != WORDS:
        raise NotExportable(f"its token_pattern is {est.token_pattern!r}")
    grams = {tuple(term.split(" ")): index for term, index in est.vocabulary_.items()}
    low, high = est.ngram_range
    if any(not low <= len(gram) <= high for gram in grams):
        raise NotExportable("its vocabulary has terms that no text has")
    words = {word for gram in grams for word in gram}
    stop_words = est.get_stop_words() or ()
    if stop_words and (high > 1 or words.intersection(stop_words)):
        raise NotExportable("it joins words over stop words that it leaves out")
    if est.lowercase and any(SIGMAS.intersection(word) for word in words):
        raise NotExportable("its vocabulary has the letter sigma, whose lower case depends on the letters around it")
    return grams


@functools.cache
def _word_pattern(lowercase: bool) -> str:
    """Python's `\\w\\w+` between word boundaries, for RE2: letters by Python's own table."""
    if not lowercase:
        return f"{_letters('')}{{2,}}"
    letters = _letters(DOTTED_I)
    return f"{letters}+{DOTTED_I}|{letters}{{2,}}"


def _letters(left_out: str) -> str:
    ranges: list[list[int]] = []
    for point in range(LAST_POINT + 1):
        letter = chr(point)
        if (letter.isalnum() or letter == "_") and letter != left_out:
            if ranges and ranges[-1][1] == point - 1:
                ranges[-1][1] = point
            else:
                ranges.append([point, point])
    return "[" + "".join(f"\\x{{{first:x}}}-\\x{{{last:x}}}" for first, last in ranges) + "]"


TRANSFORMERS: dict[str, Transform] = {
    "CountVectorizer": count,
    "TfidfVectorizer": tfidf_vectorizer,
    "TfidfTransformer": tfidf,
}
PREDICTORS: dict[str, Predict] = {}
