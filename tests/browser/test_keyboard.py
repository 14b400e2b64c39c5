"""The playground by keyboard alone, in Chromium."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.visit import Visit

pytestmark = [pytest.mark.browser, pytest.mark.needs_program("chromium")]

MOST_STEPS = 60


def reach(page: Page, selector: str) -> None:
    """Press Tab until the element has the focus, and check that the focus is visible."""
    for _ in range(MOST_STEPS):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            assert page.evaluate(SEEN), f"the focus on {selector} cannot be seen"
            return
    raise AssertionError(f"Tab does not lead to {selector}")


SEEN = """() => {
    const at = document.activeElement;
    return [at, at.nextElementSibling, at.parentElement].some(
        element => element && (getComputedStyle(element).outlineStyle !== "none" || element.matches(".drop")));
}"""


def test_a_record_is_chosen_changed_compared_and_copied(visit: Visit) -> None:
    page = visit.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{visit.root}/models/penguins")
    headline = page.locator("#answer .headline")
    expect(headline).to_have_text("Adelie")
    reach(page, "[data-preset='2']")
    page.keyboard.press("Enter")
    expect(headline).to_have_text("Gentoo")
    reach(page, "input[name=island]")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("Dream")).to_be_checked()
    reach(page, "[data-name=bill_length_mm] .slider")
    before = page.get_by_label("bill_length_mm", exact=True).input_value()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("bill_length_mm", exact=True)).not_to_have_value(before)
    reach(page, "[data-name=body_mass_g] .clear")
    page.keyboard.press("Space")
    expect(page.get_by_label("body_mass_g", exact=True)).to_have_value("")
    reach(page, "form .button")
    with page.expect_response(re.compile("/predict$")):
        page.keyboard.press("Enter")
    reach(page, "[data-keep]")
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="What if")).to_contain_text("This record is kept.")
    reach(page, "[role=tab]")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Python")).to_be_focused()
    reach(page, "[data-code] .copy")
    page.keyboard.press("Enter")
    expect(page.locator("[data-code] .copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith("import requests")
    reach(page, "[data-bulk] input[type=file]")


def test_a_digit_is_drawn_with_the_arrow_keys(visit: Visit) -> None:
    page = visit.page
    page.goto(f"{visit.root}/models/digits-image")
    expect(page.locator("#answer .headline")).not_to_be_empty()
    reach(page, "[data-draw]")
    page.keyboard.press("Enter")
    expect(page.locator("canvas")).to_be_focused()
    for _ in range(12):
        page.keyboard.press("ArrowDown")
    expect(page.locator("#answer .headline")).to_have_text("1")
