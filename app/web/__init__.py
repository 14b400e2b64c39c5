"""Pages for people: the models with their playgrounds, Swagger UI and ReDoc, with every asset inside the package.

The package knows HTTP and HTML. It knows models only through `Catalogue`.
"""

from app.web.error_page import error_page
from app.web.pages import Catalogue, blueprint, negotiate

__all__ = ["Catalogue", "blueprint", "error_page", "negotiate"]
