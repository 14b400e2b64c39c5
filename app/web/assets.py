"""Stylesheets, scripts and icons. Their URLs contain an edition, so browsers cache them for a year.

The edition of a vendored library is its release. The edition of this package's own files is a digest of their content,
so a changed stylesheet gets a new URL.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Final

from flask import Response, request
from werkzeug.exceptions import NotFound
from werkzeug.security import safe_join

SWAGGER_UI: Final = "5.35.0"
REDOC: Final = "2.5.4"

_FOLDER: Final = Path(__file__).with_name("static")
_SITE: Final = "site"
_YEAR_S: Final = 365 * 24 * 3600
# `mimetypes` reads the tables of the machine, and with nosniff a wrong type results in a blank page.
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript", ".svg": "image/svg+xml"}


@lru_cache(maxsize=1)
def own_edition() -> str:
    """Return the digest of this package's own assets. It is computed once in a process."""
    digest = hashlib.sha256()
    for path in sorted((_FOLDER / _SITE).iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


@lru_cache(maxsize=32)
def stylesheet(filename: str) -> tuple[str, str]:
    """Return one of this package's own stylesheets, and the source expression that admits it inside a page (CSP 3)."""
    text = (_FOLDER / _SITE / filename).read_text("utf-8")
    return text, f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def asset(library: str, edition: str, filename: str) -> Response:
    """Return one file. It may be cached for a year if the URL names the present edition, else hardly at all.

    During a rollout, an old page may request its old stylesheet from a new server. It receives the present one, which
    must not stay in caches under the old URL.

    Raises:
        NotFound: there is no such file in the folder.
    """
    own = library == _SITE
    found = safe_join(str(_FOLDER), library, filename) if own else safe_join(str(_FOLDER), library, edition, filename)
    if found is None or not Path(found).is_file():
        raise NotFound
    response = _response(Path(found))
    lasting = not own or edition == own_edition()
    response.headers["Cache-Control"] = f"public, max-age={_YEAR_S}, immutable" if lasting else "no-cache"
    response.headers["Vary"] = "Accept-Encoding"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _response(path: Path) -> Response:
    mimetype = _TYPES.get(path.suffix, "text/plain")
    if path.suffix in _TYPES and request.accept_encodings["gzip"] > 0:
        response = Response(_gzip(path), mimetype=mimetype, headers={"Content-Encoding": "gzip"})
    else:
        response = Response(path.read_bytes(), mimetype=mimetype)
    response.add_etag()
    response.make_conditional(request)
    return response


@lru_cache(maxsize=64)
def _gzip(path: Path) -> bytes:
    """Return the compressed file, which is computed once. The documentation bundles shrink from 3 MB to 0.8 MB."""
    return gzip.compress(path.read_bytes(), 6, mtime=0)
