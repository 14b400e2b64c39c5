"""Make rows on which a graph might differ from its estimator: at thresholds, between known values, and far outside.

The signature accepts every row, since other rows never reach a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.inspect import WRAPPERS, flat
from app.packing.probe import Record
from app.signature import Input, Layout, Signature
from app.signature.kinds import rule_of

MIXED_ROWS = 1500
MAX_THRESHOLDS = 4000
MAX_ROWS_ONE_BY_ONE = 8000
MAX_VALUES_ONE_BY_ONE = 200
LINES = 200
MOST_TURNS = 35
"""Most calls of a model to enclose the steps. Each divides the lines by four."""
NEAR = (2.0**-44, 2.0**-32, 2.0**-16)
"""The points of the first call, as fractions of a line. Smooth answers have changed near its beginning already."""
QUARTERS = (0.25, 0.5, 0.75)
"""The points of the other calls."""
TEXTS = (
    "", " ", "a", "some text, and some more", "ÄÖÜ ß İstanbul", "日本語 テキスト", "don't stop 3.14 A_B x-y",
    "\n\t", "🙂",
)  # fmt: skip
INT64_LIMIT = 2**53
FLOATS: tuple[type[np.floating[Any]], ...] = (np.float64, np.float32)


class Pools:
    """Values to try for each input, in and far outside its known range, by a generator with a fixed seed."""

    def __init__(self, signature: Signature, records: Sequence[Record]) -> None:
        self.signature = signature
        self.records = records
        self.random = np.random.default_rng(0)
        self.near = {spec.name: self._values(spec, far=False) for spec in signature.inputs}
        self.far = {spec.name: self._values(spec, far=True) for spec in signature.inputs}

    def mixed(self, rows: int, far: bool) -> list[Record]:
        """Return rows in which each input has a value of its pool."""
        pools = self.far if far else self.near
        drawn = {name: self.random.integers(0, len(pool), rows) for name, pool in pools.items()}
        return [{name: pools[name][drawn[name][row]] for name in pools} for row in range(rows)]

    def one_by_one(self) -> Iterator[Record]:
        """Yield known rows in which one input has another value of its pool.

        With many inputs, fewer values of each are tried, so that the number of rows is limited.
        """
        most = min(MAX_VALUES_ONE_BY_ONE, max(1, MAX_ROWS_ONE_BY_ONE // len(self.far)))
        for name, pool in self.far.items():
            values = pool[:MAX_VALUES_ONE_BY_ONE]
            if len(values) > most:
                values = [values[at] for at in sorted(self.random.choice(len(values), most, replace=False).tolist())]
            for position, value in enumerate(values):
                yield self.records[position % len(self.records)] | {name: value}

    def crossed(self, rows: int) -> list[Record]:
        """Return rows whose values come from different known rows."""
        drawn = {name: self.random.integers(0, len(self.records), rows) for name in self.signature.names}
        return [{n: self.records[drawn[n][row]][n] for n in self.signature.names} for row in range(rows)]

    def _values(self, spec: Input, far: bool) -> list[Any]:
        seen = list(dict.fromkeys(record[spec.name] for record in self.records))[:200]
        values: list[Any] = [0.0]
        if spec.kind in ("number", "integer"):
            values = self._numbers(spec, [v for v in seen if v is not None], far)
        elif spec.kind == "category":
            unseen = list(TEXTS) if str in map(type, spec.categories or ()) else [-1, 0.5, 10**6]
            values = [*(spec.categories or ()), *([] if spec.closed else unseen)]
        elif spec.kind == "boolean":
            values = [True, False]
        elif spec.kind == "timestamp":
            values = seen
        elif spec.kind == "text":
            values = [*(v for v in seen if v is not None), *TEXTS, *self._shuffled_words(seen)]
        rule = rule_of(spec)
        return [value for value in [*values, None] if rule(value) is None]

    def _numbers(self, spec: Input, seen: list[float], far: bool) -> list[float]:
        low = min([*seen, *([] if spec.minimum is None else [spec.minimum])], default=-1.0)
        high = max([*seen, *([] if spec.maximum is None else [spec.maximum])], default=1.0)
        span = (high - low) or max(abs(high), 1.0)
        values = [*seen, low, high, *self.random.uniform(low - 0.2 * span, high + 0.2 * span, 50).tolist()]
        if far:
            magnitudes = [1e-300, 1e-12, 1e-5, 1.0, 1e3, 1e7, 1e12]
            values += [0.0, -0.0, low - span, high + span, low - 10 * span, high + 10 * span]
            values += [sign * m for m in magnitudes for sign in (1.0, -1.0)]
            values += [float(np.nextafter(v, to)) for v in (low, high) for to in (-np.inf, np.inf)]
            values += [end for end in (spec.least, spec.most) if end is not None]
        if spec.kind == "integer":
            limits = np.iinfo(spec.dtype)
            least, most = max(limits.min, -INT64_LIMIT), min(limits.max, INT64_LIMIT)
            return list(dict.fromkeys(int(min(max(round(v), least), most)) for v in values))
        return values

    def _shuffled_words(self, seen: list[Any]) -> list[str]:
        words = [word for text in seen if isinstance(text, str) for word in text.split()][:500]
        return [" ".join(self.random.choice(words, 8)) for _ in range(50)] if words else []


def thresholds(estimator: Any, pools: Pools) -> Iterator[Record]:
    """Yield rows with one input at, or next to, a split threshold of a tree that takes the inputs of the model."""
    signature = pools.signature
    found: list[tuple[int, float]] = []
    if signature.layout is not Layout.SEQUENCE:
        found = thresholds_of(estimator, len(signature.inputs))
    if len(found) > MAX_THRESHOLDS:
        found = [found[i] for i in pools.random.choice(len(found), MAX_THRESHOLDS, replace=False)]
    for turn, (position, threshold) in enumerate(found):
        spec = signature.inputs[position]
        if spec.kind == "number" and np.isfinite(threshold):
            beside = [np.nextafter(kind(threshold), kind(end)) for kind in FLOATS for end in (-np.inf, np.inf)]
            for value in (threshold, *beside):
                yield pools.records[turn % len(pools.records)] | {spec.name: float(value)}


def thresholds_of(estimator: Any, width: int) -> list[tuple[int, float]]:
    """Return the (input, threshold) pairs of all splits of the trees that take the `width` inputs of the model."""
    found: set[tuple[int, float]] = set()

    def collect(part: Any) -> None:
        if getattr(part, "n_features_in_", width) != width:
            return
        tree = getattr(part, "tree_", None)
        if tree is not None:
            splits = zip(tree.feature.tolist(), tree.threshold.tolist(), strict=True)
            found.update((feature, threshold) for feature, threshold in splits if feature >= 0)
        for predictor in flat(getattr(part, "_predictors", [])):
            nodes = predictor.nodes[~predictor.nodes["is_leaf"].astype(bool)]
            found.update(zip(nodes["feature_idx"].tolist(), nodes["num_threshold"].tolist(), strict=True))
        for name in WRAPPERS:
            for inner in flat(getattr(part, name, None)):
                if hasattr(inner, "predict"):
                    collect(inner)

    collect(estimator)
    return sorted(found)


def boundaries(answers: Callable[[list[Record]], NDArray[Any]], pools: Pools) -> list[Record]:
    """Return rows on both sides of a step in the answers of a model, one floating-point number apart.

    One number of a row is moved from one value to another, and the point where the answer changes is enclosed until
    both sides are neighbours. This also finds steps behind a scaler or a product of columns. `answers` gives one value
    for each row.
    """
    numbers = [spec.name for spec in pools.signature.inputs if spec.kind == "number"]
    if not numbers:
        return []
    rows = pools.crossed(LINES)
    names = [numbers[turn % len(numbers)] for turn in range(LINES)]
    pool = {name: [v for v in pools.near[name] if v is not None] for name in set(names)}
    ends = np.array([pools.random.choice(pool[name], 2) for name in names])
    low, high = ends.min(axis=1), ends.max(axis=1)

    def at(values: NDArray[np.float64]) -> list[Record]:
        return [row | {name: float(v)} for row, name, v in zip(rows, names, values, strict=True)]

    steps = np.flatnonzero(answers(at(low)) != answers(at(high)))
    if not len(steps):
        return []
    rows, names = [rows[line] for line in steps], [names[line] for line in steps]
    low, high = low[steps], high[steps]

    def at_points(points: NDArray[np.float64]) -> NDArray[Any]:
        """Return the answers at several points of each line, shape (points, lines), by one call, which saves time."""
        return answers([record for values in points for record in at(values)]).reshape(points.shape)

    # The last bits of an answer may depend on its position in the batch. So compare answers at the same position.
    at_low, lines = at_points(np.tile(low, (len(QUARTERS), 1))), np.arange(len(steps))
    for turn in range(MOST_TURNS):
        if bool((np.nextafter(low, np.inf) >= high).all()):
            break
        points = low + np.outer(QUARTERS if turn else NEAR, high - low)
        unchanged = np.logical_and.accumulate(at_points(points) == at_low).sum(axis=0)
        enclosing = np.vstack([low, points, high])
        low, high = enclosing[unchanged, lines], enclosing[unchanged + 1, lines]
    sides = [low, high, np.nextafter(low, -np.inf), np.nextafter(high, np.inf)]
    return [record for side in sides for record in at(side)]


def stress_rows(
    estimator: Any, signature: Signature, records: Sequence[Record], answers: Callable[[list[Record]], NDArray[Any]]
) -> list[Record]:
    """Return the records and all kinds of stress rows; `answers` gives one value for each row."""
    pools = Pools(signature, records)
    rules = {spec.name: rule_of(spec) for spec in signature.inputs if spec.kind in ("number", "integer")}
    beside = [*boundaries(answers, pools), *thresholds(estimator, pools)]
    return [
        *records,
        *pools.crossed(MIXED_ROWS),
        *pools.mixed(MIXED_ROWS, far=False),
        *(row for row in beside if all(rule(row[name]) is None for name, rule in rules.items())),
        *pools.one_by_one(),
        *pools.mixed(MIXED_ROWS, far=True),
    ]
