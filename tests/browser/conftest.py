"""The service that browsers visit, unless a module starts another."""

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
    """Serve the committed models, and yield the address."""
    app = create_app(Settings(models_dir=MODELS, access_log=False))
    app.extensions["retort"].load()
    with serving(app) as address:
        yield address


@pytest.fixture
def visit(chromium: Browser, root: str) -> Iterator[Visit]:
    """Yield a page in a new window that can reach only the service."""
    yield from visiting(chromium, root)
