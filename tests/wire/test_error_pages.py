"""Errors are pages in a browser, and still problem documents for programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import create_app
from app.server.contract import Refusal
from app.settings import Settings
from app.wire.application import Application
from tests.wire.exchange import Answer, get, post

MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"
FIREFOX = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture(scope="module")
def app() -> Application:
    app = create_app(Settings(models_dir=MODELS))

    @app.get("/broken")
    def broken() -> str:
        raise ValueError("the secret inside")

    app.add_url_rule("/sent", "sent", broken, methods=["POST"])
    return app


def page(answer: Answer) -> str:
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    return answer.content.decode()


@pytest.mark.parametrize("path", ["/nowhere", "/models/nothing", "/models/penguins/versions/99", "/problems/none"])
def test_a_url_that_leads_nowhere_is_a_page(app: Application, path: str) -> None:
    answer = get(app, path, FIREFOX)
    assert answer.status == 404
    text = page(answer)
    assert "There is nothing here" in text
    assert answer.headers["X-Request-ID"] in text
    assert get(app, path).document["status"] == 404


def test_a_name_in_the_url_is_only_text(app: Application) -> None:
    text = page(get(app, "/models/%3Cscript%3Ealert(1)", FIREFOX))
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_a_failure_is_a_page_with_nothing_from_inside(app: Application) -> None:
    answer = get(app, "/broken", FIREFOX)
    assert answer.status == 500
    assert "The server failed" in page(answer)
    assert "secret" not in answer.content.decode()


def test_the_workers_own_refusals_are_pages_too(app: Application) -> None:
    refusal = Refusal(503, "queue-full", "the queue is full", {"Retry-After": "1"})
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_ACCEPT": "text/html"}
    response = app.gateway.refuse(environ, None, refusal)
    headers = dict(response.headers)
    assert (response.status, headers["Content-Type"], headers["Retry-After"]) == (503, "text/html; charset=utf-8", "1")
    assert isinstance(response.body, bytes)
    assert b"Try again in 1 seconds." in response.body


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/predict", "./"),
        ("/predict/", "../"),
        ("/models/penguins/predict", "../../models/penguins"),
        ("/models/penguins/versions/1/predict", "../../../../models/penguins/versions/1"),
        ("/models/%C3%A9%20%22/predict", "../../models/%C3%A9%20%22"),
    ],
)
def test_a_prediction_url_that_is_opened_in_a_browser_leads_to_the_form(app: Application, path: str, form: str) -> None:
    answer = get(app, path, FIREFOX)
    assert (answer.status, answer.headers["Allow"]) == (405, "OPTIONS, POST")
    assert f'there is <a href="{form}">a form</a>' in page(answer)
    assert get(app, path).document["detail"] == "GET is not allowed here; allowed: OPTIONS, POST"


def test_other_urls_that_take_no_get_lead_to_no_form(app: Application) -> None:
    text = page(get(app, "/sent", FIREFOX))
    assert "Use a method that the Allow header lists" in text
    assert "a form</a>" not in text


def test_predictions_and_other_protocols_still_answer_with_documents(app: Application) -> None:
    assert post(app, "/predict", "{", FIREFOX).document["status"] == 400
    assert get(app, "/v2/models/nothing", FIREFOX).document["error"]
