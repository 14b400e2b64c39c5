"""`GET /openapi.json`: an OpenAPI 3.1 document that has each available model as an operation with its real fields.

`document` puts the document together and names its operations, `contents` describes bodies, answers and errors,
`schemas` describes the models.
"""

from app.wire.openapi.document import CONFIG, register

__all__ = ["CONFIG", "register"]
