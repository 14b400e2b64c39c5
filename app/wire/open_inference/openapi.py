"""The documentation of this protocol for OpenAPI: request bodies, answers and errors."""

from __future__ import annotations

import marshmallow as ma

from app.wire.problems import ErrorSchema


class TensorErrorSchema(ErrorSchema):
    """Every error of this protocol."""

    ready = ma.fields.Boolean(metadata={"description": "false, of a server that is not ready"})


_PARAMETERS = {"type": "object", "description": "flat: each a string, a number or a boolean"}
_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string", "example": "FP64"},
        "parameters": _PARAMETERS,
        "data": {
            "type": "array",
            "items": {},
            "description": "nested by the shape, or flat; absent where it is binary",
        },
    },
}
_WANTED = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "parameters": _PARAMETERS},
}
_REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": _PARAMETERS,
        "inputs": {"type": "array", "items": _TENSOR},
        "outputs": {"type": "array", "items": _WANTED},
    },
    "example": {
        "inputs": [
            {"name": "feature1", "shape": [1], "datatype": "FP64", "data": [5.1]},
            {"name": "feature2", "shape": [1], "datatype": "FP64", "data": [3.5]},
        ]
    },
}
INFER_BODY = {"required": True, "content": {"application/json": {"schema": _REQUEST}}}
OBJECTS = {"type": "array", "items": {"type": "object"}}
OPTIONAL_BODY = {"required": False, "content": {"application/json": {"schema": {"type": "object"}}}}

ERRORS_OF_INFER = {
    400: "the request is not what it says (JSON, shapes, sizes), or has values that the model does not accept",
    404: "there is no such model or version",
    413: "the body is too long or has too many rows",
    415: "the Content-Encoding is not supported",
    500: "the model failed",
    429: "the server is busy, and more requests of this client wait than of others",
    503: "the model is not available, or the server is busy",
    504: "the request's time ran out",
}
ERRORS_OF_MODEL = {404: "there is no such model or version"}
ERRORS_OF_CHANGE = {
    400: "the body is not JSON, or asks for what is not offered",
    404: "there is no such model",
    413: "the body is too long",
    415: "the Content-Encoding is not supported",
    503: "no version of the model could be loaded",
}
