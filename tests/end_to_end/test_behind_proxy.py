"""The server behind nginx and below a prefix, in three ways; each page is also opened in Chromium."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.visit import visiting
from tests.end_to_end.process import Server, serving
from tests.server.proxied import nginx_before

pytestmark = pytest.mark.needs_program("nginx")

FORWARDED = """
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Prefix /ml;
"""
FORGED = {
    "X-Forwarded-For": "192.0.2.1",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Protocol": "ssl",
    "X-Forwarded-Ssl": "on",
    "X-Forwarded-Host": "forged.example",
    "X-Forwarded-Prefix": "/forged",
}
HTML = {"Accept": "text/html"}
WRITTEN_WITHIN_S = 60.0


def in_chromium(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.browser(pytest.mark.needs_program("chromium")(test))


@dataclass(frozen=True)
class Way:
    """A way to serve below /ml: the settings of the server, and the forwarding of nginx."""

    name: str
    settings: dict[str, object]
    options: str = ""
    sent_as: str = ""


WAYS = (
    Way("fields", {"RETORT_TRUSTED_PROXIES": 1}, FORWARDED, "/"),
    Way("script-name", {"SCRIPT_NAME": "/ml"}),
    Way("stripping", {}, sent_as="/"),
)


@dataclass(frozen=True)
class Behind:
    """A server behind nginx, and its root URL for clients of nginx."""

    way: Way
    server: Server
    root: str

    def get(self, path: str, headers: dict[str, str] | None = None) -> str:
        """Return the text at a path below the root."""
        with urlopen(Request(f"{self.root}{path}", headers=headers or {}), timeout=30) as answer:
            assert answer.status == 200
            return str(answer.read(), "utf-8")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """One server for each of the settings."""
    folder = tmp_path_factory.mktemp("behind")
    with contextlib.ExitStack() as stack:
        distinct = {json.dumps(way.settings): way.settings for way in WAYS}
        yield {key: stack.enter_context(serving(folder, **settings)) for key, settings in distinct.items()}


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: way.name)
def behind(
    request: pytest.FixtureRequest, servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Behind]:
    way: Way = request.param
    server = servers[json.dumps(way.settings)]
    folder = tmp_path_factory.mktemp(way.name)
    with nginx_before(folder, server.port, location="/ml/", options=way.options, sent_as=way.sent_as) as nginx:
        yield Behind(way, server, f"http://127.0.0.1:{nginx.port}/ml/")


@pytest.fixture
def page(chromium: Browser, behind: Behind) -> Iterator[Page]:
    """Yield a page that may load nothing from outside the prefix."""
    for visit in visiting(chromium, behind.root.rstrip("/")):
        visit.expected.append("OpenAPI Sampler")  # ReDoc's sampler cannot choose between a record and a list
        yield visit.page


@pytest.fixture(scope="module")
def docs(chromium: Browser, behind: Behind) -> Iterator[Page]:
    """Open Swagger UI once for the tests of its operations."""
    for visit in visiting(chromium, behind.root.rstrip("/")):
        visit.page.goto(f"{behind.root}docs")
        yield visit.page


# -- without a browser


@pytest.mark.parametrize("path", ["", "docs", "docs/", "redoc", "redoc/"])
def test_every_link_of_a_page_works(behind: Behind, path: str) -> None:
    text = behind.get(path, HTML)
    linked = set(re.findall(r'(?:src|href|data-openapi)="((?!data:)[^"#]+)"', text))
    assert len(linked) > 5
    for link in linked:
        whole = urljoin(f"{behind.root}{path}", link)
        assert whole.startswith(behind.root), link
        assert behind.get(whole.removeprefix(behind.root)), link


def test_links_in_json_answers_work(behind: Behind) -> None:
    for link in json.loads(behind.get(""))["links"].values():
        behind.get(urljoin(behind.root, link).removeprefix(behind.root))


@pytest.mark.parametrize("path", ["openapi.json", "openapi.json/"])
def test_the_server_of_openapi_json_is_the_root(behind: Behind, path: str) -> None:
    [server] = json.loads(behind.get(path))["servers"]
    assert urljoin(f"{behind.root}{path}", server["url"]).rstrip("/") == behind.root.rstrip("/")


@pytest.mark.parametrize("path", ["livez", "readyz", "metrics"])
def test_probes_answer_at_the_root_too(behind: Behind, path: str) -> None:
    assert behind.get(path)
    assert behind.server.ask("GET", f"/{path}").status == 200


def test_a_path_that_only_begins_like_the_prefix_is_not_below_it(behind: Behind) -> None:
    assert behind.server.ask("GET", "/mlivez").status == 404


def test_a_proxy_that_names_the_prefix_may_pass_the_path_on_unchanged(servers: dict[str, Server]) -> None:
    server = servers[json.dumps(WAYS[0].settings)]
    for path in ("/ml", "/ml/", "/ml/docs"):
        answer = server.ask("GET", path, headers=HTML | {"X-Forwarded-Prefix": "/ml"})
        assert b'href="/ml/docs"' in answer.content


def test_trusted_fields_are_the_client_as_the_proxy_saw_it(servers: dict[str, Server]) -> None:
    server = servers[json.dumps(WAYS[0].settings)]
    last = {name: f"forged, {value}" if name == "X-Forwarded-For" else value for name, value in FORGED.items()}
    page = server.ask("GET", "/", headers=HTML | last | {"X-Request-ID": "trusted"}).content.decode()
    assert "curl https://forged.example/forged/models/penguins/predict " in page
    assert 'href="/forged/docs"' in page
    assert logged(server, "trusted")["client"] == "192.0.2.1"


@pytest.mark.parametrize("prefix", ["//evil.example", "javascript:alert(1)", "ml", '/"><script>', "/a//b"])
def test_a_prefix_that_is_no_path_is_ignored(servers: dict[str, Server], prefix: str) -> None:
    server = servers[json.dumps(WAYS[0].settings)]
    assert 'href="./docs"' in server.ask("GET", "/", headers=HTML | {"X-Forwarded-Prefix": prefix}).content.decode()


@pytest.mark.parametrize("settings", [{}, {"SCRIPT_NAME": "/ml"}], ids=["plain", "script-name"])
@pytest.mark.fault("X12")
def test_forged_fields_change_nothing(servers: dict[str, Server], settings: dict[str, object]) -> None:
    server = servers[json.dumps(settings)]
    for path in ("/", "/docs", "/openapi.json"):
        plain = server.ask("GET", path, headers=HTML)
        forged = server.ask("GET", path, headers=HTML | FORGED | {"X-Request-ID": "forged"})
        assert (forged.status, forged.content) == (plain.status, plain.content)
    assert logged(server, "forged")["client"] == "127.0.0.1"


def logged(server: Server, request_id: str) -> dict[str, Any]:
    """Return the line of the access log for a request, which may be written after the response was sent."""
    until_s = time.monotonic() + WRITTEN_WITHIN_S
    while time.monotonic() < until_s:
        for line in server.output.splitlines():
            if f'"{request_id}"' in line and (event := json.loads(line))["logger"] == "retort.access":
                return event
        time.sleep(0.05)
    raise AssertionError(f"no line of the access log has the request id {request_id}")


def test_an_operator_may_still_have_gunicorn_trust_a_proxy(tmp_path: Path) -> None:
    with serving(tmp_path, FORWARDED_ALLOW_IPS="127.0.0.1") as server:
        page = server.ask("GET", "/", headers=HTML | {"X-Forwarded-Proto": "https"}).content.decode()
    assert "curl https://" in page


# -- in Chromium


@in_chromium
def test_execute_predicts(docs: Page, behind: Behind) -> None:
    operation = docs.locator(".opblock", has_text="Predict with penguins")
    operation.locator(".opblock-summary-control").click()
    with docs.expect_response(f"{behind.root}models/penguins/predict") as response:
        operation.get_by_role("button", name="Execute").click()
    assert response.value.status == 200
    expect(operation.locator(".live-responses-table .response-col_description").last).to_contain_text('"Adelie"')
    expect(operation.locator(".curl")).to_contain_text(f"{behind.root}models/penguins/predict")


@in_chromium
def test_execute_may_change_what_is_served(docs: Page) -> None:
    """The page belongs to this server, even if the proxy sends another `Host`."""
    docs.locator("#operations-tag-open_inference").click()  # folded, like all protocols of other servers
    path = "/v2/repository/models/{model}/load"
    operation = docs.locator(".opblock", has=docs.locator(f'[data-path="{path}"]'))
    operation.locator(".opblock-summary-control").click()
    with docs.expect_response(re.compile("/v2/repository/models/.*/load$")) as response:
        operation.get_by_role("button", name="Execute").click()
    assert response.value.status == 200, response.value.text()


@in_chromium
def test_redoc_shows_fields_and_the_address(page: Page, behind: Behind) -> None:
    page.goto(f"{behind.root}redoc")
    expect(page.locator('#redoc td[title="bill_length_mm"]').first).to_be_visible()
    expect(page.locator("#redoc").get_by_text(f"{behind.root}models/penguins/predict").first).to_be_attached()


@in_chromium
def test_the_commands_work_where_they_are_pasted(page: Page, behind: Behind) -> None:
    for name in ("penguins", "iris-two"):
        page.goto(f"{behind.root}models/{name}")
        command = page.locator("code.command").inner_text()
        assert shlex.split(command)[1].startswith(behind.root)
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["model"] == name


@in_chromium
def test_the_playground_answers(page: Page, behind: Behind) -> None:
    with page.expect_response(f"{behind.root}models/penguins/predict"):
        page.goto(behind.root)
    with page.expect_response(f"{behind.root}models/penguins/predict") as response:
        page.get_by_label("Dream").check()
    assert response.value.status == 200
    with page.expect_navigation(url=re.compile(f"^{re.escape(behind.root)}models/penguins/try")):
        page.evaluate("document.querySelector('[data-playground] form').submit()")
    assert page.locator("#answer .headline").inner_text() == "Adelie"


@in_chromium
def test_the_pages_lead_to_one_another(page: Page, behind: Behind) -> None:
    page.goto(behind.root)
    for name, path in (("Docs", "docs"), ("ReDoc", "redoc"), ("Home", "")):
        page.get_by_label("Pages").get_by_role("link", name=name, exact=True).click()
        expect(page).to_have_url(f"{behind.root}{path}")
