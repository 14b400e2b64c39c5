"""The pages of a service with API keys, in Chromium, which sends the key as a password."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from app import create_app
from app.settings import Settings
from app.storage.keys import make_key
from tests.browser.visit import visiting
from tests.web.stage import serving

pytestmark = [pytest.mark.browser, pytest.mark.needs_program("chromium")]

MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"
KEY, STORED = make_key("somebody", ["predict"], ["iris-two"])


@pytest.fixture(scope="module")
def root() -> Iterator[str]:
    app = create_app(Settings(models_dir=MODELS, access_log=False, api_keys=(STORED.entry(),)))
    app.extensions["retort"].load()
    with serving(app) as address:
        yield address


def test_the_playground_and_the_documentation_work_with_a_key(chromium: Browser, root: str) -> None:
    for visit in visiting(chromium, root, http_credentials={"username": "", "password": KEY}):
        with visit.page.expect_response(re.compile(r"/models/iris-two/predict$")) as response:
            visit.page.goto(f"{root}/models/iris-two")
        assert response.value.status == 200
        expect(visit.page.locator("#answer .headline")).not_to_be_empty()
        visit.page.goto(f"{root}/docs")
        expect(visit.page.locator(".opblock", has_text="Predict with iris-two")).to_be_visible()
        expect(visit.page.locator(".opblock", has_text="Predict with penguins")).to_have_count(0)
