"""Measure the page of each example model in Chromium: its size, its start over a slow line, and live answers.

    python -m benchmarks.pages [--rounds 5] [--seconds 3]

For each page, print the median and, in parentheses, the least and the greatest of

- the bytes of the first view, compressed, with header fields;
- the time until the form is painted and usable, over a line like the profile "Fast 3G";
- the time until the script of the page, which shows live answers, has started over that line;
- the answers shown per second while a slider moves with each frame, without a slow line; for pages that have a slider.

The server has one core, the browser has the other.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from playwright.sync_api import Browser, CDPSession, Page

from benchmarks.measure import Cores, Launch, running
from benchmarks.servers import BIN, ROOT, WORK, web_line
from benchmarks.waiting import PLAIN_QUESTION
from tests.browser.chromium import launched

MODELS = ROOT / "examples" / "models"
LINES = {
    "Fast 3G of WebPageTest: 150 ms, 1.6 Mbit/s": {"latency": 150, "downloadThroughput": 200_000},
    "Fast 3G of Chrome's tools: 562.5 ms, 1.44 Mbit/s": {"latency": 562.5, "downloadThroughput": 180_000},
}
"""Latency in ms of each request, and bytes per second."""
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
STARTED = "document.querySelector('[data-code] .tabs') && performance.now()"
SLIDE = """async (seconds) => {
    const slider = document.querySelector("[data-playground] input[type=range]");
    if (!slider) return null;
    const [least, most] = [Number(slider.min), Number(slider.max)];
    let answers = 0;
    const observer = new MutationObserver(() => { answers += 1; });
    observer.observe(document.querySelector("[data-answer]"), { childList: true, subtree: true, characterData: true });
    const began = performance.now();
    for (let now = began; now - began < 1000 * seconds; now = await new Promise(requestAnimationFrame)) {
        slider.value = least + (most - least) * (0.5 + 0.5 * Math.sin((now - began) / 500));
        slider.dispatchEvent(new Event("input", { bubbles: true }));
    }
    observer.disconnect();
    return answers / ((performance.now() - began) / 1000);
}"""


@dataclass(frozen=True)
class Visit:
    """One page in a window of its own, whose cache is empty."""

    page: Page
    network: CDPSession
    received: list[float]


@contextmanager
def visit(browser: Browser) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, bypass_csp=True)  # the CSP forbids polling
    page = context.new_page()
    network = context.new_cdp_session(page)
    network.send("Network.enable")
    received: list[float] = []
    network.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    yield Visit(page, network, received)
    context.close()


def measured_once(browser: Browser, url: str, seconds: float) -> Iterator[tuple[str, float]]:
    """Yield the name and the value of each figure of a page."""
    with visit(browser) as one:
        one.page.goto(url, wait_until="networkidle")
        yield "first view, KB", sum(one.received) / 1000
        answers = one.page.evaluate(SLIDE, seconds)
        if answers is not None:
            yield "answers shown per second while a slider moves", answers
    for name, line in LINES.items():
        with visit(browser) as one:
            one.network.send("Network.emulateNetworkConditions", {"offline": False, "uploadThroughput": 96_000, **line})
            one.page.goto(url, wait_until="commit")  # the script may start before the icon has loaded
            yield f"{name}: form painted, ms", one.page.wait_for_function(PAINTED).json_value()
            yield f"{name}: script started, ms", one.page.wait_for_function(STARTED).json_value()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    asked = parser.parse_args()
    cores = Cores.of_this_machine()
    os.sched_setaffinity(0, {cores.client})
    env = {"HOST": "127.0.0.1", "PORT": "{port}", "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin"}
    env |= {"RETORT_MODELS_DIR": str(MODELS)}
    launch = Launch(web_line((ROOT / "Procfile").read_text()), ROOT, env)
    with running(launch, WORK / "logs" / "pages.log", cores.server) as server, launched() as browser:
        server.await_answer("/models/iris-two/predict", PLAIN_QUESTION)
        for model in sorted(path.name for path in MODELS.iterdir() if path.is_dir()):
            found: dict[str, list[float]] = defaultdict(list)
            for _ in range(asked.rounds):
                for name, value in measured_once(
                    browser, f"http://127.0.0.1:{server.port}/models/{model}", asked.seconds
                ):
                    found[name].append(value)
            print(model)
            for name, values in found.items():
                print(f"  {name}: {median(values):.0f} ({min(values):.0f}-{max(values):.0f})")


if __name__ == "__main__":
    main()
