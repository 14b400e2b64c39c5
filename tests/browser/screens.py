"""Write screenshots of the pages into a folder: `python -m tests.browser.screens docs/screens`, or `make screens`."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from app import create_app
from app.settings import Settings
from tests.browser.chromium import launched
from tests.web.stage import serving

MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"
SIZES = {"phone": (360, 800), "desktop": (1280, 900)}
SCHEMES = ("light", "dark")
MOST_PX = 1500
THREE = [(80, 45), (190, 45), (130, 120), (190, 165), (180, 225), (130, 248), (75, 230)]


def home(page: Page, root: str) -> None:
    """Show the home page with the default model's playground."""
    page.goto(f"{root}/")


def models(page: Page, root: str) -> None:
    """Show all models as cards."""
    page.goto(f"{root}/models")


def penguins(page: Page, root: str) -> None:
    """Show a classifier between two classes, and the request in Python."""
    page.goto(f"{root}/models/penguins?island=Dream&bill_length_mm=43.4&bill_depth_mm=18&body_mass_g=3700")
    page.get_by_role("tab", name="Python").click()


def refused(page: Page, root: str) -> None:
    """Show an unacceptable value with its error beside it."""
    page.goto(f"{root}/models/diabetes?age=old&bmi=")


def drawn(page: Page, root: str) -> None:
    """Draw a digit."""
    page.goto(f"{root}/models/digits-image")
    page.get_by_role("button", name="Draw").click()
    canvas = page.locator("canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    points = [(box["x"] + x * box["width"] / 280, box["y"] + y * box["height"] / 280) for x, y in THREE]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=4)
    page.mouse.up()


def rows(page: Page, root: str) -> None:
    """Show the predicted rows of a file."""
    page.goto(f"{root}/models/iris-two")
    lines = ["feature1,feature2,note"] + [f"{4 + n % 40 / 10},{2 + n % 23 / 10},plant {n}" for n in range(3000)]
    file = {"name": "flowers.csv", "mimeType": "text/csv", "buffer": "\n".join(lines).encode()}
    page.locator("[data-bulk] input[type=file]").set_input_files(file)
    page.locator(".sheet td.made").first.wait_for()


def nowhere(page: Page, root: str) -> None:
    """Show the page of an error."""
    page.goto(f"{root}/models/pinguins")


def docs(page: Page, root: str) -> None:
    """Show Swagger UI."""
    page.goto(f"{root}/docs")
    page.locator(".opblock").first.wait_for()


PAGES = (home, models, penguins, refused, drawn, rows, nowhere, docs)


def write(folder: Path) -> None:
    """Write each page for phones and desktops, light and dark."""
    folder.mkdir(parents=True, exist_ok=True)
    app = create_app(Settings(models_dir=MODELS, access_log=False))
    app.extensions["retort"].load()
    with serving(app) as root, launched() as browser:
        for size, (width, height) in SIZES.items():
            for scheme in SCHEMES:
                for show in PAGES:
                    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
                    page = context.new_page()
                    show(page, root)
                    page.wait_for_load_state("networkidle")
                    page.wait_for_timeout(400)  # the page then updates its address and the code
                    page.mouse.move(0, 0)
                    page.evaluate("scrollTo(0, 0)")
                    tall = min(MOST_PX, page.evaluate("document.documentElement.scrollHeight"))
                    page.set_viewport_size({"width": width, "height": max(height, tall)})
                    _save(page.screenshot(), folder / f"{show.__name__}-{size}-{scheme}.png")
                    context.close()


def _save(content: bytes, path: Path) -> None:
    """Write a screenshot with 256 colours, which takes a third of the space."""
    Image.open(io.BytesIO(content)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
