"""MkDocs hooks: files of the repository that are not in docs/, and links to them."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = (
    "benchmarks/RESULTS.md",
    "benchmarks/cost.svg",
    "benchmarks/memory-and-start.svg",
    "examples/README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
)
"""Files that pages link to as `../<path>`, the path on a code host. The site has them at `<path>`."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the published files."""
    for path in PUBLISHED:
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Change links to the places of the published files in the site."""
    if page.file.src_uri.startswith("benchmarks/"):
        return re.sub(r"\[([^\]]+)\]\(peers/\)", r"\1", markdown)  # the peers' sources are not published
    return markdown.replace("](../", "](")
