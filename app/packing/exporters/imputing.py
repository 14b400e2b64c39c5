"""Imputers, which replace missing values, and indicators of missing values."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from app.packing.exporters.graph import Features, Graph, NotExportable, Tensor, transformer
from app.packing.releases import KNOWS_EMPTY_COLUMNS, empty_columns, imputed_values, keeps_empty_columns
from app.runtime.graph import MISSING_TEXT


@transformer("SimpleImputer")
def simple(g: Graph, est: Any, features: Features) -> Features:
    """`SimpleImputer.transform`: missing values replaced by the statistic of their column, then the indicator.

    Columns that were all missing in training have no statistic and are left out, unless the option keeps them.
    """
    if est.strategy in ("mean", "median"):
        features = (g.matrix(features),)
    keeps_empty = keeps_empty_columns(est)
    kept = [i for i, value in enumerate(est.statistics_.tolist()) if keeps_empty or value == value]
    fills = imputed_values(est)[kept].tolist()
    blocks: list[Tensor] = []
    for block in _merged(g, g.select(features, kept)):
        fill, fills = fills[: block.width], fills[block.width :]
        blocks.append(_filled(g, block, est.missing_values, fill))
    return (*blocks, *_indicator(g, est, features))


def _merged(g: Graph, features: Features) -> Features:
    """Join neighbouring blocks of one element type, so that there are fewer nodes."""
    return tuple(g.concat(list(blocks)) for _, blocks in itertools.groupby(features, key=lambda block: block.type))


def _filled(g: Graph, block: Tensor, missing_values: Any, fill: list[Any]) -> Tensor:
    missing = _missing(g, block, missing_values)
    if missing is None:
        return block
    if any(isinstance(value, str) != (block.type == "string") for value in fill):
        raise NotExportable("it fills a column with values of another type")
    filled = g.where(missing, fill, block)
    if block.type == "string" and not isinstance(missing_values, str):
        g.note_filled(filled, block, fill)
    return filled


def _missing(g: Graph, block: Tensor, missing_values: Any) -> Tensor | None:
    """`sklearn.utils._mask._get_mask`: whether each value is missing, shape of the block; None if none can be."""
    is_value = isinstance(missing_values, str | int | float | np.number) and missing_values == missing_values
    if not is_value and block.type != "string":
        return block.isnan() if block.type == "float64" else None
    wanted = missing_values if is_value else MISSING_TEXT
    if isinstance(wanted, str) != (block.type == "string") or (block.type == "int64" and wanted != int(wanted)):
        return None
    return block.equal(wanted)


def _mask(g: Graph, block: Tensor, missing_values: Any) -> Tensor:
    missing = _missing(g, block, missing_values)
    return ~block.equal(block) if missing is None else missing


def _indicator(g: Graph, est: Any, features: Features) -> Features:
    return missing_indicator(g, est.indicator_, features) if est.add_indicator else ()


@transformer("MissingIndicator")
def missing_indicator(g: Graph, est: Any, features: Features) -> Features:
    """`MissingIndicator.transform`: whether values are missing, for columns that had missing values in training."""
    blocks = _merged(g, g.select(features, est.features_.tolist()))
    return tuple(g.cast(_mask(g, block, est.missing_values), "float64") for block in blocks)


@transformer("IterativeImputer")
def iterative(g: Graph, est: Any, features: Features) -> Features:
    """`IterativeImputer.transform`: missing values of a column are predicted from the others, in several rounds.

    A batch in which all values are missing keeps the initial imputation, as in scikit-learn.
    """
    if est.sample_posterior:
        raise NotExportable("it draws imputed values at random")
    if est.keep_empty_features and not KNOWS_EMPTY_COLUMNS:
        raise NotExportable("it keeps empty columns, which scikit-learn before 1.6 confuses with the others")
    x, empty = g.matrix(features), empty_columns(est)
    current = first = g.matrix(g.transform(est.initial_imputer_, (x,)))
    kept = range(x.width or 0) if est.keep_empty_features else np.flatnonzero(~empty).tolist()
    missing = _mask(g, g.matrix(g.select((x,), kept)), est.missing_values)
    if est.keep_empty_features and empty.any():
        missing = missing & ~empty
    columns = np.eye(current.width or 0, dtype=bool)
    for step in est.imputation_sequence_ if est.n_iter_ else ():
        seen = g.select((current,), step.neighbor_feat_idx.tolist())
        predicted = g.predict(step.estimator, seen)["prediction"].unsqueeze(1)
        limits = [g.constant(float(bound[step.feat_idx])) for bound in (est._min_value, est._max_value)]
        predicted = predicted.clip(*limits)
        current = g.where(missing & columns[step.feat_idx], predicted, current)
    if current is not first:
        current = g.where(g.any(~missing), current, first)
    return (current, *_indicator(g, est, (x,)))
