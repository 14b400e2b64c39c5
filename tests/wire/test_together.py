"""Requests that are answered together get what each would get alone."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

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


def alone(app: Application, body: bytes) -> tuple[str, dict[str, Any]]:
    told: list[str] = []
    content = app(environ(body), lambda status, headers, *_: told.append(status))
    return told[0], json.loads(b"".join(content))


def test_each_gets_what_it_would_get_alone_or_is_left_alone(neighbours: Application) -> None:
    good = [json.dumps({"instances": RNG.normal(size=(n, 2)).tolist()}).encode() for n in (1, 3, 2)]
    other = b'{"instances": [[1, 2]], "outputs": ["prediction"]}'
    bodies = [good[0], b'{"instances": [["x", 1]]}', good[1], b"{", other, b'{"instances": []}', good[2]]
    environs = [environ(body, HTTP_X_REQUEST_ID=f"id-{at}") for at, body in enumerate(bodies)]
    assert {neighbours.lane(one) for one in environs} == {"/"}
    answers = neighbours.together(environs)
    assert [answer is not None for answer in answers] == [True, False, True, False, True, False, True]
    for at, (body, answer, left) in enumerate(zip(bodies, answers, environs, strict=True)):
        if answer is None:
            assert left["wsgi.input"].read() == body
            continue
        content, headers = answer
        assert ("200 OK", json.loads(content)) == alone(neighbours, body)
        assert dict(headers)["X-Request-ID"] == f"id-{at}"
        assert dict(headers)["Content-Length"] == str(len(content))
        assert dict(headers)["Server-Timing"].startswith("parse;dur=")


def test_who_has_a_lane(neighbours: Application, app: Application) -> None:
    body = b'{"feature1": 1, "feature2": 2}'
    assert neighbours.lane(environ(body)) == "/"
    assert neighbours.lane(environ(body, PATH_INFO="/models/model/predict")) == "model"
    assert neighbours.lane(environ(body, PATH_INFO="/models/other/predict")) is None
    assert neighbours.lane(environ(body) | {"wsgi.input": io.BufferedReader(io.BytesIO(body))}) is None  # type: ignore[arg-type]
    assert app.lane(environ(body, PATH_INFO="/models/iris-two/predict")) == "iris-two"  # a graph, which is quick
    assert app.lane(environ(body, PATH_INFO="/models/nobody/predict")) is None
    neighbours.before_request_funcs.setdefault(None, []).append(lambda: None)
    assert neighbours.lane(environ(body)) is None


def test_a_graph_answers_together_as_it_answers_alone(app: Application) -> None:
    """Each run is a request's own, so the answers are the same to the last bit."""
    bodies = [
        b'{"feature1": 5.1, "feature2": 3.5}',
        b'{"feature1": "x", "feature2": 3.5}',
        b'{"instances": [[6.5, 3.0], [4.4, 2.9]], "outputs": ["probabilities"]}',
        b'{"instances": []}',
    ]
    path = "/models/iris-two/predict"
    together = app.together([environ(body, PATH_INFO=path) for body in bodies])
    assert [answer is None for answer in together] == [False, True, False, True]
    for body, answer in zip(bodies, together, strict=True):
        alone = app.test_client().post(path, data=body, content_type="application/json")
        assert alone.status_code == (422 if b"x" in body else 200)
        if answer is not None:
            assert json.loads(answer[0]) == alone.json


def test_one_that_takes_no_coding_is_left_alone_and_the_others_are_answered(neighbours: Application) -> None:
    body = b'{"instances": [[1, 2]]}'
    picky = {"HTTP_ACCEPT_ENCODING": "identity;q=0, *;q=0"}
    answers = neighbours.together([environ(body), environ(body, **picky), environ(body)])
    assert [answer is not None for answer in answers] == [True, False, True]
    assert alone(neighbours, body)[0] == "200 OK"


def test_a_group_runs_under_the_ids_of_all_and_leaves_none_behind(
    neighbours: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[str]()

    def together(environs: list[Any]) -> list[None]:
        seen.append(request_id.get())
        return [None] * len(environs)

    monkeypatch.setattr(neighbours.straight, "together", together)
    neighbours.together([environ(b"{}", HTTP_X_REQUEST_ID=sent) for sent in ("a", "b")])
    assert (seen, request_id.get()) == (["a,b"], NO_REQUEST)


def test_each_is_counted(neighbours: Application) -> None:
    bodies = [b'{"instances": [[1, 2]]}', b'{"instances": [["x", 1]]}', b'{"instances": [[3, 4], [5, 6]]}']
    neighbours.together([environ(body) for body in bodies])
    text = neighbours.test_client().get("/metrics").text
    assert 'retort_predictions_total{model="model",status="ok",version="1"} 2.0' in text
    assert 'retort_prediction_rows_total{model="model",version="1"} 3.0' in text
