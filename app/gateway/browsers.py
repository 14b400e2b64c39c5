"""Interceptors for requests from browsers: CORS, requests forged by other sites, and DNS rebinding.

Sources: the Fetch standard, section 3.2 (CORS protocol); Fetch Metadata Request Headers, section 2.4 (Sec-Fetch-Site).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from app.gateway.context import RequestContext
from app.gateway.errors import RequestRefused
from app.gateway.interceptors import Interceptor
from app.server.contract import Environ, Response

EXPOSED = (
    "X-Request-ID, Server-Timing, Retry-After, RateLimit, RateLimit-Policy, WWW-Authenticate, "
    "Inference-Header-Content-Length, X-Amzn-SageMaker-Custom-Attributes, "
    "Location, ETag, Content-Disposition, Content-Range, Accept-Ranges, Allow, Accept, Accept-Encoding"
)
"""Header fields that scripts of other origins may read: first of predictions and refusals, then of jobs and errors."""
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
ALLOW_ORIGIN = "Access-Control-Allow-Origin"
VARY = ("Vary", "Origin")
SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
ANY = "*"
MOST_WARNINGS = 100
MOST_ORIGIN_CHARS = 200

log = logging.getLogger(__name__)


class Cors(Interceptor):
    """Interceptor that lets pages of the allowed origins read responses, refusals included.

    A browser gives a page of another origin no reason why it may not read a response. So the access log names the
    origin, and each worker logs a warning at the first request of an origin, for a bounded number of origins.

    `origins` are allowed values of `Origin`, or `*`. `credentials` allows cookies and HTTP authentication, except with
    `*`. A browser may cache the result of a preflight request for `max_age_s`.
    """

    may_block = False

    def __init__(self, origins: Iterable[str], credentials: bool, max_age_s: int) -> None:
        allowed = {origin.lower() for origin in origins}
        self._max_age = str(max_age_s)
        shared = [("Access-Control-Expose-Headers", EXPOSED)]
        if credentials and ANY not in allowed:
            shared.append(("Access-Control-Allow-Credentials", "true"))
        self._fields = {origin: ((ALLOW_ORIGIN, origin), *shared) for origin in allowed}
        """The header fields of a response to a page of each allowed origin."""
        self._warned: dict[str, object] = {}

    def before(self, context: RequestContext) -> Response | None:
        """Answer the preflight request of an allowed origin."""
        environ = context.environ
        if environ["REQUEST_METHOD"] != "OPTIONS" or "HTTP_ACCESS_CONTROL_REQUEST_METHOD" not in environ:
            return None
        if not self._fields_for(environ):
            return None
        requested_headers = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "")
        headers = [("Access-Control-Allow-Methods", METHODS), ("Access-Control-Max-Age", self._max_age)]
        if requested_headers and requested_headers.isprintable():
            headers.append(("Access-Control-Allow-Headers", requested_headers))
        vary = ("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
        return Response(204, [*headers, vary])

    def after(self, context: RequestContext, response: Response) -> None:
        """Add the CORS header fields, unless a view has set its own: browsers accept only one allowed origin."""
        if self._fields:
            response.headers.append(VARY)
        if context.through_wsgi and any(name.lower() == ALLOW_ORIGIN.lower() for name, _ in response.headers):
            return
        if fields := self._fields_for(context.environ):
            response.headers += fields
        elif "HTTP_ORIGIN" in context.environ:
            self._note_blocked(context)

    def _fields_for(self, environ: Environ) -> Sequence[tuple[str, str]]:
        """Return the header fields that allow the origin of a request; none if it is not allowed."""
        return self._fields.get(ANY) or self._fields.get(environ.get("HTTP_ORIGIN", "").lower(), ())

    def _note_blocked(self, context: RequestContext) -> None:
        """Record in the context that a page of another origin may not read the response; warn once for each origin."""
        origin = context.environ["HTTP_ORIGIN"].lower()
        if not origin or _is_own_page(context.environ):
            return
        context.blocked_origin = origin = ascii(origin[:MOST_ORIGIN_CHARS])[1:-1]
        marker = object()
        if len(self._warned) < MOST_WARNINGS and self._warned.setdefault(origin, marker) is marker:  # no other thread
            log.warning(
                "browsers keep pages of %s from reading the answers of this server; add the origin to"
                " RETORT_CORS_ORIGINS to allow them",
                origin,
            )


class SameOrigin(Interceptor):
    """Interceptor that refuses changes to the server that a page of another origin requests.

    CORS only keeps such a page from reading the response. Predictions change nothing, so this checks only Retort's
    other URLs.
    """

    may_block = False
    looks_at_view = True
    refuses_by_head = True

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origin.lower() for origin in origins)

    def before(self, context: RequestContext) -> None:
        """Refuse a change that a page of another origin requests."""
        if context.may_change_models and context.environ["REQUEST_METHOD"] not in SAFE:
            self.check(context.environ)

    def check(self, environ: Environ) -> None:
        """Refuse a request of a page of another origin.

        Raises:
            RequestRefused: the page that sent the request is of neither this server nor one of `origins`.
        """
        origin = environ.get("HTTP_ORIGIN", "").lower()
        if not _is_own_page(environ) and origin not in self._origins:
            raise RequestRefused(
                403,
                "foreign-origin",
                f"pages of another origin ({origin[:100] or 'not named'}) may not change what this server serves;"
                " RETORT_CORS_ORIGINS names the origins that may",
            )


def _is_own_page(environ: Environ) -> bool:
    """Return whether a request comes from a page of this server, or from no page.

    `Sec-Fetch-Site` decides if it is set. Otherwise compare `Origin` with `Host`, which a proxy may change.
    """
    if site := environ.get("HTTP_SEC_FETCH_SITE", "").lower():
        return site in ("same-origin", "none")
    origin = environ.get("HTTP_ORIGIN", "").lower()
    host = f"{environ.get('wsgi.url_scheme', '')}://{environ.get('HTTP_HOST', '')}"
    return not origin or bool(origin == host.lower())


class AllowedHosts(Interceptor):
    """Interceptor that, in development, refuses requests for other hosts: DNS rebinding sends those to localhost."""

    may_block = False
    refuses_by_head = True

    def __init__(self, hosts: Iterable[str]) -> None:
        self._hosts = frozenset((*LOOPBACK, *(host.lower().strip("[]") for host in hosts)))

    def before(self, context: RequestContext) -> None:
        """Refuse a request for another host."""
        host = context.environ.get("HTTP_HOST", "")
        named = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        name = named.lower().removesuffix(".")
        if name and name not in self._hosts and not name.endswith(".localhost"):  # name servers do not resolve those
            raise RequestRefused(
                403,
                "host-not-allowed",
                f"in development this server answers to localhost, not to {named[:100]!r}; RETORT_ALLOWED_HOSTS names"
                " further hosts",
            )
