"""The straight way: small requests for predictions, answered without Flask around them.

It takes a part of what the prediction views take, and calls what they call. What it does not take, or what turns out
not to be acceptable, it leaves to Flask as it came, which alone refuses and words the error; a test holds the two to
the same answers. A server may answer on its loop, without a thread, what is `quick`.
"""

from __future__ import annotations

import io
from collections.abc import Callable

from werkzeug.exceptions import HTTPException

from app.errors import RetortError
from app.runtime.registry import Registry
from app.wire.application import Environ, Headers

MAX_BODY_BYTES = 8192
ABSENT = ""
"""No model has this name."""

Answers = Callable[[Environ, str | None], tuple[bytes, Headers]]
"""Answers the request in a WSGI environ with the current version of a model (None: the default one)."""


class StraightWay:
    """Pure functions of the WSGI environ and of what is loaded. Safe to call from many threads."""

    def __init__(self, registry: Registry, answer: Answers) -> None:
        self._registry = registry
        self._answer = answer

    def __call__(self, environ: Environ) -> tuple[bytes, Headers] | None:
        """The answer's body and headers; None where Flask has to look."""
        model = _asked(environ)
        if model == ABSENT:
            return None
        body = environ["wsgi.input"]
        if type(body) is not io.BytesIO:  # another server's, which can be read once only
            body = environ["wsgi.input"] = io.BytesIO(body.read(int(environ["CONTENT_LENGTH"])))
        try:
            return self._answer(environ, model)
        except (RetortError, HTTPException):
            body.seek(0)
            return None

    def quick(self, environ: Environ) -> bool:
        """Whether the request takes microseconds and waits for nothing; runs nothing itself."""
        if environ["PATH_INFO"] == "/livez":
            return bool(environ["REQUEST_METHOD"] != "POST")
        model = _asked(environ)
        return model != ABSENT and self._registry.is_quick(model)


def _asked(environ: Environ) -> str | None:
    """The model that a small request for a prediction names; None is the default one, ABSENT that it is none."""
    if environ["REQUEST_METHOD"] != "POST":
        return ABSENT
    length = environ.get("CONTENT_LENGTH") or ""
    if not (length.isdigit() and len(length) < 6 and int(length) <= MAX_BODY_BYTES):
        return ABSENT
    path: str = environ["PATH_INFO"]
    if path == "/predict":
        return None
    return path[8:-8] if path.startswith("/models/") and path.endswith("/predict") else ABSENT
