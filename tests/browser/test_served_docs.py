"""/docs and /redoc of the real service with the committed models, in Chromium, without access to any other host."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Browser, Locator, expect

from app.runtime.proving import same
from tests.browser.visit import WCAG, Visit, visiting

pytestmark = [pytest.mark.browser, pytest.mark.needs_program("chromium")]

MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"
PENGUINS = ("island", "bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "sex", "year")


def recorded(name: str) -> dict[str, Any]:
    """Return the first recorded example of a model."""
    manifest = json.loads((MODELS / name / "1" / "manifest.json").read_text("utf-8"))
    example: dict[str, Any] = manifest["examples"][0]
    return example


@pytest.fixture(scope="module")
def open_docs(chromium: Browser, root: str) -> Iterator[Visit]:
    for visit in visiting(chromium, root):
        visit.page.goto(f"{visit.root}/docs")
        yield visit


@pytest.fixture
def docs(open_docs: Visit) -> Iterator[Visit]:
    """Return the page of Swagger UI, with all operations closed. It is loaded once, because that takes seconds."""
    yield open_docs
    for name in ("Clear", "Reset"):
        for button in open_docs.page.get_by_role("button", name=name, exact=True).all():
            button.click()
    for operation in open_docs.page.locator(".opblock.is-open .opblock-summary-control").all():
        operation.click()
    expect(open_docs.page.locator(".opblock.is-open")).to_have_count(0)
    assert open_docs.foreign_urls == []
    assert open_docs.unexpected == []


@pytest.mark.parametrize("name", ["penguins", "iris-two", "diabetes", "digits", "digits-image"])
def test_execute_gives_the_recorded_prediction(docs: Visit, name: str) -> None:
    page, example = docs.page, recorded(name)
    operation = opened(docs, name, "application/json")
    assert json.loads(operation.locator("textarea").input_value()) == example["instance"]
    expect(operation.locator(".live-responses-table")).to_have_count(0)
    with page.expect_response(f"{docs.root}/models/{name}/predict") as response:
        operation.get_by_role("button", name="Execute").click()
    shown = operation.locator(".live-responses-table")
    expect(shown.locator(".response-col_status").last).to_contain_text("200")
    expect(shown.locator(".response-col_description").last).to_contain_text(f'"model": "{name}"')
    if name == "penguins":
        expect(shown.locator(".response-col_description").last).to_contain_text('"Adelie"')
    assert response.value.status == 200
    answer = response.value.json()
    for output, value in example["outputs"].items():
        assert same([value], answer[output])


def opened(visit: Visit, name: str, media_type: str) -> Locator:
    """Open the operation of a model in Swagger UI, and choose this media type for its request."""
    operation = visit.page.locator(".opblock", has_text=re.compile(rf"Predict with {name}(?!-)"))
    operation.locator(".opblock-summary-control").click()
    operation.get_by_label("Request content type").select_option(media_type)
    return operation


def executed(visit: Visit, operation: Locator, name: str) -> str:
    """Press Execute, check that the page shows status 200, and return the answer."""
    if (clear := operation.get_by_role("button", name="Clear", exact=True)).is_visible():
        clear.click()
    expect(operation.locator(".live-responses-table")).to_have_count(0)
    with visit.page.expect_response(f"{visit.root}/models/{name}/predict") as response:
        operation.get_by_role("button", name="Execute").click()
    shown = operation.locator(".live-responses-table")
    expect(shown.locator(".response-col_status").last).to_contain_text(str(response.value.status))
    answer = response.value.text()
    assert response.value.status == 200, answer
    return answer


@pytest.mark.parametrize(
    ("media_type", "rows"),
    [("application/json", 1), ("application/x-ndjson", 3), ("text/csv", 3), ("multipart/form-data", 1)],
)
def test_the_example_of_each_media_type_is_accepted(docs: Visit, media_type: str, rows: int) -> None:
    operation = opened(docs, "penguins", media_type)
    answer = executed(docs, operation, "penguins")
    if media_type == "application/x-ndjson":  # which is answered line by line
        lines = [json.loads(line)["prediction"] for line in answer.splitlines()]
        assert lines == ["Adelie", "Adelie", "Gentoo"]
        operation.locator("textarea").fill(json.dumps(recorded("penguins")["instance"]))
        assert json.loads(executed(docs, operation, "penguins"))["prediction"] == "Adelie"
    else:
        assert json.loads(answer)["prediction"] == ["Adelie", "Adelie", "Gentoo"][:rows]


def test_a_file_can_be_chosen_for_a_binary_type(docs: Visit) -> None:
    operation = opened(docs, "penguins", "application/msgpack")
    content = msgspec.msgpack.encode({"instances": [recorded("penguins")["instance"]]})
    operation.locator("input[type=file]").set_input_files(
        {"name": "rows", "mimeType": "application/msgpack", "buffer": content}
    )
    assert json.loads(executed(docs, operation, "penguins"))["prediction"] == ["Adelie"]


def test_an_image_is_chosen_as_a_file(docs: Visit) -> None:
    operation = opened(docs, "digits-image", "multipart/form-data")
    content = base64.b64decode(recorded("digits-image")["instance"]["image"])
    operation.locator("input[type=file]").set_input_files(
        {"name": "digit.png", "mimeType": "image/png", "buffer": content}
    )
    assert json.loads(executed(docs, operation, "digits-image"))["prediction"] == [0]


@pytest.mark.parametrize("path", ["/predict", "/models/{model}/versions/{version}/predict"])
def test_the_views_send_a_true_example_too(docs: Visit, path: str) -> None:
    page = docs.page
    operation = page.locator(".opblock", has=page.locator(f'[data-path="{path}"]'))
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Execute").click()
    shown = operation.locator(".live-responses-table")
    expect(shown.locator(".response-col_status").last).to_contain_text("200")
    expect(shown.locator(".response-col_description").last).to_contain_text('"Adelie"')


def test_a_bad_value_is_answered_with_its_place(visit: Visit) -> None:
    visit.expected.append("422")  # Chromium logs each error response
    page = visit.page
    page.goto(f"{visit.root}/docs")
    operation = page.locator(".opblock", has_text="Predict with penguins")
    operation.locator(".opblock-summary-control").click()
    operation.locator("textarea").fill(json.dumps(recorded("penguins")["instance"] | {"island": "Mars"}))
    operation.get_by_role("button", name="Execute").click()
    shown = operation.locator(".live-responses-table")
    expect(shown.locator(".response-col_status").last).to_contain_text("422")
    expect(shown.locator(".response-col_description").last).to_contain_text("#/island")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_an_operation_that_was_tried(chromium: Browser, root: str, scheme: str) -> None:
    for visit in visiting(chromium, root, color_scheme=scheme):
        visit.page.goto(f"{visit.root}/docs")
        operation = opened(visit, "penguins", "application/json")
        executed(visit, operation, "penguins")
        assert visit.violations(WCAG) == []


def test_redoc_shows_the_fields_of_penguins(visit: Visit) -> None:
    # ReDoc's sampler cannot choose between a record and a list; it shows our own examples instead.
    visit.expected.append("OpenAPI Sampler")
    page = visit.page
    page.goto(f"{visit.root}/redoc")
    for name in PENGUINS:
        expect(page.locator(f'#redoc td[title="{name}"]').first).to_be_visible()
    seen = page.locator("#redoc").get_by_text("seen in training: 32.1 to 59.6").first
    expect(seen).to_be_visible()
    for island in ("Biscoe", "Dream", "Torgersen"):
        expect(page.locator("#redoc").get_by_text(f'"{island}"', exact=True).first).to_be_visible()
    titles = [cell.get_attribute("title") for cell in page.locator("#redoc td[title]").all()[: len(PENGUINS)]]
    assert titles == [*PENGUINS]  # the order of a row
    for title in ("one record", "instances", "a list of instances"):
        expect(page.locator("#redoc").get_by_role("button", name=title, exact=True).first).to_be_visible()
    assert page.locator("#redoc").get_by_text(re.compile("1e[+](300|38)")).count() == 0
    expect(page.locator("#redoc").get_by_text('"Adelie"').first).to_be_visible()
