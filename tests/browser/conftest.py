"""The service that browsers visit, unless a module has its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from app import create_app
from app.settings import Settings
from tests.browser.visit import Visit, visiting
from tests.web.stage import serving

MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"


@pytest.fixture(scope="module")
def root() -> Iterator[str]:
    """The address of the service with the committed models."""
    app = create_app(Settings(models_dir=MODELS, access_log=False))
    app.extensions["retort"].load()
    with serving(app) as address:
        yield address


@pytest.fixture
def visit(chromium: Browser, root: str) -> Iterator[Visit]:
    """A window of its own, which only the service can be reached from."""
    yield from visiting(chromium, root)
