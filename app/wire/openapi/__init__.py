"""`GET /openapi.json`: an OpenAPI 3.1 document that has each available model as an operation with its real fields.

`document` puts the document together, `operations` names its operations and filters their media types, `requests`
describes request bodies, `responses` describes answers and errors, `schemas` describes the models.
"""

from app.wire.openapi.document import CONFIG, register

__all__ = ["CONFIG", "register"]
