"""Results of Gunicorn's own parser for the bytes of a connection, the reference for the worker."""

from __future__ import annotations

import copy
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gunicorn.http import wsgi
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.http.parser import RequestParser

from app.server.refusals import parse_status

IGNORED = ("wsgi.", "gunicorn.", "retort.")


@dataclass
class Verdict:
    """The requests that an application gets, as (environ, body), and the status of the refusal after them."""

    requests: list[tuple[dict[str, Any], bytes]]
    refusal: int | None  # None: no refusal, or an incomplete request


def plain(environ: dict[str, Any], body: bytes) -> dict[str, Any]:
    """Return the parts of an environ that must be equal."""
    kept = {key: value for key, value in environ.items() if not key.startswith(IGNORED)}
    if "HTTP_TRANSFER_ENCODING" in environ and kept.get("CONTENT_LENGTH") == str(len(body)):
        del kept["CONTENT_LENGTH"]  # this worker records the total length of the chunks
    return kept | {"wsgi.url_scheme": environ["wsgi.url_scheme"]}


class _NoSocket:
    def send(self, content: bytes) -> int:
        return len(content)


def gunicorn_verdict(cfg: Any, content: bytes) -> Verdict:
    cfg = copy.deepcopy(cfg)
    cfg.set("http_parser", "python")
    parser = RequestParser(cfg, iter([content]), "")
    found: list[tuple[dict[str, Any], bytes]] = []
    try:
        for request in parser:
            _, environ = wsgi.create(request, _NoSocket(), "", ("127.0.0.1", 80), cfg)
            body = request.body.read()
            if environ.get("CONTENT_LENGTH") and len(body) < int(environ["CONTENT_LENGTH"]):
                return Verdict(found, 400)  # Gunicorn passes a cut body on; this worker must not
            found.append((environ, body))
    except (NoMoreData, StopIteration):
        return Verdict(found, None)
    except (ParseException, OSError) as error:
        return Verdict(found, parse_status(error))
    return Verdict(found, None)


def statuses_in(received: bytes) -> list[int]:
    """Return the statuses of the sent responses. No response of these tests has such a line in its body."""
    return [int(code) for code in re.findall(rb"HTTP/\d\.\d (\d{3}) ", received)]


def load_corpus(source: Path) -> list[tuple[str, Any, bytes]]:
    """Return each file of the corpus: its name, its configuration, its bytes."""
    spec = importlib.util.spec_from_file_location("treq", source / "tests" / "treq.py")
    assert spec is not None
    assert spec.loader is not None
    treq = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(treq)
    found = []
    for path in sorted((source / "tests" / "requests").glob("*/*.http")):
        received = treq.load_py(str(path.with_suffix(".py")))
        content = treq.badrequest(str(path)).data
        found.append((f"{path.parent.name}/{path.name}", received["cfg"], content))
    return found
