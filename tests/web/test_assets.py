"""The files under /static/web: caching, content, and equality with the vendored releases."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

import app.web
from app.web.rendering import REDOC, SWAGGER_UI, own_edition
from tests.web.stage import EmptyCatalogue, make_app

ROOM = Path(app.web.__file__).parent
STYLE = f"/static/web/site/{own_edition()}/pages.css"
BUNDLES = [
    f"/static/web/swagger-ui/{SWAGGER_UI}/swagger-ui-bundle.js",
    f"/static/web/swagger-ui/{SWAGGER_UI}/swagger-ui.css",
    f"/static/web/redoc/{REDOC}/redoc.standalone.js",
    "/static/web/fzstd/0.1.1/index.mjs",
]


@pytest.fixture
def client() -> FlaskClient:
    return make_app(EmptyCatalogue()).test_client()


def on_disk(address: str) -> bytes:
    library, edition, name = address.removeprefix("/static/web/").split("/")
    return (ROOM / "static" / library / ("" if library == "site" else edition) / name).read_bytes()


@pytest.mark.parametrize("address", [STYLE, *BUNDLES])
def test_assets_are_kept_for_a_year_with_and_without_compression(client: FlaskClient, address: str) -> None:
    plain = client.get(address)
    packed = client.get(address, headers={"Accept-Encoding": "br, gzip"})
    assert plain.data == gzip.decompress(packed.data) == on_disk(address)
    for answer in (plain, packed):
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.mimetype == ("text/css" if address.endswith(".css") else "text/javascript")
    assert ("Content-Encoding" in plain.headers, packed.headers["Content-Encoding"]) == (False, "gzip")
    assert plain.headers["ETag"] != packed.headers["ETag"]


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_an_asset_the_browser_has_is_not_sent_again(client: FlaskClient, encoding: str) -> None:
    first = client.get(STYLE, headers={"Accept-Encoding": encoding})
    again = client.get(STYLE, headers={"Accept-Encoding": encoding, "If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_an_old_url_of_our_own_asset_gives_the_present_file_uncached(client: FlaskClient) -> None:
    answer = client.get("/static/web/site/000000000000/pages.css")
    assert (answer.data, answer.headers["Cache-Control"]) == (on_disk(STYLE), "no-cache")


@pytest.mark.parametrize(
    "path",
    ["site/x/../../pages.py", "site/x/..%2f..%2fpages.py", "site/x/nothing.css", "redoc/9.9.9/redoc.standalone.js",
     "../../pages.py", "site/x//etc/passwd", f"redoc/{REDOC}/../../../pages.py", "redoc/../pages.py"],
)  # fmt: skip
def test_nothing_outside_the_folder_is_served(client: FlaskClient, path: str) -> None:
    assert client.get(f"/static/web/{path}").status_code in {404, 308}


def test_vendored_files_are_the_ones_that_are_listed() -> None:
    listed = {}
    for section in re.split(r"^\| file in `", (ROOM / "VENDORED.md").read_text("utf-8"), flags=re.MULTILINE)[1:]:
        folder = section.split("`", 1)[0]
        listed |= {
            folder + name: digest
            for name, digest in re.findall(r"^\| `([^`]+)` \| `([0-9a-f]{64})` \|$", section, re.MULTILINE)
        }
    found = {
        path.relative_to(ROOM).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (ROOM / "static").rglob("*")
        if path.is_file() and path.parent.name != "site"
    }
    assert found == listed


def test_each_vendored_library_keeps_its_licence() -> None:
    assert "Apache License" in (ROOM / "static" / "swagger-ui" / SWAGGER_UI / "LICENSE").read_text("utf-8")
    for folder in (f"redoc/{REDOC}", "hyparquet/1.33.0", "fzstd/0.1.1"):
        assert "Permission is hereby granted, free of charge" in (ROOM / "static" / folder / "LICENSE").read_text(
            "utf-8"
        )


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("text", "grounds"),
    [
        ("ink", "ground sheet wash"), ("quiet", "ground sheet wash"), ("accent", "ground sheet wash accent-wash"),
        ("good", "ground sheet"), ("bad", "ground sheet bad-wash"), ("wait", "ground sheet"),
        ("shell-ink", "shell"), ("shell-quiet", "shell"), ("shell-accent", "shell"),
    ],
)  # fmt: skip
def test_every_text_can_be_read_in_both_colour_sets(scheme: str, text: str, grounds: str) -> None:
    light, dark = re.findall(r":root \{(.*?)\n *\}", (ROOM / "static/site/pages.css").read_text("utf-8"), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light + (dark if scheme == "dark" else "")))
    for ground in grounds.split():
        brighter, darker = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
        assert (brighter + 0.05) / (darker + 0.05) >= 4.5, (text, ground)
