"""/docs and /redoc of the real service with the committed models, in Chromium, every other host out of reach."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from app.factory import create_app
from app.runtime.proving import same
from app.settings import Settings
from tests.browser.test_docs_pages import FLAGS, Visit
from tests.web.stage import serving

pytestmark = [pytest.mark.browser, pytest.mark.needs_program("chromium")]

MODELS = Path(__file__).resolve().parents[2] / "models"
PENGUINS = ("island", "bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "sex", "year")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def root() -> Iterator[str]:
    with serving(create_app(Settings(models_dir=MODELS))) as address:
        yield address


@pytest.fixture
def visit(chromium: Browser, root: str) -> Iterator[Visit]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(20_000)
    visit = Visit(context.new_page(), root)
    visit.watch()
    yield visit
    context.close()
    assert visit.strangers == []
    assert visit.complaints == []


def recorded(name: str) -> dict[str, Any]:
    """The first recorded example of a model."""
    manifest = json.loads((MODELS / name / "1" / "manifest.json").read_text("utf-8"))
    example: dict[str, Any] = manifest["examples"][0]
    return example


@pytest.mark.parametrize("name", ["penguins", "iris-two", "diabetes", "digits", "digits-image"])
def test_execute_gives_the_recorded_prediction(visit: Visit, name: str) -> None:
    page, example = visit.page, recorded(name)
    page.goto(f"{visit.root}/docs")
    operation = page.locator(".opblock", has_text=re.compile(rf"Predict with {name}(?!-)"))
    operation.locator(".opblock-summary-control").click()
    assert json.loads(operation.locator("textarea").input_value()) == example["instance"]
    with page.expect_response(f"{visit.root}/models/{name}/predict") as told:
        operation.get_by_role("button", name="Execute").click()
    shown = operation.locator(".live-responses-table")
    expect(shown.locator(".response-col_status").last).to_contain_text("200")
    expect(shown.locator(".response-col_description").last).to_contain_text(f'"model": "{name}"')
    if name == "penguins":
        expect(shown.locator(".response-col_description").last).to_contain_text('"Adelie"')
    assert told.value.status == 200
    answer = told.value.json()
    for output, value in example["outputs"].items():
        assert same([value], answer[output])


def test_a_bad_value_is_answered_with_its_place(visit: Visit) -> None:
    page = visit.page
    page.goto(f"{visit.root}/docs")
    operation = page.locator(".opblock", has_text="Predict with penguins")
    operation.locator(".opblock-summary-control").click()
    operation.locator("textarea").fill(json.dumps(recorded("penguins")["instance"] | {"island": "Mars"}))
    operation.get_by_role("button", name="Execute").click()
    shown = operation.locator(".live-responses-table")
    expect(shown.locator(".response-col_status").last).to_contain_text("422")
    expect(shown.locator(".response-col_description").last).to_contain_text("#/island")
    # Chromium itself notes each answer that is an error.
    visit.complaints[:] = [each for each in visit.complaints if "422" not in each]


def test_redoc_shows_the_fields_of_penguins(visit: Visit) -> None:
    page = visit.page
    page.goto(f"{visit.root}/redoc")
    for name in PENGUINS:
        expect(page.locator(f'#redoc td[title="{name}"]').first).to_be_visible()
    seen = page.locator("#redoc").get_by_text("seen in training: 32.1 to 59.6").first
    expect(seen).to_be_visible()
    for island in ("Biscoe", "Dream", "Torgersen"):
        expect(page.locator("#redoc").get_by_text(f'"{island}"', exact=True).first).to_be_visible()
    # ReDoc's sampler is unsure of a body that may be a record or a list; it shows our own examples instead.
    visit.complaints[:] = [each for each in visit.complaints if not each.startswith("OpenAPI Sampler")]


def test_the_home_page_names_every_model(visit: Visit) -> None:
    page = visit.page
    page.goto(f"{visit.root}/")
    for name in ("penguins", "iris-two", "diabetes", "digits", "digits-image"):
        expect(page.locator(f"#{name} code.command")).to_contain_text("curl ")
