"""Sends bodies to the committed models."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask

from tests.wire.codecs import bodies
from tests.wire.codecs.estimators import served
from tests.wire.exchange import Answer, check, post

Sends = Callable[..., Answer]


@pytest.fixture
def ask(app: Flask) -> Sends:
    """Posts a body of a media type to a model, wants JSON, and holds any refusal to the form of refusals."""

    def send(media_type: str, content: bytes, model: str = "iris-two", **headers: str) -> Answer:
        sent = {"Content-Type": media_type, "Accept": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        answer = post(app, f"/models/{model}/predict", content, sent)
        check(answer)
        return answer

    return send


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    """The models that take every kind of input."""
    return served(tmp_path_factory.mktemp("kinds"))


def sent(service: Flask, model: str, body: bodies.Body) -> Answer:
    """The answer in JSON, whose form is right whatever it says."""
    answer = post(service, f"/models/{model}/predict", body[1], {"Content-Type": body[0], "Accept": "application/json"})
    check(answer)
    return answer
