"""The cases: the sides of each, their requests, and the required ratios."""

# ruff: noqa: RUF001 - a multiplication sign is one

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

OURS = "retort"
OURS_ALL = "retort_probabilities"
OURS_EXPLAINED = "retort_explained"
OURS_UNBATCHED = "retort_unbatched"
TUTORIAL = "fastapi_tutorial"
FLASK = "flask_tutorial"
ONNX = "fastapi_onnx"
SHAP = "fastapi_shap"
WAITING = "fastapi_waiting"
WAITING_AIOHTTP = "fastapi_aiohttp"
ALONE, BESIDE_IDLE = "alone", "beside_idle"
MLSERVER = "mlserver"
LITSERVE = "litserve"
BARE_WSGI = "bare_wsgi"
BARE_FLASK = "bare_flask"
OURS_GTHREAD = "retort_gthread"
BARE_FLASK_GTHREAD = "bare_flask_gthread"
OURS_LOGGED = "retort_access_log"
OURS_OPERATED = "retort_operated"
OURS_WITHOUT = "retort_no_interceptors"
OURS_HOOKED = "retort_through_flask"

LABELS = {
    OURS: "Retort",
    OURS_ALL: "Retort, with probabilities",
    OURS_EXPLAINED: "Retort, with an explanation",
    OURS_UNBATCHED: "Retort without micro-batching",
    TUTORIAL: "FastAPI, the tutorial",
    FLASK: "Flask, the tutorial",
    ONNX: "FastAPI + ONNX Runtime, by hand",
    SHAP: "FastAPI + shap, by hand",
    MLSERVER: "MLServer",
    LITSERVE: "LitServe",
    WAITING: "FastAPI, an async view with httpx",
    WAITING_AIOHTTP: "FastAPI, an async view with aiohttp",
    ALONE: "Retort, a lone client",
    BESIDE_IDLE: "Retort, beside 5,000 idle connections",
    BARE_WSGI: "a bare WSGI application",
    BARE_FLASK: "a bare Flask view",
    OURS_GTHREAD: "Retort under gthread",
    BARE_FLASK_GTHREAD: "a bare Flask view under gthread",
    OURS_LOGGED: "Retort with its access log",
    OURS_OPERATED: "Retort with keys, limits and access log",
    OURS_WITHOUT: "Retort without interceptors",
    OURS_HOOKED: "Retort through Flask",
}
PEERS = (TUTORIAL, FLASK, ONNX, MLSERVER, LITSERVE)


@dataclass(frozen=True, slots=True)
class Case:
    """One table of the report: the same requests to each side, alternating.

    `model` names the artifact and its requests. `connections` is the number of keep-alive connections.
    """

    name: str
    title: str
    model: str
    sides: Sequence[str]
    connections: int = 16
    metric: str = "cpu_us"
    seconds_factor: float = 1.0
    note: str = ""


CASES = (
    Case("linear", "Logistic regression, 2 features", "linear", (OURS, *PEERS)),
    Case("forest", "Random forest of 100 trees, 30 features", "forest", (OURS, *PEERS)),
    Case(
        "penguins",
        "Penguins pipeline: numbers and words, some missing",
        "penguins",
        (OURS, TUTORIAL, FLASK, MLSERVER, LITSERVE),
        note="The peers make a DataFrame, as the pipeline was fitted on one.",
    ),
    Case(
        "table",
        "1,000 × 30 JSON through the forest",
        "table",
        (OURS, OURS_ALL, *PEERS),
        seconds_factor=1.5,
        note="Retort is asked for the predictions alone, as the peers answer no more, and once for its usual answer, "
        "which has each row's probabilities beside.",
    ),
    Case(
        "explanation",
        "Penguins, each prediction with its explanation",
        "penguins",
        (OURS, OURS_EXPLAINED, SHAP),
        note="The first line is the plain prediction. The peer explains the columns of the encoder by "
        "shap.TreeExplainer, which it makes once; Retort explains the inputs.",
    ),
    Case("digits", "Digits: 64 pixels as an array", "digits", (OURS, *PEERS)),
    Case(
        "batching",
        "k-nearest neighbours as an artifact, 32 concurrent clients",
        "knn",
        (OURS, OURS_UNBATCHED, TUTORIAL),
        connections=32,
        metric="throughput",
    ),
    Case(
        "lone",
        "The same, a lone client",
        "knn",
        (OURS, OURS_UNBATCHED, TUTORIAL),
        connections=1,
        metric="p50_us",
    ),
    Case(
        "worker",
        "The same views under Retort's worker and under Gunicorn's gthread",
        "linear",
        (OURS, OURS_GTHREAD, BARE_FLASK, BARE_FLASK_GTHREAD),
    ),
    Case(
        "gateway",
        "What is around a prediction",
        "linear",
        (OURS_WITHOUT, OURS, OURS_LOGGED, OURS_OPERATED, OURS_HOOKED, TUTORIAL),
        note="The interceptors are: request id, metrics, CORS, and on the third line the access log. The fourth "
        "line has all that is for operation: an API key, and limits of requests and rows in memory, as well. A hook "
        "that is registered in Flask, here a `before_request` that does nothing, makes every prediction go through "
        "Flask.",
    ),
)
WAITING_CASE = Case(
    "waiting",
    "A step that waits 100 ms for another service, 500 concurrent clients",
    "iris-two",
    (OURS, WAITING_AIOHTTP, WAITING),
    connections=500,
    metric="throughput",
)
IDLE_CASE = Case(
    "idle", "5,000 idle keep-alive connections", "iris-two", (ALONE, BESIDE_IDLE), connections=1, metric="p50_us"
)
BY_THEMSELVES = (WAITING_CASE, IDLE_CASE)
"""Cases that start their own servers, measured by `benchmarks.waiting`."""
LAYERS = Case("layers", "The cost of each layer", "linear", (BARE_WSGI, BARE_FLASK, OURS))


# --- the requests to each side ----------------------------------------------------------------------------------------

Rows = list[Any]
"""The rows of one request: lists of numbers, or records by feature name."""


def _record(row: Any) -> dict[str, Any]:
    """Return a row as a record, with the feature names of a model that was fitted on an array."""
    return row if isinstance(row, dict) else {f"feature{n}": value for n, value in enumerate(row, start=1)}


def _one_record(model: str, rows: Rows) -> Any:
    """Return the body that tutorials use: one object of one row; an array of pixels; a table under one key."""
    if model == "digits":
        return {"pixels": rows[0]}
    return {"instances": rows} if model in ("table", "big") else _record(rows[0])


def _retort(model: str, rows: Rows) -> Any:
    if model == "table":
        return {"instances": rows, "outputs": ["prediction"]}
    return {"instances": rows} if model in ("digits", "big") else _record(rows[0])


def _retort_explained(model: str, rows: Rows) -> Any:
    return {"instances": rows, "outputs": ["prediction", "explanation"]}


def _retort_all(model: str, rows: Rows) -> Any:
    return {"instances": rows}


def _v2(model: str, rows: Rows) -> Any:
    """Return the body in MLServer's documentation (Open Inference Protocol): one tensor, or one for each feature."""
    if not isinstance(rows[0], dict):
        flat = [value for row in rows for value in row]
        return {"inputs": [{"name": "predict", "shape": [len(rows), len(rows[0])], "datatype": "FP64", "data": flat}]}
    inputs = []
    for name in rows[0]:
        column = [row[name] for row in rows]
        text = name in ("island", "sex")
        tensor = {"name": name, "shape": [len(rows)], "datatype": "BYTES" if text else "FP64", "data": column}
        inputs.append(tensor | ({"parameters": {"content_type": "str"}} if text else {}))
    return {"parameters": {"content_type": "pd"}, "inputs": inputs}


ASKS: dict[str, Callable[[str, Rows], Any]] = {OURS: _retort, OURS_UNBATCHED: _retort, OURS_ALL: _retort_all}
ASKS |= {OURS_EXPLAINED: _retort_explained, MLSERVER: _v2}


def body(side: str, model: str, rows: Rows) -> bytes:
    """Return the compact request body for these rows, in the format of this side."""
    document = ASKS.get(side, _one_record)(model, rows)
    return json.dumps(document, separators=(",", ":")).encode()


def path(side: str, model: str) -> str:
    return f"/v2/models/{model}/infer" if side == MLSERVER else "/predict"


def predictions(side: str, answer: Any) -> list[Any]:
    """Return the predictions in a response, one for each row."""
    found = answer["outputs"][0]["data"] if side == MLSERVER else answer["prediction"]
    return list(found)


def differing(answered: Sequence[Any], expected: Sequence[Any]) -> int:
    """Return how many predictions differ from the notebook's. Floats may differ by 1e-9 of their value."""
    if len(answered) != len(expected):
        return max(len(answered), len(expected))
    return sum(not _same(first, second) for first, second in zip(answered, expected, strict=True))


def _same(first: Any, second: Any) -> bool:
    if isinstance(second, float) and isinstance(first, int | float):
        return abs(first - second) <= 1e-9 * abs(second) + 1e-12
    return bool(first == second)


# --- the bars ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bar:
    """One required result: `of` divided by `to` in a metric of a case, a minimum with `at_least`, else a maximum.

    With `is_difference` it is `of` minus `to`, in the unit of the metric (CPU: µs). `gthread` is the limit for
    Gunicorn's own worker class.
    """

    title: str
    case: str
    of: str
    to: str
    metric: str
    limit: float
    at_least: bool = True
    gthread: float | None = None
    is_difference: bool = False

    def limit_with(self, worker_class: str) -> float:
        return self.gthread if self.gthread is not None and worker_class == "gthread" else self.limit

    def met(self, figure: float, worker_class: str) -> bool:
        limit = self.limit_with(worker_class)
        return figure >= limit if self.at_least else figure <= limit


BARS = (
    Bar(
        "2-feature logistic regression, against the FastAPI tutorial", "linear", TUTORIAL, OURS, "cpu_us", 4, True, 1.7
    ),
    Bar("30-feature forest, against the FastAPI tutorial", "forest", TUTORIAL, OURS, "cpu_us", 60, True, 17),
    Bar("penguins pipeline, against FastAPI + pandas", "penguins", TUTORIAL, OURS, "cpu_us", 20, True, 10),
    Bar("logistic regression, against FastAPI + ONNX Runtime", "linear", ONNX, OURS, "cpu_us", 2, True, 0.6),
    Bar("forest, against FastAPI + ONNX Runtime", "forest", ONNX, OURS, "cpu_us", 1.3, True, 0.6),
    Bar("1,000 × 30 JSON, against the FastAPI tutorial", "table", TUTORIAL, OURS, "cpu_us", 4),
    Bar(
        "penguins, a prediction with its explanation, against without",
        "explanation",
        OURS_EXPLAINED,
        OURS,
        "cpu_us",
        10,
        False,
    ),
    Bar(
        "penguins, a prediction with its explanation, against FastAPI + shap",
        "explanation",
        SHAP,
        OURS_EXPLAINED,
        "cpu_us",
        20,
    ),
    Bar("no graph, 32 clients: throughput with micro-batching", "batching", OURS, OURS_UNBATCHED, "throughput", 4),
    Bar("no graph, a lone client: p50 with micro-batching", "lone", OURS, OURS_UNBATCHED, "p50_us", 1.05, False),
    Bar("the service under its worker, against gthread", "worker", OURS, OURS_GTHREAD, "cpu_us", 0.5, False),
    Bar(
        "a Flask view under the worker, against gthread", "worker", BARE_FLASK, BARE_FLASK_GTHREAD, "cpu_us", 0.5, False
    ),
    Bar(
        "CPU more with request id, metrics, CORS and access log than without",
        "gateway",
        OURS_LOGGED,
        OURS_WITHOUT,
        "cpu_us",
        10,
        at_least=False,
        is_difference=True,
    ),
    Bar(
        "CPU more with these, an API key and limits than without",
        "gateway",
        OURS_OPERATED,
        OURS_WITHOUT,
        "cpu_us",
        25,
        at_least=False,
        is_difference=True,
    ),
    Bar("with all of these, against the FastAPI tutorial", "gateway", TUTORIAL, OURS_OPERATED, "cpu_us", 3.5),
    Bar(
        "a step that waits, 500 clients: against FastAPI + aiohttp",
        "waiting",
        OURS,
        WAITING_AIOHTTP,
        "throughput",
        2.5,
    ),
    Bar("CPU of an answer that waits, against it", "waiting", OURS, WAITING_AIOHTTP, "cpu_us", 0.45, False),
    Bar("p50 beside 5,000 idle connections", "idle", BESIDE_IDLE, ALONE, "p50_us", 1.1, False),
    Bar("memory of 4 workers, 300 MB model, against 1 worker", "memory", "4", "1", OURS, 1.25, False),
    Bar(
        "start to first answer, penguins, against the FastAPI tutorial", "start", OURS, TUTORIAL, "seconds", 0.5, False
    ),
)
