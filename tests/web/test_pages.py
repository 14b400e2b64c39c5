"""The pages as a client without a browser gets them: negotiation, headers, escaping and texts."""

from __future__ import annotations

import gzip
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from flask.testing import FlaskClient

from app import web
from tests.web.stage import Carded, EmptyCatalogue, ManyModels, StoredCatalogue, make_app

pytestmark = pytest.mark.slow

FIREFOX = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def client(catalogue: Any = None) -> FlaskClient:
    return make_app(catalogue or StoredCatalogue()).test_client()


def home(catalogue: Any = None, **kwargs: Any) -> str:
    return page("/", catalogue, **kwargs)


def page(path: str, catalogue: Any = None, **kwargs: Any) -> str:
    answer = client(catalogue).get(path, headers=FIREFOX, **kwargs)
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    return answer.text


def asset(name: str) -> str:
    return (Path(web.__file__).parent / "static" / "site" / name).read_text("utf-8")


def test_a_page_is_compressed_where_the_browser_takes_that() -> None:
    plain = client().get("/", headers=FIREFOX)
    packed = client().get("/", headers={**FIREFOX, "Accept-Encoding": "gzip, br"})
    assert (plain.headers.get("Content-Encoding"), packed.headers["Content-Encoding"]) == (None, "gzip")
    assert gzip.decompress(packed.data) == plain.data
    assert "Accept-Encoding" in plain.headers["Vary"]


@pytest.mark.parametrize("accept", ["text/html", FIREFOX["Accept"], "application/json;q=0.5, text/html"])
def test_browsers_get_the_page(accept: str) -> None:
    answer = client().get("/", headers={"Accept": accept})
    assert (answer.mimetype, answer.headers["Vary"]) == ("text/html", "Accept-Encoding, Accept")


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


def test_the_page_says_how_many_models_are_available() -> None:
    assert "5 of 6 models are available" in home()


def test_failures_are_shown_with_their_reason() -> None:
    assert "model.joblib does not match its recorded SHA-256: the file was changed after packing" in home()
    assert "model.joblib does not match its recorded SHA-256: the file was changed after packing" in page(
        "/models/churn"
    )
    assert "packed with scikit-learn 1.7.2, served with 1.9.1" in page("/models/penguins")


def test_a_model_that_is_retired_meanwhile_is_shown_on_a_whole_page() -> None:
    text = home(StoredCatalogue(retired=("diabetes",)))
    assert "its last version was retired" in text
    assert 'id="penguins"' in text


@pytest.mark.parametrize("path", ["/", "/models", "/models/reviews"])
def test_text_of_models_is_never_markup(path: str) -> None:
    text = page(path)
    assert "<script>alert(1)" not in text
    assert "<b>Own</b>" not in text
    assert "&lt;b&gt;own&lt;/b&gt;" in text.lower()


def test_the_command_names_the_server_as_the_reader_reached_it() -> None:
    text = home(base_url="https://models.example/retort")
    assert "curl https://models.example/retort/models/penguins/predict -d" in text
    assert 'href="/retort/docs"' in text


def test_many_inputs_and_many_categories_are_folded() -> None:
    assert re.search(r"<summary>64 inputs <span[^>]*>64 numbers</span></summary>", page("/models/digits"))
    assert "<summary>5 more</summary>" in page("/models/reviews")


@pytest.mark.parametrize("accept", [None, "*/*", "application/json"])
@pytest.mark.parametrize("path", ["/models", "/models/penguins", "/models/penguins/versions/3"])
def test_programs_get_the_models_as_json(path: str, accept: str | None) -> None:
    answer = client().get(path, headers={} if accept is None else {"Accept": accept})
    assert (answer.mimetype, answer.headers["Vary"]) == ("application/json", "Accept")


class Stepped(StoredCatalogue):
    """Models with steps, or with an input that has no example."""

    def model(self, name: str, version: str | None = None) -> dict[str, Any]:
        steps = {"steps": {"before": ["enrich"], "after": ["<b>price</b>"]}} if name == "diabetes" else {}
        inputs = [{"name": "customer", "kind": "integer"}]
        return super().model(name, version) | {"examples": [], "inputs": inputs} | steps


def test_a_model_with_steps_names_them_and_claims_no_answer() -> None:
    told = " ".join(page("/models/diabetes", Stepped()).split())
    assert "this model has steps around it (enrich, &lt;b&gt;price&lt;/b&gt;), whose results are not known" in told


class WithCard(StoredCatalogue):
    """Models with a card of their author."""

    def model(self, name: str, version: str | None = None) -> dict[str, Any]:
        return super().model(name, version) | {"card": "# Made for\n\n**biologists**, not <script>alert(1)</script>"}


def test_the_authors_card_is_shown_without_its_markup() -> None:
    text = page("/models/penguins", WithCard())
    assert "<h3>Made for</h3><p><strong>biologists</strong>, not &lt;script&gt;alert(1)&lt;/script&gt;</p>" in text


def test_the_values_of_the_sample_have_bars_beside_their_names() -> None:
    text = page("/models/iris-two", Carded())
    assert re.findall(r'<code title="(value \d)">', text) == [f"value {number}" for number in range(8)]
    assert "Bars show how often each value came in 10 rows of the training sample." in text
    assert "Bars show" not in page("/models/iris-two")


def test_the_icon_is_where_browsers_ask_for_it() -> None:
    answer = client().get("/favicon.ico")
    assert (answer.status_code, answer.mimetype) == (200, "image/svg+xml")
    assert answer.headers["Cache-Control"] == "public, max-age=86400"
    assert b"<svg" in answer.data


def test_without_models_the_page_says_how_to_add_one() -> None:
    text = home(EmptyCatalogue())
    assert "flask models add model.joblib --name my-model" in text
    assert "No models here yet" in text


@pytest.mark.parametrize("path", ["/", "/models", "/models/penguins", "/docs", "/redoc"])
def test_pages_load_nothing_from_other_hosts_and_run_no_inline_scripts(path: str) -> None:
    answer = client().get(path, headers=FIREFOX)
    policy = dict(directive.split(" ", 1) for directive in answer.headers["Content-Security-Policy"].split("; "))
    assert (policy["default-src"], policy["script-src"], policy["connect-src"]) == ("'none'", "'self'", "'self'")
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert not re.search(r'(?:src|href)="(?:https?:)?//', answer.text)
    assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=", answer.text)
    for sheet in re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL):
        assert f"'sha256-{b64encode(sha256(sheet.encode()).digest()).decode()}'" in policy["style-src"]


@pytest.mark.parametrize("path", ["/", "/models", "/models/penguins", "/docs", "/redoc"])
@pytest.mark.parametrize("root", ["", "/retort"])
def test_every_asset_that_a_page_names_is_here(path: str, root: str) -> None:
    browser = client()
    text = browser.get(path, headers=FIREFOX, base_url=f"http://localhost{root}").text
    named = re.findall(r'(?:src|href)="([^"]*/static/[^"]+)"', text)
    assert len(named) >= 3
    for address in named:
        whole = urljoin(f"{root}{path}", address)
        answer = browser.get(whole.removeprefix(root), base_url=f"http://localhost{root}")
        assert (answer.status_code, whole.startswith(f"{root}/static/web/")) == (200, True), address


IMPORTED = re.compile(r'(?:^import .* from |await import\()"\./(.+)"', re.MULTILINE)


@pytest.mark.parametrize("path", ["/", "/models/penguins"])
def test_a_page_names_the_modules_of_its_script_so_that_they_are_fetched_with_it(path: str) -> None:
    imported = {*IMPORTED.findall(asset("playground.js"))}
    named = re.findall(r'<link rel="modulepreload" href="[^"]+/([^"/]+)">', page(path))
    assert sorted(named) == sorted(imported - {"images.js"})  # neither model takes an image
    assert imported.issuperset(name for each in imported for name in IMPORTED.findall(asset(each)))


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc", "/models"])
def test_the_pages_link_to_one_another_and_say_which_is_open(path: str) -> None:
    text = page(path)
    for place in ("/", "/docs", "/redoc", "/models"):
        assert f'href=".{place}"' in text
    assert re.findall(r'href="([^"]+)" aria-current="page"', text) == [f".{path}"]


def test_two_hundred_models_are_a_small_page() -> None:
    answer = client(ManyModels()).get("/models", headers={**FIREFOX, "Accept-Encoding": "gzip"})
    assert gzip.decompress(answer.data).count(b"<article") == 200
    assert len(answer.data) < 30_000
