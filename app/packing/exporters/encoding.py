"""Encoders: categories as numbers or indicator columns; text vectorizers: words as counts, and counts as tf-idf.

Words are counted before the graph runs, by the regular expressions that scikit-learn uses: see `app.runtime.terms`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from app.packing.exporters.builder import ML
from app.packing.exporters.formulas import norms
from app.packing.exporters.graph import Features, Graph, NotExportable, Tensor, transformer
from app.packing.releases import dropped_groups, infrequent_mapping
from app.runtime.graph import MISSING_TEXT
from app.runtime.terms import TermCounter

UNSEEN = 0
"""The number that stands for a value that is not a category of any column; categories are numbered from 1."""

MAX_LOOKED_UP_ALONE = 3
"""The most columns with missing strings that are looked up one by one; more are filled and looked up together."""

SPARSE_FROM = 256
"""From this number of categories on, indicator columns are scattered; with fewer, all are compared."""

MAX_TABLE = 1_000_000
"""The most elements in a table of all columns; beyond it, each column has its own table."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """Columns of categories as numbers, shape (rows, columns). All columns share one numbering.

    `numbers` has the number of each category by column; -1 for a category that no value can be equal to.
    """

    tensor: Tensor
    numbers: list[NDArray[np.int64]]


@transformer("OneHotEncoder")
def one_hot(g: Graph, est: Any, features: Features) -> Features:
    """`OneHotEncoder.transform`, dense: 1 if the value is the category, or in the group of infrequent categories."""
    groups = [_groups(est, column) for column in range(len(est.categories_))]
    dropped = dropped_groups(est)
    numbered = _numbered(g, est, features)
    unknown_is_infrequent = est.handle_unknown in ("infrequent_if_exist", "warn")
    unknown = [
        int(group.max()) if unknown_is_infrequent and infrequent_mapping(est, column) is not None else -1
        for column, group in enumerate(groups)
    ]
    if sum(group.max(initial=-1) + 1 for group in groups) >= SPARSE_FROM:
        return (_sparse_indicators(g, numbered, groups, unknown, dropped),)
    if any(infrequent_mapping(est, column) is not None for column in range(len(groups))):
        codes = _looked_up(g, numbered, groups, unknown, "int64")
        wanted = [np.arange(group.max() + 1) for group in groups]
    else:
        codes, wanted = numbered.tensor, numbered.numbers
    outputs = [
        (column, number)
        for column, numbers in enumerate(wanted)
        for position, number in enumerate(numbers.tolist())
        if dropped is None or dropped[column] != position
    ]
    if len(groups) > 1:
        codes = g.take(codes, [column for column, _ in outputs], axis=1)
    expected = g.constant([number for _, number in outputs], "int64")
    return (g.cast(codes.equal(expected), "float64"),)


def _sparse_indicators(
    g: Graph, numbered: Numbered, groups: Sequence[NDArray[np.int64]], unknown: Sequence[int], dropped: Any
) -> Tensor:
    """Return indicator columns by scattering the ones of each row, which are few among many categories."""
    kept = [
        (column, group)
        for column, known in enumerate(groups)
        for group in range(known.max(initial=-1) + 1)
        if dropped is None or dropped[column] != group
    ]
    width = len(kept)
    place = {pair: position for position, pair in enumerate(kept)}
    values = [np.array([place.get((column, int(k)), width) for k in known]) for column, known in enumerate(groups)]
    others = [place.get((column, group), width) for column, group in enumerate(unknown)]
    columns = _looked_up(g, numbered, values, others, "int64")
    is_kept = g.node("Less", [columns, g.constant(width, "int64")], "bool", None)
    return g.scatter(columns, g.cast(is_kept, "float64"), width)


@transformer("OrdinalEncoder")
def ordinal(g: Graph, est: Any, features: Features) -> Features:
    """`OrdinalEncoder.transform`: the position of the category, shape (rows, columns)."""
    values = [_groups(est, column).astype(est.dtype).astype(np.float64) for column in range(len(est.categories_))]
    for column, position in est._missing_indices.items():
        values[column][position] = est.encoded_missing_value
    unknown = est.unknown_value if est.handle_unknown == "use_encoded_value" else -1.0
    return (_looked_up(g, _numbered(g, est, features), values, [unknown] * len(values), "float64"),)


@transformer("TargetEncoder")
def target(g: Graph, est: Any, features: Features) -> Features:
    """`TargetEncoder.transform`: the encoding of the category; for an unknown category, the mean of the target.

    Returns shape (rows, columns), or (rows, columns x classes) with more than two classes.
    """
    numbered = _numbered(g, est, features)
    count = len(est.categories_)
    if est.target_type_ != "multiclass":
        return (_looked_up(g, numbered, est.encodings_, [est.target_mean_] * count, "float64"),)
    classes = len(est.classes_)
    encodings = [np.stack(est.encodings_[i * classes : (i + 1) * classes], axis=1) for i in range(count)]
    return (_looked_up(g, numbered, encodings, [est.target_mean_] * count, "float64"),)


def _groups(est: Any, column: int) -> NDArray[np.int64]:
    """Return the group of each category of a column, like `_BaseEncoder._map_infrequent_categories`."""
    positions = np.arange(len(est.categories_[column]))
    mapping = infrequent_mapping(est, column)
    if mapping is not None:  # `mapping` lacks a missing category that is kept apart, which is the last
        positions[: len(mapping)] = mapping
    return positions


def _numbered(g: Graph, est: Any, features: Features) -> Numbered:
    """Replace every value by a number; columns of one type are looked up together."""
    categories = list(est.categories_)
    runs: list[tuple[str, list[Tensor], list[Any]]] = []
    for block in features:
        known, categories = categories[: block.width], categories[block.width :]
        is_integer = block.type == "int64" and all(np.asarray(c).dtype.kind in "biu" for c in known)
        type_ = block.type if block.type == "string" or is_integer else "float64"
        if not runs or runs[-1][0] != type_:
            runs.append((type_, [], []))
        runs[-1][1].append(g.cast(block, type_))
        runs[-1][2].extend(known)
    tensors: list[Tensor] = []
    numbers: list[NDArray[np.int64]] = []
    count = UNSEEN
    for type_, blocks, known in runs:
        keys = [_keys(c, type_) for c in known]
        number_of: dict[Any, int] = {}
        for key in (key for column in keys for key in column if key is not None):
            number_of.setdefault(key, count + len(number_of) + 1)
        numbers += [np.array([-1 if key is None else number_of[key] for key in column]) for column in keys]
        unfilled = g.before_filling(blocks[0]) if len(blocks) == 1 else None
        if unfilled is None or len(unfilled) > MAX_LOOKED_UP_ALONE:
            tensors.append(_encoded(g, g.concat(blocks), type_, number_of))
        else:
            for column, text in unfilled:
                missing = {MISSING_TEXT: number_of.get(text, UNSEEN)}
                tensors.append(_encoded(g, column, type_, number_of | missing))
        count += len(number_of)
    return Numbered(g.concat(tensors), numbers)


def _keys(categories: Any, type_: str) -> list[Any]:
    """Return the categories as keys of a lookup.

    A missing category becomes `MISSING_TEXT` or "nan", or None if no value can be equal to it.
    """
    values = np.asarray(categories).tolist()
    keys: list[Any] = []
    for value in values:
        if value is None or value != value:
            # An encoder that has learned None receives missing values as None, never as NaN.
            can_occur = value is None or None not in values
            keys.append((MISSING_TEXT if type_ == "string" else "nan") if can_occur else None)
        elif isinstance(value, str) != (type_ == "string"):
            raise NotExportable("its categories are of another type than the column")
        else:
            keys.append(value)
    return keys


def _encoded(g: Graph, x: Tensor, type_: str, number_of: dict[Any, int]) -> Tensor:
    dtype = object if type_ == "string" else type_
    keys = np.array([np.nan if key == "nan" and type_ != "string" else key for key in number_of], dtype=dtype)
    return g.node(
        "LabelEncoder",
        [x],
        "int64",
        x.width,
        ML,
        keys_tensor=numpy_helper.from_array(keys, "keys"),
        values_tensor=numpy_helper.from_array(np.array(list(number_of.values()), dtype=np.int64), "values"),
        default_tensor=numpy_helper.from_array(np.array([UNSEEN], dtype=np.int64), "default"),
    )


def _looked_up(
    g: Graph, numbered: Numbered, values: Sequence[NDArray[Any]], unknown: Sequence[Any], type_: str
) -> Tensor:
    """Look up the value of each category, or `unknown` for a value that is not a category of its column.

    Returns:
        Shape (rows, columns), or (rows, columns x k) if each category has k values.
    """
    width = 1 + max(int(numbers.max(initial=0)) for numbers in numbered.numbers)
    shape = np.shape(values[0])[1:]
    columns = len(values)
    if columns > 1 and columns * width * int(np.prod(shape)) > MAX_TABLE:
        parts = [
            _looked_up(g, _column(g, numbered, i), values[i : i + 1], unknown[i : i + 1], type_) for i in range(columns)
        ]
        return g.concat(parts)
    table = np.empty((columns, width, *shape), dtype=type_)
    for column, numbers in enumerate(numbered.numbers):
        table[column] = unknown[column]
        table[column, numbers[numbers > 0]] = np.asarray(values[column])[numbers > 0]
    codes = numbered.tensor
    if columns > 1:
        codes = codes + (np.arange(columns) * width)
    found = g.node("Gather", [g.constant(table.reshape(-1, *shape), type_), codes], type_, columns, axis=0)
    if not shape:
        return found
    return g.node("Reshape", [found, g.constant([0, columns * shape[0]], "int64")], type_, columns * shape[0])


def _column(g: Graph, numbered: Numbered, column: int) -> Numbered:
    """Return one column with its own numbering, so that its table has no entries for other columns."""
    (tensor,) = g.select((numbered.tensor,), [column])
    known = numbered.numbers[column]
    number_of = {int(number): position + 1 for position, number in enumerate(known) if number > 0}
    numbers = np.array([number_of.get(int(number), -1) for number in known])
    return Numbered(_encoded(g, tensor, "int64", number_of), [numbers])


ANALYZERS = ("word", "char", "char_wb")


@transformer("CountVectorizer")
def count(g: Graph, est: Any, features: Features) -> Features:
    """`CountVectorizer.transform`: the count of each term, or whether it occurs (`binary`): shape (rows, terms)."""
    (column,) = features
    counter = _counter(est, column.name)
    if column.name not in g.inputs:
        raise NotExportable("its texts are changed before it counts their words")
    columns, values = g.terms(column, counter)
    if est.binary:
        values = g.cast(values > 0.0, "float64")
    return (g.scatter(columns, values, len(counter.vocabulary)),)


@transformer("TfidfVectorizer")
def tfidf_vectorizer(g: Graph, est: Any, features: Features) -> Features:
    """`TfidfVectorizer.transform`, dense: counts, then `TfidfTransformer.transform`."""
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
    idf = g.take(np.append(est.idf_, 0.0), columns) if est.use_idf else None
    return (g.scatter(columns, _weighted(g, est, values, idf), x.width or 0),)


def _weighted(g: Graph, est: Any, x: Tensor, idf: Tensor | None) -> Tensor:
    """Return the weighted counts of each row; `x` has the counts of all terms, or only of the terms in the row."""
    width = x.width
    if est.sublinear_tf:
        x = g.where(x.equal(0.0), x, x.log() + 1.0)
    if idf is not None:
        x = x * idf
    if est.norm is None:
        return x
    norm = norms(g, x, est.norm)
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
