"""Build the errors of single fields: their pointers, the values that they show, hints, and the error of a request."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any
from urllib.parse import quote

from app.errors import FieldError, InvalidInstances
from app.signature import Input, Signature

MAX_SHOWN_CHARS = 100
MAX_SHOWN_NAMES = 20
MOST_ERRORS = 100
ENCODED_TWICE = (
    "is a string that holds JSON, as if it had been encoded twice: send the value itself"
    " (in Python json=payload, not json=json.dumps(payload))"
)
SEND_RECORDS = 'send a list of records instead, as to_json(orient="records") makes'
OTHER_NAMES = (
    "instances", "instance", "inputs", "input", "data", "features", "records", "rows", "samples", "values", "x",
)  # fmt: skip
"""Names under which clients of other servers send instances, in lower case."""
MLFLOW = ("dataframe_split", "dataframe_records")
UNQUOTED: Mapping[str, tuple[type, ...]] = {"number": (int, float), "integer": (int,), "boolean": (bool,)}
"""Types of values by the kind of input, for kinds that clients often send in quotes."""
MAX_SLIP_CHARS = 100
MAX_BLANKS = 1000
MAX_ROW_SHOWN = 20


def escaped(name: str) -> str:
    """Return a name as a segment of a JSON pointer in a URI fragment (RFC 6901 sections 3 and 6), shortened if long."""
    name = name if len(name) <= MAX_SHOWN_CHARS else name[:MAX_SHOWN_CHARS] + "…"
    return quote(name.replace("~", "~0").replace("/", "~1"), safe="~!$&'()*+,;=:@", errors="replace")


def in_row(instance: object) -> bool | None:
    """Return whether an instance is a row (True), a record (False), or the bare value of the only input (None)."""
    return True if isinstance(instance, list) else False if isinstance(instance, dict) else None


def as_row(instance: Any) -> list[Any]:
    """Return a row unchanged, and a bare value of the only input as a row."""
    return instance if isinstance(instance, list) else [instance]


def place_of(instance: str, row: bool | None, name: str, position: int) -> str:
    """Return the pointer of an input's value below the pointer of its instance. `row` is the result of `in_row`."""
    if row is None:
        return instance
    return f"{instance}/{position if row else escaped(name)}"


def missing(may_be_missing: bool) -> str:
    """Return the message for a feature that is missing."""
    return "is missing: every feature of the model is needed" + (", null if not known" * may_be_missing)


def shown(value: object) -> object:
    """Return a value in a form for an error: short, and always valid JSON."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, str) and len(value) > MAX_SHOWN_CHARS:
        return value[:MAX_SHOWN_CHARS] + "…"
    if type(value) is float and value - value != 0.0:
        return str(value)
    if type(value) is int and not -(2**63) <= value < 2**64:
        return "an integer of more than 64 bits"
    return value


def some(names: Sequence[object], most: int = MAX_SHOWN_NAMES) -> str:
    """Return the names as a list in a sentence, shortened if there are many."""
    more = len(names) - most
    return ", ".join(map(str, names[:most])) + (f" and {more} more" if more > 0 else "")


def refused(pointer: str, detail: str, *value: object) -> InvalidInstances:
    """Return the error for one pointer and its value."""
    return InvalidInstances([FieldError(pointer, detail, *map(shown, value))], 1)


def refuse(found: Iterable[FieldError]) -> None:
    """Raise InvalidInstances, if there is a bad place, with the first bad places and the number of all.

    The places are consumed one by one, because a body may have as many as it has bytes.
    """
    rest = iter(found)
    first = list(islice(rest, MOST_ERRORS))
    if first:
        raise InvalidInstances(first, len(first) + sum(1 for _ in rest))


# --- hints for requests that are nearly right, computed only for refused requests


def encoded_twice(value: object) -> bool:
    """Return whether a value is text that looks like a JSON object or list."""
    if not isinstance(value, str):
        return False
    # Only the ends are stripped, because the whole may be very long.
    return value[:MAX_BLANKS].lstrip()[:1] + value[-MAX_BLANKS:].rstrip()[-1:] in ("{}", "[]")


def hinted(detail: str, value: object, signature: Signature) -> str:
    """Return the detail of a refused value, with a hint if the value looks like a known form.

    The signature helps to distinguish the columns of a table from its index.
    """
    if encoded_twice(value):
        return ENCODED_TWICE
    if isinstance(value, dict) and (looks := _looks(value, signature)):
        return f"{detail}; this looks like {looks}: {SEND_RECORDS}"
    if isinstance(value, dict) and _is_record(value, signature):
        return f"{detail}: put the record in a list"
    return detail


def hint_for_document(document: Mapping[str, Any], signature: Signature) -> FieldError | None:
    """Return the single error of a document that was read as a record but looks like something else."""
    looks = _looks(document, signature)
    if looks is not None:
        return FieldError("#", f"looks like {looks}: {SEND_RECORDS}", shown(document))
    if _is_record(document, signature):
        return None
    for key, value in document.items():
        if key == "inputs" and _are_tensors(value):
            detail = "looks like tensors of the Open Inference Protocol: send those to /v2/models/<name>/infer"
            return FieldError("#/inputs", f'{detail}, or send {{"instances": [...]}} here', shown(value))
        if key in MLFLOW:
            detail = 'is an envelope of MLflow: send it to /invocations, or send {"instances": [...]} here'
            return FieldError(f"#/{escaped(key)}", detail, shown(value))
        if key[:MAX_SLIP_CHARS].lower() in OTHER_NAMES and (isinstance(value, list | dict) or encoded_twice(value)):
            detail = 'is not a feature of this model; it looks like instances: send {"instances": [...]}'
            return FieldError(f"#/{escaped(key)}", detail, shown(value))
    return None


def hint_for_row(instances: Sequence[Any], signature: Signature, pointer: str) -> FieldError | None:
    """Return the single error of a list of bare values that looks like one row of the model."""
    if not 1 < len(instances) == len(signature.inputs) <= MAX_ROW_SHOWN:
        return None
    if not all(value is None or type(value) in (str, int, float, bool) for value in instances):
        return None
    if any(map(encoded_twice, instances)) or not any(value is not None for value in instances):
        return None
    row = json.dumps([[shown(value) for value in instances]], ensure_ascii=False)
    return FieldError(pointer, f"must be a list of records or rows, and looks like one row: send {row}")


def one_too_deep(row: Sequence[Any]) -> str:
    """Return the end of the error for a row of the wrong length; empty if the row does not wrap records or rows."""
    if len(row) == 1 and isinstance(row[0], dict):
        return "; it holds a record: send that without the list around it"
    if row and all(isinstance(value, list) for value in row):
        return "; it holds rows: send those without the list around them"
    return ""


def hint_for_value(value: object, spec: Input) -> str:
    """Return the end of the error for a number in quotes or a category in another case; empty for other values."""
    if not isinstance(value, str | int | float) or (isinstance(value, str) and len(value) > MAX_SLIP_CHARS):
        return ""
    if spec.closed:
        folded = _folded(value)
        meant = next((category for category in spec.categories or () if _folded(category) == folded), None)
        return "" if meant is None else f"; did you mean {json.dumps(meant, ensure_ascii=False)}?"
    if not isinstance(value, str) or spec.kind not in UNQUOTED:
        return ""
    text = value.strip().lower()
    try:
        unquoted = json.loads(text)
    except ValueError:
        return ""
    return f"; send {text} without quotes" if type(unquoted) in UNQUOTED[spec.kind] and unquoted - unquoted == 0 else ""


def _folded(value: object) -> str:
    return unicodedata.normalize("NFKC", str(value)).casefold().strip()


def _looks(value: Mapping[str, Any], signature: Signature) -> str | None:
    """Return the name of the table format that an object looks like."""
    keys = value.keys()
    if keys <= {"columns", "index", "data"} and isinstance(value.get("columns"), list) and "data" in keys:
        return 'a table as pandas writes it with orient="split"'
    if keys == {"schema", "data"} and isinstance(value["schema"], dict) and isinstance(value["data"], list):
        return 'a table as pandas writes it with orient="table"'
    if not value or any(spec.kind in ("array", "record") for spec in signature.inputs):
        return None
    names = frozenset(signature.names)
    named_otherwise = any(key[:MAX_SLIP_CHARS].lower() in OTHER_NAMES for key in keys)
    if all(isinstance(column, dict) for column in value.values()):
        inner = {name for column in value.values() for name in column}
        if keys & names or _are_counted(inner):
            return 'a table as pandas writes it with orient="columns"'
        if _are_counted(keys) or (inner & names and not named_otherwise):
            return 'a table as pandas writes it with orient="index"'
    if all(isinstance(column, list) for column in value.values()) and keys & names:
        return "the columns of a table"
    return None


def _are_counted(names: Any) -> bool:
    return bool(names) and all(isinstance(name, str) and name.isdecimal() for name in names)


def _is_record(value: Mapping[str, Any], signature: Signature) -> bool:
    """Return whether an object has a feature of the model, or an object that may hold some."""
    names = {start for name in signature.names for start in (name, name.partition(".")[0])}
    return any(key in names for key in value)


def _are_tensors(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) and "datatype" in v for v in value)
