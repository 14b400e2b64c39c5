"""The pages as a client without a browser sees them: negotiation, headers, escaping and texts."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin

import pytest
from flask.testing import FlaskClient

from tests.web.stage import STORED, EmptyCatalogue, StoredCatalogue, make_app

FIREFOX = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def client(catalogue: Any = None) -> FlaskClient:
    return make_app(catalogue or StoredCatalogue()).test_client()


def home(catalogue: Any = None, **kwargs: Any) -> str:
    answer = client(catalogue).get("/", headers=FIREFOX, **kwargs)
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    return answer.text


@pytest.mark.parametrize("accept", ["text/html", FIREFOX["Accept"], "application/json;q=0.5, text/html"])
def test_browsers_get_the_page(accept: str) -> None:
    answer = client().get("/", headers={"Accept": accept})
    assert (answer.mimetype, answer.headers["Vary"]) == ("text/html", "Accept")


@pytest.mark.parametrize(
    "accept", [None, "*/*", "application/json", "application/xml", "text/html;q=0.5, application/json", ""]
)
def test_other_clients_get_json(accept: str | None) -> None:
    answer = client().get("/", headers={} if accept is None else {"Accept": accept})
    assert answer.headers["Vary"] == "Accept"
    assert answer.json == {
        "status": "alive",
        "links": {
            place.removesuffix(".json"): f"./{place}"
            for place in ("docs", "redoc", "openapi.json", "models", "livez", "readyz")
        },
    }


def test_every_model_has_its_card_with_the_default_one_first() -> None:
    names = re.findall(r'<article class="card[^"]*" id="([^"]+)"', home())
    assert names == ["penguins", "churn", "diabetes", "digits", "iris-two", "reviews"]


def test_only_available_models_are_described() -> None:
    catalogue = StoredCatalogue()
    assert "5 of 6 models are available" in home(catalogue)
    assert sorted(catalogue.asked) == sorted(STORED["described"])


def test_failures_are_shown_with_their_reason() -> None:
    page = home()
    assert "model.joblib does not match its recorded SHA-256: the file was changed after packing" in page
    assert "packed with scikit-learn 1.7.2, served with 1.9.1" in page


def test_a_model_that_is_retired_meanwhile_is_shown_as_such() -> None:
    page = home(StoredCatalogue(retired=("diabetes",)))
    assert "GET /models says why" in page
    assert 'id="penguins"' in page


def test_texts_of_models_are_escaped() -> None:
    page = home()
    assert "<script>alert(1)" not in page
    assert "<b>Own</b>" not in page
    assert "&lt;b&gt;Own&lt;/b&gt;" in page


def test_the_command_names_the_server_as_the_reader_reached_it() -> None:
    page = home(base_url="https://models.example/retort")
    assert "curl https://models.example/retort/predict -d" in page
    assert 'href="/retort/docs"' in page


def test_many_inputs_and_many_categories_are_folded() -> None:
    page = home()
    assert re.search(r"<summary>64 inputs <span[^>]*>64 numbers</span></summary>", page)
    assert "<summary>5 more</summary>" in page


class Stepped(StoredCatalogue):
    """Has models with steps, or with an input that has no example."""

    def model(self, name: str, version: str | None = None) -> dict[str, Any]:
        steps = {"steps": {"before": ["enrich"], "after": ["<b>price</b>"]}} if name == "diabetes" else {}
        inputs = [{"name": "customer", "kind": "integer"}]
        return super().model(name, version) | {"examples": [], "inputs": inputs} | steps


def test_a_request_without_an_answer_says_why() -> None:
    told = " ".join(home(Stepped("diabetes")).split())
    assert "this model has steps before it (enrich) and after it (&lt;b&gt;price&lt;/b&gt;), and what they add" in told
    assert "Put a value of your own for <code>customer</code>." in told
    assert "none was recorded when the model was packed." in " ".join(home(Stepped("iris-two")).split())


def test_the_icon_has_the_address_that_browsers_request() -> None:
    answer = client().get("/favicon.ico")
    assert (answer.status_code, answer.mimetype) == (200, "image/svg+xml")
    assert answer.headers["Cache-Control"] == "public, max-age=86400"
    assert b"<svg" in answer.data


def test_without_models_the_page_says_how_to_add_one() -> None:
    page = home(EmptyCatalogue())
    assert "flask models add model.joblib --name my-model" in page
    assert "No models here yet" in page


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc"])
def test_pages_load_nothing_from_other_servers(path: str) -> None:
    answer = client().get(path, headers=FIREFOX)
    policy = dict(directive.split(" ", 1) for directive in answer.headers["Content-Security-Policy"].split("; "))
    assert (policy["default-src"], policy["script-src"], policy["connect-src"]) == ("'none'", "'self'", "'self'")
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert not re.search(r'(?:src|href)="(?:https?:)?//', answer.text)
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", answer.text)


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc"])
@pytest.mark.parametrize("root", ["", "/retort"])
def test_every_asset_that_a_page_names_is_here(path: str, root: str) -> None:
    browser = client()
    page = browser.get(path, headers=FIREFOX, base_url=f"http://localhost{root}").text
    named = re.findall(r'(?:src|href)="([^"]*/static/[^"]+)"', page)
    assert len(named) >= 3
    for address in named:
        whole = urljoin(f"{root}{path}", address)
        answer = browser.get(whole.removeprefix(root), base_url=f"http://localhost{root}")
        assert (answer.status_code, whole.startswith(f"{root}/static/web/")) == (200, True), address


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc"])
def test_the_pages_link_to_one_another_and_say_which_is_open(path: str) -> None:
    page = client().get(path, headers=FIREFOX).text
    for place in ("/", "/docs", "/redoc", "/models"):
        assert f'href=".{place}"' in page
    assert re.findall(r'href="([^"]+)" aria-current="page"', page) == [f".{path}"]
