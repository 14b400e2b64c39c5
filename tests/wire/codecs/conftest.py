"""Fixtures that send bodies to the committed models."""

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
    """Post a body of a media type to a model, accept JSON, and check the format of any refusal."""

    def send(media_type: str, content: bytes, model: str = "iris-two", **headers: str) -> Answer:
        sent = {"Content-Type": media_type, "Accept": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        answer = post(app, f"/models/{model}/predict", content, sent)
        check(answer)
        return answer

    return send


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    """Serve models that together take every kind of input."""
    return served(tmp_path_factory.mktemp("kinds"))


def sent(service: Flask, model: str, body: bodies.Body) -> Answer:
    """Return the response in JSON, after checking its format."""
    answer = post(service, f"/models/{model}/predict", body[1], {"Content-Type": body[0], "Accept": "application/json"})
    check(answer)
    return answer
