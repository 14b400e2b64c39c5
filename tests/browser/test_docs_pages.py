"""The pages in Chromium, without access to any other host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.visit import Visit, visiting
from tests.web.stage import StoredCatalogue, make_app, serving

pytestmark = [pytest.mark.browser, pytest.mark.needs_program("chromium")]


@pytest.fixture(scope="module")
def root() -> Iterator[str]:
    with serving(make_app(StoredCatalogue())) as address:
        yield address


@pytest.fixture(params=[(1280, "light"), (375, "dark")], ids=["1280-light", "375-dark"])
def visit(request: pytest.FixtureRequest, chromium: Browser, root: str) -> Iterator[Visit]:
    width, scheme = request.param
    yield from visiting(chromium, root, viewport={"width": width, "height": 900}, color_scheme=scheme)


def test_swagger_ui_tries_an_example_out(visit: Visit) -> None:
    page = visit.page
    page.goto(f"{visit.root}/docs")
    operation = page.locator(".opblock", has_text="Predict with penguins")
    operation.locator(".opblock-summary-control").click()
    expect(operation.locator("textarea")).to_have_value(re.compile('"island": "Torgersen"'))
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table")
    expect(answer.locator(".response-col_status").last).to_contain_text("200")
    expect(answer.locator(".response-col_description").last).to_contain_text('"Adelie"')
    assert urlsplit(page.url).fragment.startswith("/penguins/")  # an open operation has its own address
    assert not visit.overflows


def test_redoc_shows_the_fields_and_finds_them(visit: Visit) -> None:
    page = visit.page
    page.goto(f"{visit.root}/redoc")
    for name in ("island", "bill_length_mm", "flipper_length_mm"):
        expect(page.locator(f'#redoc td[title="{name}"]').first).to_be_visible()
    expect(page.locator("#redoc").get_by_text("32.1 to 59.6 seen in training").first).to_be_visible()
    assert page.locator("#redoc img").count() == 0
    assert page.locator("#redoc pre:not([tabindex])").count() == 0
    assert visit.violations() == []
    assert not visit.overflows
    if (page.viewport_size or {})["width"] > 1000:  # on a phone the search, which runs in a worker, is hidden in a menu
        page.locator("#redoc input[type=text]").fill("penguins")
        expect(page.locator('[data-role="search:results"] [role=menuitem]').first).to_be_visible()


def test_home_shows_every_model_and_fits_the_screen(visit: Visit) -> None:
    page = visit.page
    page.goto(f"{visit.root}/")
    expect(page.locator("article")).to_have_count(6)
    assert not visit.overflows


def test_many_inputs_are_folded(visit: Visit) -> None:
    page = visit.page
    page.goto(f"{visit.root}/models/digits")
    inputs = page.locator("#inputs details.inputs")
    expect(inputs.locator("table")).to_be_hidden()
    inputs.locator("summary").first.click()
    expect(inputs.locator("tbody tr")).to_have_count(64)
    expect(inputs.locator("table")).to_be_visible()
    assert not visit.overflows


def test_a_command_is_copied_as_it_stands(visit: Visit) -> None:
    page = visit.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{visit.root}/models/reviews")
    shell = page.locator(".request")
    shell.get_by_role("button", name="Copy").click()
    expect(shell.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == shell.locator("code.command").text_content()


def test_home_needs_no_script(chromium: Browser, root: str) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{root}/")
    expect(page.locator("code.command")).to_be_visible()
    expect(page.locator("button:visible")).to_have_text(["Predict"])
    context.close()
