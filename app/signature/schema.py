"""The marshmallow schema of a signature: the single source for accepted values and for their documentation."""

from __future__ import annotations

from typing import Any

import marshmallow as ma

from app.errors import InvalidRepository
from app.signature import Input, Signature, is_missing
from app.signature.field_errors import hint_for_value, missing, some
from app.signature.kinds import KINDS, limits_of, rule_of
from app.signature.watch import RANGED


def field_of(spec: Input, within_range: bool = False) -> ma.fields.Field[Any]:
    """Return the marshmallow field of one input. It is strict about types, and its message says what is allowed.

    `within_range` documents that numbers outside the range seen in training are refused; `Watch` refuses them.

    Raises:
        InvalidRepository: this release or this installation does not support the input.
    """
    if spec.kind not in KINDS:
        raise InvalidRepository(f"input {spec.name!r} is of kind {spec.kind!r}, which this release does not know")
    try:
        kind, rule = KINDS[spec.kind], rule_of(spec)
    except (TypeError, ValueError) as error:
        raise InvalidRepository(f"input {spec.name!r} cannot be of dtype {spec.dtype!r} ({error})") from None
    except ImportError:
        raise InvalidRepository(
            f"input {spec.name!r} is of kind {spec.kind}, which needs Pillow: pip install pillow"
        ) from None

    def deserialize(self: ma.fields.Field[Any], value: Any, *_: Any, **__: Any) -> Any:
        problem = rule(value)
        if problem is not None:
            raise ma.ValidationError(problem + hint_for_value(value, spec))
        return None if is_missing(value) else value

    field_class = type(f"{spec.kind.title()}Field", (kind.field_class,), {"_deserialize": deserialize})
    field: ma.fields.Field[Any] = field_class(
        data_key=spec.name,
        required=True,
        allow_none=spec.may_be_missing,
        validate=_documented_limits(spec),
        error_messages={"required": missing(spec.may_be_missing), "null": rule(None) or ""},
        metadata=_documented(spec, within_range),
    )
    return field


def _documented(spec: Input, within_range: bool) -> dict[str, Any]:
    """Return the metadata of an input for OpenAPI."""
    metadata: dict[str, Any] = KINDS[spec.kind].schema(spec)
    if _description(spec):
        metadata["description"] = _description(spec)
    if spec.example is not None:
        metadata["example"] = spec.example
    if spec.categories and spec.kind == "category":
        types = {type(c) for c in spec.categories}
        metadata["type"] = "string" if types == {str} else "boolean" if types == {bool} else "number"
    ranged = within_range and spec.kind in RANGED and spec.shape is None
    if ranged and spec.minimum is not None and spec.maximum is not None:
        metadata |= {"minimum": spec.minimum, "maximum": spec.maximum}
    return metadata


def _documented_limits(spec: Input) -> ma.validate.Validator | None:
    """Return a validator that documents the limits in OpenAPI. The rule has applied them already."""
    if spec.closed and spec.categories:
        return _Choice(spec.categories)
    if spec.largest is not None and spec.shape is None:  # in an array each element has the limit
        return _Limit(*limits_of(spec))
    if spec.kind == "number" and (spec.least is not None or spec.most is not None):
        return _Limit(spec.least, spec.most)
    return None


class _Limit(ma.validate.Range):
    """The smallest and the largest value, for documentation. A missing value passes."""

    def __call__(self, value: Any) -> Any:
        return value if value is None else super().__call__(value)


class _Choice(ma.validate.OneOf):
    """The allowed values, for documentation. A missing value, which is None here, passes."""

    def __call__(self, value: Any) -> Any:
        return value if value is None else super().__call__(value)


def _description(spec: Input) -> str:
    parts = [KINDS[spec.kind].describe(spec), "may be null (missing)" if spec.may_be_missing else ""]
    return "; ".join(filter(None, parts))


def schema_of(signature: Signature, title: str = "Instance") -> ma.Schema:
    """Return the schema of one record. Attributes are named by position, because a feature may have any name."""
    names = some(signature.names)
    within = signature.out_of_range == "reject"
    fields = {f"input_{position}": field_of(spec, within) for position, spec in enumerate(signature.inputs)}
    schema_class = ma.Schema.from_dict(dict(fields), name=title)
    schema_class.error_messages = {
        "unknown": f"is not a feature of this model; the features are: {names}",
        "type": f"must be an object with these features: {names}",
    }
    return schema_class(unknown=ma.RAISE)
