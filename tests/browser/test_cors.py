"""A page of an allowed origin, in Chromium, reads every answer and every refusal; other pages read none."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.end_to_end.process import WORKER, Server, serving, web_line

pytestmark = [
    pytest.mark.browser,
    pytest.mark.needs_program("chromium"),
    pytest.mark.skipif(WORKER != "retort", reason="Gunicorn's own workers refuse without asking the application"),
]

IRIS = '{"feature1": 5.1, "feature2": 3.5}'
FETCH = """async ([url, path, body, headers, credentials]) => {
    try {
        const answer = await fetch(url + path, {method: body === null ? "GET" : "POST", body, headers, credentials});
        const text = await answer.text();
        return {status: answer.status, text, headers: Object.fromEntries(answer.headers)};
    } catch (error) {
        return {status: 0, text: String(error), headers: {}};
    }
}"""
TOGETHER = "async ([all]) => { const ask = " + FETCH + "; return await Promise.all(all.map((one) => ask(one))); }"
JSON = {"Content-Type": "application/json"}


class Quiet(SimpleHTTPRequestHandler):
    """Serve a folder without a log."""

    def log_message(self, format: str, *values: Any) -> None: ...


@contextmanager
def origin(folder: Path) -> Iterator[str]:
    """Serve a web site with an empty page, and yield its origin."""
    (folder / "page.html").write_text("<!doctype html><title>a page</title>")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        yield f"http://localhost:{site.server_port}"
        site.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Yield the origins of two web sites; the service allows the first."""
    folder = tmp_path_factory.mktemp("pages")
    with origin(folder) as allowed, origin(folder) as other:
        yield allowed, other


@pytest.fixture(scope="module")
def server(pages: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("server"),
        ["sh", "-c", f"exec {web_line().replace('wsgi:app', 'tests.browser.slow:app')}"],
        RETORT_CORS_ORIGINS=pages[0],
        RETORT_CORS_CREDENTIALS="on",
        RETORT_BODY_LIMIT_BYTES=1000,
        RETORT_THREADS=1,
        RETORT_QUEUE_REQUESTS=1,
        RETORT_QUEUE_MAX_WAIT_MS=5000,
        RETORT_DEFAULT_MODEL="iris-two",
        WEB_CONCURRENCY=1,
    ) as server:
        yield server


@pytest.fixture
def allowed(chromium: Browser, pages: tuple[str, str]) -> Iterator[Page]:
    page = chromium.new_page()
    page.goto(f"{pages[0]}/page.html")
    yield page
    page.close()


def ask(
    page: Page, server: Server, path: str, body: str | None = IRIS, credentials: str = "omit", **headers: str
) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return page.evaluate(FETCH, [server.root, path, body, JSON | named if body is not None else named, credentials])


def test_an_answer_and_its_fields_are_read(allowed: Page, server: Server, pages: tuple[str, str]) -> None:
    with allowed.expect_response(lambda response: response.request.method == "POST") as response:
        answer = ask(allowed, server, "/predict", X_Request_ID="from-a-page")
    assert answer["status"] == 200, answer
    assert '"prediction":[0]' in answer["text"]
    assert answer["headers"]["x-request-id"] == "from-a-page"
    sent = response.value.all_headers()
    assert sent["access-control-allow-origin"] == pages[0]
    assert "Origin" in sent["vary"]


def test_a_browser_asks_once_and_remembers(allowed: Page, server: Server) -> None:
    for _ in range(3):
        assert ask(allowed, server, "/models/iris-two/predict")["status"] == 200
    preflights = server.output.count("OPTIONS /models/iris-two/predict")
    assert preflights == 1


def test_credentials_may_be_sent(allowed: Page, server: Server) -> None:
    assert ask(allowed, server, "/predict", credentials="include")["status"] == 200


@pytest.mark.parametrize(
    ("status", "path", "body", "headers"),
    [
        (404, "/nowhere", None, {}),
        (405, "/predict", None, {}),
        (422, "/predict", "{}", {}),
        (413, "/predict", '{"feature1": ' + " " * 2000 + "1}", {}),
        (414, "/predict?" + "q" * 20_000, None, {}),
        (431, "/predict", IRIS, {"X_Long": "a" * 100_000}),
        (504, "/slow", IRIS, {"X_Request_Timeout": "100ms"}),
    ],
    ids=[404, 405, 422, 413, 414, 431, 504],
)
def test_a_refusal_says_its_reason(
    allowed: Page, server: Server, status: int, path: str, body: str | None, headers: dict[str, str]
) -> None:
    answer = ask(allowed, server, path, body, **headers)
    assert answer["status"] == status, answer
    assert f'"status":{status}' in answer["text"]
    assert answer["headers"]["x-request-id"]


def test_a_refusal_for_lack_of_capacity_says_when_to_retry(allowed: Page, server: Server) -> None:
    answers = allowed.evaluate(TOGETHER, [[[server.root, "/slow", "", {}, "omit"]] * 5])
    refused = [answer for answer in answers if answer["status"] == 503]
    assert refused, answers
    assert all(answer["headers"]["retry-after"] for answer in refused)


def test_a_page_that_is_not_allowed_reads_nothing(chromium: Browser, server: Server, pages: tuple[str, str]) -> None:
    page = chromium.new_page()
    page.goto(f"{pages[1]}/page.html")
    for credentials in ("omit", "include"):
        answer = ask(page, server, "/predict", credentials=credentials)
        assert (answer["status"], answer["text"]) == (0, "TypeError: Failed to fetch")
    page.close()
