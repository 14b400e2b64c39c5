"""The client's address, scheme and host from the header fields of trusted proxies, and the prefix of all URLs."""

from __future__ import annotations

from urllib.parse import quote

from app.server.contract import Environ
from app.settings.readers import URL_PATH


class Forwarding:
    """Rules for `X-Forwarded-*` and the prefix, applied to an environ before other code reads it. Immutable.

    Each of the `trusted_proxies` in front of the server appends a value to each field. So only that many values at
    its end are trusted. Without trusted proxies, the fields are ignored.
    """

    def __init__(self, trusted_proxies: int, prefix: str) -> None:
        self._trusted = trusted_proxies
        self._prefix = prefix.rstrip("/")

    def apply(self, environ: Environ) -> None:
        """Set the address, scheme, host and `SCRIPT_NAME` of the request."""
        prefix = self._prefix
        if self._trusted:
            environ["REMOTE_ADDR"] = self.client(environ)
            if scheme := self._value(environ, "HTTP_X_FORWARDED_PROTO"):
                environ["wsgi.url_scheme"] = "https" if scheme.lower() == "https" else "http"
            if host := self._value(environ, "HTTP_X_FORWARDED_HOST"):
                environ["HTTP_HOST"] = host
            forwarded = self._value(environ, "HTTP_X_FORWARDED_PREFIX").rstrip("/")
            if URL_PATH.fullmatch(forwarded):  # links use it: `//example.org` would lead to another host
                prefix = forwarded
        if prefix:
            path = environ["PATH_INFO"]
            environ["SCRIPT_NAME"] = prefix
            # The path may lack the prefix: a proxy may have removed it, and probes may not send it.
            if path == prefix or path.startswith(f"{prefix}/"):
                environ["PATH_INFO"] = path[len(prefix) :] or "/"

    def client(self, environ: Environ) -> str:
        """Return the address of the client; empty if it is unknown. Changes nothing."""
        address = self._value(environ, "HTTP_X_FORWARDED_FOR") if self._trusted else ""
        return _without_port(address) if address else environ.get("REMOTE_ADDR") or ""

    def _value(self, environ: Environ, key: str) -> str:
        """Return the value that the outermost trusted proxy added; empty if it is missing."""
        values = environ.get(key, "").split(",")
        return values[-self._trusted].strip() if len(values) >= self._trusted else ""


def root_of(environ: Environ) -> str:
    """Return the URL of the application's root for links in the response, without a slash at its end.

    The URL is the prefix (`/ml`) if it is known. Otherwise it is relative to the request's URL, because a proxy may
    have removed a prefix: `.` for `/docs`, `..` for `/problems/queue-full`.
    """
    if prefix := environ.get("SCRIPT_NAME", "").rstrip("/"):
        return quote(prefix, encoding="latin-1")
    return "/".join([".."] * (environ["PATH_INFO"].count("/") - 1)) or "."


def _without_port(address: str) -> str:
    """Remove the port that some proxies add: `192.0.2.1:1234`, `[2001:db8::1]:1234`."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address
