"""HTML pages under the strict policy, inside and outside of a request to Flask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from jinja2 import Environment

from app.gateway.forwarded import root_of
from app.web.assets import own_edition

ASSETS: Final = "/static/web"
# Nothing from anywhere else, nothing inline. `data:` images are the arrows inside Swagger UI's own stylesheet.
_POLICY: Final = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'self'",
}


def render(
    templates: Environment, environ: Mapping[str, Any], template: str, policy: Mapping[str, str], **values: Any
) -> tuple[str, dict[str, str]]:
    """Return a page and its header fields; `policy` loosens the strict one.

    It is never cached, as models come and go.
    """
    root = root_of(dict(environ))

    def asset_url(library: str, edition: str, filename: str) -> str:
        return f"{root}{ASSETS}/{library}/{edition}/{filename}"

    def own(filename: str) -> str:
        return asset_url("site", own_edition(), filename)

    page = templates.get_template(f"web/{template}")
    text = page.render(own=own, asset_url=asset_url, root=root, here=environ["PATH_INFO"], **values)
    directives = {**_POLICY, **policy}
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": "; ".join(f"{name} {allowed}" for name, allowed in directives.items()),
        "X-Content-Type-Options": "nosniff",
        # Not "no-referrer": a form would come with `Origin: null`, as if it were a page of another origin.
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-cache",
    }
    return text, headers
