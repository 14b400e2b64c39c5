"""Pages for people: the models with their playgrounds, Swagger UI and ReDoc. The package contains every asset.

It reads models only through `Catalogue`.
"""

from flask import Flask

from app.core.catalogue import Catalogue
from app.gateway.errors import ErrorRenderer
from app.web.pages import blueprint, negotiate
from app.web.rendering import error_page


def register(app: Flask, catalogue: Catalogue, errors: ErrorRenderer, *, has_jobs: bool) -> None:
    """Add the pages to an application, also for errors. If `has_jobs` is true, pages link to `/jobs`."""
    app.jinja_env.globals["has_jobs"] = has_jobs
    app.register_blueprint(blueprint(catalogue))
    negotiate(app, catalogue)
    errors.page = error_page(app)
