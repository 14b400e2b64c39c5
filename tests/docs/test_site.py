"""The site that `make docs` builds: whole, strict, and without anything from other hosts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import NAVIGATION
from tests.end_to_end.process import ROOT, environment

pytestmark = pytest.mark.slow

LOADED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"' >]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    variables = environment(NO_MKDOCS_2_WARNING=1, PYTHONDONTWRITEBYTECODE="")  # as in `make docs`
    built = subprocess.run(build, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_every_page_is_in_the_site(site: Path) -> None:
    for name in NAVIGATION:
        page = name.replace("README.md", "index.html").replace(".md", ".html")
        assert (site / page).is_file(), page
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} <= {Path(name).stem for name in NAVIGATION}


def test_the_site_has_no_code_that_built_it(site: Path) -> None:
    assert [path.name for path in site.rglob("*.py*")] == []


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = {page: LOADED.findall(page.read_text("utf-8")) for page in site.rglob("*.html")}
    styles = {
        style: re.findall(r"url\(\s*[\"']?(?:https?:)?//", style.read_text("utf-8")) for style in site.rglob("*.css")
    }
    assert {path: found for path, found in {**pages, **styles}.items() if found} == {}
