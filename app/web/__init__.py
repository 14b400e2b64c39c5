"""Pages for people: the models on one page, Swagger UI and ReDoc, with every asset inside the package.

The package knows HTTP and HTML. It knows models only through `Catalogue`.
"""

from app.web.pages import Catalogue, blueprint

__all__ = ["Catalogue", "blueprint"]
