"""The URLs that jobs may read and write, and downloads of files from web servers."""

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
"""Parts that a path may not have, because they could lead out of the allowed folder."""
PART_BYTES = 2**20
TIMEOUT_S = 30.0
GRACE_S, FLOOR_BYTES_PER_S = 60.0, 10_000.0
"""A web server that sends less on average, after the grace, would hold the worker as long as it likes."""


def is_web(url: str) -> bool:
    """Return whether a URL is one of a web server."""
    return url.partition("://")[0].lower() in WEB


def is_permitted(url: str, prefixes: Sequence[str]) -> bool:
    """Return whether a URL begins with one of the prefixes, and cannot lead elsewhere.

    The scheme and the host must be the same. The path must be below the prefix's, without `..`, and without percent
    signs and backslashes, which some servers read as other characters.
    """
    try:
        found = urlsplit(url)
    except ValueError:
        return False
    if found.scheme not in SCHEMES or "@" in found.netloc or found.fragment or not url.isprintable():
        return False
    if OUTSIDE.search(found.path) or "%" in found.path or (found.query and found.scheme not in WEB):
        return False
    return any(
        (found.scheme, found.netloc.lower()) == (allowed.scheme, allowed.netloc.lower())
        and found.path.startswith(allowed.path or "/")
        for allowed in map(urlsplit, prefixes)
    )


def require_permitted(pointer: str, url: str, prefixes: Sequence[str]) -> None:
    """Check a URL of a request.

    Raises:
        UrlNotPermitted: Jobs may not use it.
    """
    if not is_permitted(url, prefixes):
        raise UrlNotPermitted(pointer, url, prefixes)


class _PermittedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to permitted URLs alone."""

    def __init__(self, prefixes: Sequence[str]) -> None:
        self._prefixes = prefixes

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Return the request for the new URL."""
        if not is_permitted(newurl, self._prefixes):
            raise ScoringRefused(f"{req.full_url}: it redirects to a URL that jobs may not use")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(
    url: str, target: Path, limit_bytes: int, prefixes: Sequence[str], is_cancelled: Callable[[], bool]
) -> bool:
    """Store the file at a URL of a web server. It appears whole. Return False if it was cancelled.

    Raises:
        ScoringRefused: The server does not give it, or it is too long.
    """
    # No proxy of the environment, which could reach other hosts, and no other schemes.
    opener = urllib.request.OpenerDirector()
    for each in (
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        _PermittedRedirects(prefixes),
    ):
        opener.add_handler(each)
    beside = target.with_name(f".{target.name}")
    try:
        with opener.open(url, timeout=TIMEOUT_S) as response, beside.open("wb") as stream:
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
        beside.replace(target)
    except urllib.error.HTTPError as error:
        error.close()
        raise ScoringRefused(f"{url}: its server answered with status {error.code}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ScoringRefused(f"{url}: its server cannot be read ({type(reason).__name__})") from None
    finally:
        beside.unlink(missing_ok=True)
    return True
