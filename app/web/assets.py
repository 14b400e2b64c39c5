"""Stylesheets, scripts and icons, under addresses that name their edition, so that a browser asks for each one once.

A vendored library's edition is its release. This package's own files have none, so theirs is a digest of what is in
them: a changed stylesheet gets a new address, and no reader ever sees a new page in an old dress.
"""

from __future__ import annotations

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
_OWN: Final = "site"
_YEAR_S: Final = 365 * 24 * 3600
# Spelled out because `mimetypes` reads the machine's own tables, and under nosniff a wrong type is a blank page.
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@lru_cache(maxsize=1)
def own_edition() -> str:
    """The digest of this package's own assets; read once in a process, as they change only with the code."""
    digest = hashlib.sha256()
    for path in sorted((_FOLDER / _OWN).iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def asset(library: str, edition: str, filename: str) -> Response:
    """One file, cached for a year where the address names the edition that is here, and hardly at all otherwise.

    While a release rolls out, an old page may ask a new server for its old stylesheet: it gets the present one, which
    must not stay in caches under the old address. Raises NotFound for anything outside the folder.
    """
    own = library == _OWN
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


@lru_cache(maxsize=32)
def _gzip(path: Path) -> bytes:
    """The file, compressed once and kept: the documentation bundles go from 3 MB to 0.8, on the line and in memory."""
    return gzip.compress(path.read_bytes(), 6, mtime=0)
