"""The URLs that jobs may use, and downloads from a web server of this test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.errors import ScoringRefused, UrlNotPermitted
from app.jobs.job_urls import download, is_permitted, require_permitted
from app.settings import Settings

PREFIXES = ("s3://bucket/in/", "https://data.example.org/", "http://127.0.0.1:9/a/")
CONTENT = b"a,b\n1,2\n" * 1000


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/in/rows.csv",
        "s3://bucket/in/2026/rows.csv",
        "s3://bucket/in/*.csv",
        "https://data.example.org/rows.csv",
        "https://DATA.example.org/a/rows.csv?signature=abc",
        "http://127.0.0.1:9/a/b.csv",
    ],
)
def test_a_url_with_an_allowed_beginning_is_allowed(url: str) -> None:
    assert is_permitted(url, PREFIXES)


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/in",
        "s3://bucket/index.csv",
        "s3://bucket/in/../secret.csv",
        "s3://bucket/in/./rows.csv",
        "s3://bucket2/in/rows.csv",
        "s3://bucket/in/rows.csv?x=1",
        "https://data.example.org.evil.org/rows.csv",
        "https://data.example.org@evil.org/rows.csv",
        "https://data.example.org:8443/rows.csv",
        "https://data.example.org/%2e%2e/rows.csv",
        "https://data.example.org/a\\..\\b.csv",
        "https://data.example.org/a b.csv",
        "http://data.example.org/rows.csv",
        "http://127.0.0.1:9/b.csv",
        "http://127.0.0.1:90/a/b.csv",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "/etc/passwd",
        "http://[::1",
    ],
)
def test_everything_else_is_refused(url: str) -> None:
    assert not is_permitted(url, PREFIXES)
    with pytest.raises(UrlNotPermitted, match="those may that begin with: s3://bucket/in/"):
        require_permitted("input", url, PREFIXES)


def test_by_default_no_url_is_allowed() -> None:
    with pytest.raises(UrlNotPermitted, match="upload the file instead"):
        require_permitted("input", "s3://bucket/in/rows.csv", Settings().jobs_urls)


class Pages(BaseHTTPRequestHandler):
    """Serve a table, and redirect."""

    def do_GET(self) -> None:
        there = {
            "/in/to-in.csv": "/in/rows.csv",
            "/in/to-out.csv": "/out/rows.csv",
            "/in/to-file.csv": "file:///etc/hosts",
        }
        if self.path in there:
            self.send_response(302)
            self.send_header("Location", there[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path in ("/in/rows.csv", "/out/rows.csv", "/in/short.csv"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT) + (self.path == "/in/short.csv")))
            self.end_headers()
            self.wfile.write(CONTENT)
        else:
            self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def root() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def fetched(root: str, name: str, target: Path, limit_bytes: int = 10**6, cancelled: bool = False) -> bool:
    return download(f"{root}/in/{name}", target, limit_bytes, (f"{root}/in/",), lambda: cancelled)


@pytest.mark.parametrize("name", ["rows.csv", "to-in.csv"])
def test_a_file_is_downloaded_also_through_an_allowed_redirect(root: str, name: str, tmp_path: Path) -> None:
    assert fetched(root, name, tmp_path / "input.csv")
    assert (tmp_path / "input.csv").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("to-out.csv", "redirects to a URL that jobs may not use"),
        ("to-file.csv", "answered with status 302"),
        ("missing.csv", "answered with status 404"),
        ("short.csv", "cannot be read|ended before the file did"),
    ],
)
def test_a_file_that_cannot_be_had_is_an_error(root: str, name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ScoringRefused, match=reason):
        fetched(root, name, tmp_path / "input.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_not_longer_than_the_room(root: str, tmp_path: Path) -> None:
    with pytest.raises(ScoringRefused, match="longer than 100 bytes"):
        fetched(root, "rows.csv", tmp_path / "input.csv", limit_bytes=100)
    assert list(tmp_path.iterdir()) == []


def test_a_download_can_be_cancelled(root: str, tmp_path: Path) -> None:
    assert not fetched(root, "rows.csv", tmp_path / "input.csv", cancelled=True)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_sends_slowly_is_given_up(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.jobs.job_urls.GRACE_S", -10.0)  # as if ten seconds had passed
    with pytest.raises(ScoringRefused, match="sends less than 10000 bytes a second"):
        fetched(root, "rows.csv", tmp_path / "input.csv")
    assert list(tmp_path.iterdir()) == []
