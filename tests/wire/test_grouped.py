"""Tests that requests in a group get the same responses as alone."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from app.server.contract import Response
from app.telemetry import NO_REQUEST, request_id
from app.wire.application import Application

RNG = np.random.default_rng(0)


@pytest.fixture
def neighbours(served: Any) -> Application:
    rows = RNG.normal(size=(40, 2))
    app = served(KNeighborsClassifier(3).fit(rows, rows[:, 0] > 0), runtime="artifact", batching="on")
    assert app.test_client().get("/readyz").status_code == 200
    return app


def environ(body: bytes, **more: str) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/predict",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.errors": io.StringIO(),
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        **more,
    }


def alone(app: Application, body: bytes, **more: str) -> tuple[str, dict[str, Any]]:
    statuses: list[str] = []
    content = app(environ(body, **more), lambda status, headers, *_: statuses.append(status))
    return statuses[0], json.loads(b"".join(content))


def together(app: Application, environs: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any], dict[str, str]]]:
    """Return the responses to requests that share a key, from one call."""
    contexts = [app.gateway.admit(each) for each in environs]
    assert len({each.batch_key for each in contexts}) == 1
    assert contexts[0].batch_key is not None
    return [
        (response.status, json.loads(response.body), dict(response.headers))
        for response in app.gateway.respond(contexts)
    ]


@pytest.mark.slow
@pytest.mark.fault("M15")
def test_each_request_of_a_group_gets_its_answer_as_alone(neighbours: Application) -> None:
    good = [json.dumps({"instances": RNG.normal(size=(n, 2)).tolist()}).encode() for n in (1, 3, 2)]
    other = b'{"instances": [[1, 2]], "outputs": ["prediction"]}'
    bodies = [good[0], b'{"instances": [["x", 1]]}', good[1], b"{", other, b'{"instances": []}', good[2]]
    answers = together(neighbours, [environ(body, HTTP_X_REQUEST_ID=f"id-{at}") for at, body in enumerate(bodies)])
    assert [status for status, _, _ in answers] == [200, 422, 200, 400, 200, 200, 200]
    for at, (body, (status, document, headers)) in enumerate(zip(bodies, answers, strict=True)):
        line, expected = alone(neighbours, body, HTTP_X_REQUEST_ID=f"id-{at}")
        assert (int(line[:3]), expected) == (status, document)
        assert headers["X-Request-ID"] == f"id-{at}"
        assert ("Server-Timing" in headers) is (status == 200)


@pytest.mark.slow
def test_small_requests_for_one_model_share_a_key(neighbours: Application, app: Application) -> None:
    body = b'{"feature1": 1, "feature2": 2}'

    def key(app: Application, **more: str) -> Any:
        return app.gateway.admit(environ(body, **more)).batch_key

    assert key(neighbours) == key(neighbours) is not None
    assert key(neighbours, PATH_INFO="/models/model/predict") not in (None, key(neighbours))
    assert key(neighbours, PATH_INFO="/models/other/predict") is None
    assert key(app, PATH_INFO="/models/iris-two/predict") is not None  # a graph, which runs inline
    assert key(app, PATH_INFO="/models/nobody/predict") is None


def test_a_graph_answers_together_as_it_answers_alone(app: Application) -> None:
    """Each run belongs to one request, so the responses are identical to the last bit."""
    bodies = [
        b'{"feature1": 5.1, "feature2": 3.5}',
        b'{"feature1": "x", "feature2": 3.5}',
        b'{"instances": [[6.5, 3.0], [4.4, 2.9]], "outputs": ["probabilities"]}',
        b'{"instances": []}',
    ]
    path = "/models/iris-two/predict"
    answers = together(app, [environ(body, PATH_INFO=path, HTTP_X_REQUEST_ID="a") for body in bodies])
    for body, (status, document, _) in zip(bodies, answers, strict=True):
        headers = {"Content-Type": "application/json", "X-Request-ID": "a"}
        expected = app.test_client().post(path, data=body, headers=headers)
        assert status == expected.status_code == (422 if b"x" in body else 200)
        assert document == expected.json


@pytest.mark.slow
def test_a_request_that_accepts_no_coding_is_refused_and_the_others_are_answered(neighbours: Application) -> None:
    body = b'{"instances": [[1, 2]]}'
    picky = {"HTTP_ACCEPT_ENCODING": "identity;q=0, *;q=0"}
    answers = together(neighbours, [environ(body), environ(body, **picky), environ(body)])
    assert [status for status, _, _ in answers] == [200, 406, 200]


@pytest.mark.slow
def test_a_group_runs_under_the_ids_of_all_and_leaves_none_behind(
    neighbours: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[str]()
    contexts = [neighbours.gateway.admit(environ(b"{}", HTTP_X_REQUEST_ID=sent)) for sent in ("a", "b")]
    monkeypatch.setattr(neighbours.gateway._errors, "response", lambda *_: seen.append(request_id()) or Response(400))
    neighbours.gateway.respond(contexts)
    assert (seen, request_id()) == (["a,b"] * 2, NO_REQUEST)


@pytest.mark.slow
def test_each_request_of_a_group_is_counted(neighbours: Application) -> None:
    bodies = [b'{"instances": [[1, 2]]}', b'{"instances": [["x", 1]]}', b'{"instances": [[3, 4], [5, 6]]}']
    together(neighbours, [environ(body) for body in bodies])
    text = neighbours.test_client().get("/metrics").text
    assert 'retort_predictions_total{model="model",status="ok",version="1"} 2.0' in text
    assert 'retort_predictions_total{model="model",status="invalid-instances",version="1"} 1.0' in text
    assert 'retort_prediction_rows_total{model="model",version="1"} 3.0' in text
