"""A page in Chromium that may request nothing from other hosts and log no unexpected warning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Route

from tests.browser.chromium import WAIT_MS

AXE = Path(__file__).with_name("axe") / "axe.min.js"
WCAG = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
RULES = (*WCAG, "best-practice")


@dataclass
class Visit:
    """One open page.

    Attributes:
        foreign_urls: URLs of requests for other hosts, which are stopped.
        console: warnings and errors of the console.
        expected: parts of messages that the test causes. They are removed at the end, since Chromium may log them
            after the test has seen their effect.
    """

    page: Page
    root: str
    foreign_urls: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.context.route("**/*", self._let_through)
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.console.append(str(error)))

    def _let_through(self, route: Route) -> None:
        if route.request.url.startswith(self.root + "/"):
            route.continue_()
        else:
            self.foreign_urls.append(route.request.url)
            route.abort()

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.console.append(message.text)

    @property
    def unexpected(self) -> list[str]:
        return [each for each in self.console if not any(part in each for part in self.expected)]

    @property
    def overflows(self) -> bool:
        """Whether the page must be scrolled sideways."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))

    def violations(self, rules: tuple[str, ...] = RULES) -> list[tuple[str, str]]:
        """Return what axe finds: each rule, and the first element that breaks it."""
        self.page.evaluate(AXE.read_text("utf-8"))
        found = self.page.evaluate("tags => axe.run({runOnly: tags})", rules)
        return [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]]


def visiting(chromium: Browser, root: str, **options: Any) -> Iterator[Visit]:
    """Open a page of the service at `root`; check at the end that nothing unexpected happened on it.

    Args:
        options: options of `Browser.new_context`. The viewport is 1280 x 900 pixels by default.
    """
    context = chromium.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
    context.set_default_timeout(WAIT_MS)
    visit = Visit(context.new_page(), root)
    visit.watch()
    yield visit
    context.close()
    assert visit.foreign_urls == []
    assert visit.unexpected == []
