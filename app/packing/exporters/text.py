"""Text vectorizers: words as counts, and counts as tf-idf.

The words are counted before the graph runs, by the regular expressions that scikit-learn uses: see `app.runtime.terms`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from app.packing.exporters.graph import Features, Graph, NotExportable, Tensor, transformer
from app.runtime.terms import TermCounter

ANALYZERS = ("word", "char", "char_wb")


@transformer("CountVectorizer")
def count(g: Graph, est: Any, features: Features) -> Features:
    """`CountVectorizer.transform`: the count of each term, or with `binary` whether it occurs, shape (rows, terms)."""
    (column,) = features
    counter = _counter(est, column.name)
    columns, values = g.terms(column, counter)
    if est.binary:
        values = g.cast(values > 0.0, "float64")
    return (g.scattered(columns, values, len(counter.vocabulary)),)


@transformer("TfidfVectorizer")
def tfidf_vectorizer(g: Graph, est: Any, features: Features) -> Features:
    """`TfidfVectorizer.transform`, dense: counts, then as `TfidfTransformer`."""
    if np.dtype(est.dtype) != np.float64:
        raise NotExportable(f"it computes in {np.dtype(est.dtype)}")
    return tfidf(g, est._tfidf, count(g, est, features))


@transformer("TfidfTransformer")
def tfidf(g: Graph, est: Any, features: Features) -> Features:
    """`TfidfTransformer.transform`: counts times idf, each row divided by its norm unless that is 0."""
    x = g.matrix(features)
    sparse = g.sparse(x)
    if sparse is None:
        return (_weighted(g, est, x, g.constant(est.idf_) if est.use_idf else None),)
    columns, values = sparse
    idf = None
    if est.use_idf:
        idf = g.take(np.append(est.idf_, 0.0), columns)
    return (g.scattered(columns, _weighted(g, est, values, idf), x.width or 0),)


def _weighted(g: Graph, est: Any, x: Tensor, idf: Tensor | None) -> Tensor:
    """Weight the counts of a row, of all terms or only of those that it has."""
    width = x.width
    if est.sublinear_tf:
        x = g.where(x.equal(0.0), x, x.log() + 1.0)
    if idf is not None:
        x = x * idf
    if est.norm is None:
        return x
    axis = g.constant([1], "int64")
    if est.norm == "l1":
        norm = g.node("ReduceL1", [x, axis], "float64", 1)
    else:
        norm = g.node("ReduceSumSquare", [x, axis], "float64", 1).sqrt()
    norm = g.where(norm.equal(0.0), 1.0, norm)
    return g.node("Div", [x, norm], "float64", width)


def _counter(est: Any, column: str) -> TermCounter:
    for option in ("tokenizer", "preprocessor"):
        if getattr(est, option) is not None:
            raise NotExportable(f"its {option} is {getattr(est, option)!r}")
    if est.analyzer not in ANALYZERS or est.strip_accents not in (None, "ascii", "unicode"):
        raise NotExportable("it splits texts by a function")
    if est.input != "content":
        raise NotExportable(f"its input is {est.input}")
    low, high = est.ngram_range
    return TermCounter(
        column,
        {term: int(position) for term, position in est.vocabulary_.items()},
        est.analyzer,
        (int(low), int(high)),
        bool(est.lowercase),
        est.strip_accents,
        est.token_pattern,
        tuple(sorted(est.get_stop_words() or ())),
    )
