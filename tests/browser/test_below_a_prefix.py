"""The pages below a prefix, in Chromium: a request to any other path of the host fails the test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from app import create_app
from app.settings import Settings
from tests.browser.visit import Visit, visiting
from tests.web.stage import serving

pytestmark = [pytest.mark.browser, pytest.mark.needs_program("chromium")]

MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"
PREFIX = "/team/models-of-ours"
Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


def mounted(app: Wsgi, *, told: bool) -> Wsgi:
    """Serve an application below the prefix. Tell it the prefix through WSGI, or only remove the prefix, as some
    proxies do."""

    def below(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith(f"{PREFIX}/"):
            environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix(PREFIX)
            environ["SCRIPT_NAME"] = PREFIX if told else ""
        return app(environ, start_response)

    return below


@pytest.fixture(scope="module", params=[True, False], ids=["told", "silent"])
def root(request: pytest.FixtureRequest) -> Iterator[str]:
    app = create_app(Settings(models_dir=MODELS, access_log=False))
    app.extensions["retort"].load()
    app.wsgi_app = mounted(app.wsgi_app, told=request.param)  # type: ignore[method-assign]
    with serving(app) as address:
        yield f"{address}{PREFIX}"


def test_every_page_is_reached_by_links_and_predicts(visit: Visit) -> None:
    page = visit.page
    page.goto(f"{visit.root}/")
    expect(page.locator("#answer .headline")).to_have_text("Adelie")
    page.get_by_label("Pages").get_by_role("link", name="Models").click()
    page.get_by_role("link", name="iris-two").click()
    page.get_by_label("feature1", exact=True).fill("6")
    expect(page).to_have_url(f"{visit.root}/models/iris-two?feature1=6")
    expect(page.locator("[data-code] code")).to_contain_text(f"curl {visit.root}/models/iris-two/predict -d")
    expect(page.locator("[data-timing]")).to_contain_text("in the model")
    page.get_by_role("link", name="version 1").click()
    expect(page).to_have_url(f"{visit.root}/models/iris-two/versions/1")
    page.get_by_role("link", name="The documentation").click()
    operation = page.locator(".opblock", has_text="Predict with iris-two")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
    page.get_by_label("Pages").get_by_role("link", name="ReDoc").click()
    expect(page.locator('#redoc td[title="feature1"]').first).to_be_visible()


def test_a_file_is_predicted(visit: Visit) -> None:
    page = visit.page
    page.goto(f"{visit.root}/models/iris-two")
    file = {"name": "rows.csv", "mimeType": "text/csv", "buffer": b"feature1,feature2\n5.1,3.5\n"}
    page.locator("[data-bulk] input[type=file]").set_input_files(file)
    expect(page.locator(".sheet td.made")).to_have_text(["0"])


def test_the_plain_form_and_the_pages_of_errors_stay_below_the_prefix(chromium: Browser, root: str) -> None:
    for visit in visiting(chromium, root, java_script_enabled=False):
        visit.expected.append("404")
        page = visit.page
        page.goto(f"{root}/models/pinguins")
        page.get_by_role("link", name="About this error").click()
        page.get_by_role("link", name="All types of errors").click()
        page.get_by_label("Pages").get_by_role("link", name="Home").click()
        page.get_by_label("Biscoe").check()
        page.get_by_role("button", name="Predict").click()
        expect(page).to_have_url(f"{root}/models/penguins/try#answer")
        wanted = page.request.post(
            f"{root}/predict",
            data=json.loads((MODELS / "penguins" / "1" / "manifest.json").read_text("utf-8"))["examples"][0]["instance"]
            | {"island": "Biscoe"},
        ).json()
        expect(page.locator("#answer .headline")).to_have_text(wanted["prediction"][0])
