"""Which requests are known to be quick: a server may answer those on its loop, without a thread.

A pure function of the WSGI environ and of what is loaded: a health check, or a small body for a model that is served
as a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.runtime.registry import Registry

MAX_QUICK_BODY_BYTES = 8192

Quick = Callable[[dict[str, Any]], bool]


def quick_requests(registry: Registry) -> Quick:
    """The function that the server asks; it runs nothing and waits for nothing."""

    def quick(environ: dict[str, Any]) -> bool:
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] != "POST":
            return bool(path == "/livez")
        length = environ.get("CONTENT_LENGTH") or ""
        if not (length.isdigit() and len(length) < 6 and int(length) <= MAX_QUICK_BODY_BYTES):
            return False
        if path == "/predict":
            return registry.is_quick(None)
        if path.startswith("/models/") and path.endswith("/predict"):
            return registry.is_quick(path[len("/models/") : -len("/predict")])
        return False

    return quick
