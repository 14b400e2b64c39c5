"""Check the URLs that jobs may read and write, and download files from web servers."""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from app.errors import ScoringRefused, UrlNotPermitted

SCHEMES = ("s3", "gs", "az", "http", "https")
WEB = ("http", "https")
OUTSIDE = re.compile(r"(^|/)\.{1,2}(/|$)|[\\\s\x00-\x1f]")
"""Forbidden parts of a path, which could lead out of the allowed folder."""
PART_BYTES = 2**20
TIMEOUT_S = 30.0
GRACE_S, FLOOR_BYTES_PER_S = 60.0, 10_000.0
"""After the grace period, a download that is slower on average is refused. It would block the worker."""


def is_web(url: str) -> bool:
    """Return whether a URL has the scheme http or https."""
    return url.partition("://")[0].lower() in WEB


def is_permitted(url: str, prefixes: Sequence[str]) -> bool:
    """Return whether a URL is below one of the permitted prefixes.

    The scheme and the host must be the same. The path must begin with the prefix's path, without `..`, percent signs or
    backslashes, which some servers interpret as other characters.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if parts.scheme not in SCHEMES or "@" in parts.netloc or parts.fragment or not url.isprintable():
        return False
    if OUTSIDE.search(parts.path) or "%" in parts.path or (parts.query and parts.scheme not in WEB):
        return False
    return any(
        (parts.scheme, parts.netloc.lower()) == (allowed.scheme, allowed.netloc.lower())
        and parts.path.startswith(allowed.path or "/")
        for allowed in map(urlsplit, prefixes)
    )


def require_permitted(pointer: str, url: str, prefixes: Sequence[str]) -> None:
    """Check a URL from a request. `pointer` is its place in the request.

    Raises:
        UrlNotPermitted: Jobs may not use the URL.
    """
    if not is_permitted(url, prefixes):
        raise UrlNotPermitted(pointer, url, prefixes)


class _PermittedRedirects(urllib.request.HTTPRedirectHandler):
    """Redirect handler that follows only redirects to permitted URLs."""

    def __init__(self, prefixes: Sequence[str]) -> None:
        self._prefixes = prefixes

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Return the request for the new URL if it is permitted."""
        if not is_permitted(newurl, self._prefixes):
            raise ScoringRefused(f"{req.full_url}: it redirects to a URL that jobs may not use")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(
    url: str, target: Path, limit_bytes: int, prefixes: Sequence[str], is_cancelled: Callable[[], bool]
) -> bool:
    """Download a file from a web server to `target`, which appears when complete. Return False if cancelled.

    Raises:
        ScoringRefused: The server does not send the file, or the file is too long.
    """
    # The opener uses no proxy from the environment, which could reach other hosts, and no other schemes.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        _PermittedRedirects(prefixes),
    ):
        opener.add_handler(handler)
    partial = target.with_name(f".{target.name}")
    try:
        with opener.open(url, timeout=TIMEOUT_S) as response, partial.open("wb") as stream:
            declared, size_bytes = response.headers.get("Content-Length", ""), 0
            began_s = time.monotonic()
            while part := response.read1(PART_BYTES):
                size_bytes += len(part)
                if size_bytes > limit_bytes:
                    raise ScoringRefused(
                        f"{url}: it is longer than {limit_bytes} bytes, the room that is left for jobs"
                    )
                if is_cancelled():
                    return False
                if size_bytes < (time.monotonic() - began_s - GRACE_S) * FLOOR_BYTES_PER_S:
                    raise ScoringRefused(f"{url}: its server sends less than {FLOOR_BYTES_PER_S:g} bytes a second")
                stream.write(part)
            if declared.isdigit() and size_bytes < int(declared):
                raise ScoringRefused(f"{url}: the connection ended before the file did")
        partial.replace(target)
    except urllib.error.HTTPError as error:
        error.close()
        raise ScoringRefused(f"{url}: its server answered with status {error.code}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ScoringRefused(f"{url}: its server cannot be read ({type(reason).__name__})") from None
    finally:
        partial.unlink(missing_ok=True)
    return True
