"""The straight way: small requests for predictions, answered without Flask around them.

It takes a part of what the prediction views take, and calls what they call. What it does not take, or what turns out
not to be acceptable, it leaves to Flask as it came, which alone refuses, and words every error, that of a model too; a
test holds the two to the same answers. A server may answer on its loop, without a thread, what is `quick`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Protocol

from app.core.run import FINAL
from app.runtime.registry import Registry
from app.wire.application import FAILED, Environ, Headers
from app.wire.codecs import NDJSON_TYPE, canonical

MAX_BODY_BYTES = 8192
MAX_PREFERENCE_CHARS = 512
"""Of a client's media types and codings together; there are browsers that send two hundred."""
PLAIN_ACCEPTS = ("*/*", "application/json", "")
PLAIN_TYPES = ("application/json", "application/x-www-form-urlencoded")
PROBES = ("/livez", "/metrics")
"""Asked by platforms, above all when every thread is taken."""
SEPARATORS = re.compile("[/:]")
"""What stands around a model's name in the paths of all protocols."""
ABSENT = ""
DEFAULT_LANE = "/"
"""No model has these names."""

Answered = tuple[bytes, Headers]


class Answers(Protocol):
    """Answers requests with the current version of a model (None: the default one)."""

    def attempt(self, environ: Environ, model: str | None) -> Answered:
        """The answer to the request in a WSGI environ; raises what is wrong with it."""

    def together(self, environs: Sequence[Environ], model: str | None) -> list[Answered | None]:
        """The answers to several, which may share runs; None for those to be answered alone."""


class StraightWay:
    """Pure functions of the WSGI environ and of what is loaded. Safe to call from many threads."""

    def __init__(self, registry: Registry, answers: Answers) -> None:
        self._registry = registry
        self._answers = answers

    def __call__(self, environ: Environ) -> Answered | None:
        """The answer's body and headers; None where Flask has to look."""
        model = _asked(environ)
        if model == ABSENT:
            return None
        body = environ["wsgi.input"]
        if type(body) is not io.BytesIO:  # another server's, which can be read once only
            body = environ["wsgi.input"] = io.BytesIO(body.read(int(environ["CONTENT_LENGTH"])))
        try:
            return self._answers.attempt(environ, model)
        except FINAL as error:
            environ[FAILED] = error.with_traceback(None)  # which would hold the environ
            return None
        except Exception:  # noqa: BLE001 (Flask meets it again, and words it)
            body.seek(0)
            return None

    def together(self, environs: Sequence[Environ]) -> list[Answered | None]:
        """The answers to requests of one lane; None for those to be answered alone."""
        try:
            answers = self._answers.together(environs, _asked(environs[0]))
        except Exception:  # noqa: BLE001 (each meets its own again, alone)
            answers = [None] * len(environs)
        for environ, answer in zip(environs, answers, strict=True):
            if answer is None:
                environ["wsgi.input"].seek(0)
        return answers

    def quick(self, environ: Environ) -> bool:
        """Whether the request takes microseconds and waits for nothing; runs nothing itself."""
        if environ["PATH_INFO"] in PROBES:
            return bool(environ["REQUEST_METHOD"] != "POST")
        model = _asked(environ)
        return model != ABSENT and self._registry.is_quick(model)

    def waits(self, environ: Environ) -> bool:
        """Whether the request may wait for others: for its client, as a stream does, or for what its model's steps ask.

        The model is found whatever the protocol.
        """
        if environ["REQUEST_METHOD"] != "POST":
            return False
        if canonical(environ.get("CONTENT_TYPE", "").partition(";")[0]) == NDJSON_TYPE:
            return True
        named = self._registry.with_steps
        if not named:
            return False
        path: str = environ["PATH_INFO"]
        if not named.isdisjoint(SEPARATORS.split(path)):
            return True
        return None in named and "/models/" not in path

    def lane(self, environ: Environ) -> str | None:
        """The lane of a request that is best answered together with others like it."""
        model = _asked(environ)
        # The body is in memory, and so can be read again by whoever answers alone.
        gains = model != ABSENT and type(environ["wsgi.input"]) is io.BytesIO and self._registry.gains_together(model)
        return (model or DEFAULT_LANE) if gains else None


def _asked(environ: Environ) -> str | None:
    """The model that a small request for a prediction names; None is the default one, ABSENT that it is none."""
    if environ["REQUEST_METHOD"] != "POST":
        return ABSENT
    length = environ.get("CONTENT_LENGTH") or ""
    if not (length.isdigit() and len(length) < 6 and int(length) <= MAX_BODY_BYTES):
        return ABSENT
    if not _plain(environ):
        return ABSENT
    path: str = environ["PATH_INFO"]
    if path == "/predict":
        return None
    return path[8:-8] if path.startswith("/models/") and path.endswith("/predict") else ABSENT


def _plain(environ: Environ) -> bool:
    """Whether JSON is to be read and written: other media types and compressed bodies may take long."""
    if "HTTP_CONTENT_ENCODING" in environ:
        return False
    content_type, accept = environ.get("CONTENT_TYPE", ""), environ.get("HTTP_ACCEPT", "*/*")
    codings = environ.get("HTTP_ACCEPT_ENCODING", "")
    if len(content_type) + len(accept) + len(codings) > MAX_PREFERENCE_CHARS:
        return False
    return (not content_type or content_type.startswith(PLAIN_TYPES)) and (accept in PLAIN_ACCEPTS or "json" in accept)
