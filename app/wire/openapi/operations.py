"""The operations of an OpenAPI document: their ids, and the media types of their bodies and answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from flask_smorest.spec.plugins import FlaskPlugin
from werkzeug.routing import Map, Rule

from app.errors import MalformedRequest
from app.wire.codecs import CODECS, canonical

OWN_TAGS = ("predict", "models", "health", "metrics")
"""The blueprints of our own protocol, which come before all others' and whose ids need no prefix."""
COUNTED = re.compile(r"_[0-9]+$")
"""The end of an endpoint's name by which flask-smorest tells several paths to one view apart."""


def operations_of(paths: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and operation of each operation."""
    for path, members in paths.items():
        for method, operation in members.items():
            if isinstance(operation, dict):
                yield path, method, operation


def name_operations(paths: dict[str, Any], url_map: Map) -> list[str]:
    """Give each view's operation an `operationId` by the name of the view, and return the ids.

    Of several paths to one view the shortest has the bare name, the others add the words by which they differ; several
    methods of one path add their names. An id that a view was given with `blp.doc(operationId=...)` stays.
    """
    rules: dict[str, list[Rule]] = {}
    for rule in url_map.iter_rules():
        rules.setdefault(COUNTED.sub("", rule.endpoint), []).append(rule)
    ids: dict[tuple[str, str], str] = {}
    for endpoint, several in rules.items():
        blueprint, _, view = endpoint.rpartition(".")
        name = view if blueprint in OWN_TAGS or view.startswith(blueprint) else f"{blueprint}_{view}".replace(".", "_")
        first, *others = sorted(several, key=lambda rule: _plainness(rule, name))
        known = {*_words(first.rule), *name.split("_")}
        for rule in several:
            more = [word for word in _words(rule.rule) if word not in known] if rule in others else []
            methods = [method.lower() for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}]
            path = FlaskPlugin.flaskpath2openapi(rule.rule)
            ids |= {(path, each): "_".join([name, *more, *([each] if methods[1:] else [])]) for each in methods}
    for path, method, operation in operations_of(paths):
        operation.setdefault("operationId", ids[path, method])
    return [operation["operationId"] for _, _, operation in operations_of(paths)]


def _plainness(rule: Rule, name: str) -> tuple[int, bool, str]:
    """Sorts the rules of one view: the shortest path first, of those the path that says the view's name."""
    return rule.rule.count("/"), not name.endswith(rule.rule.rpartition("/")[2]), rule.rule


def _words(rule: str) -> list[str]:
    """The segments of a URL rule that are no parameters; a slash at the end counts as one."""
    segments = [*rule.removesuffix("/").split("/"), *(["slash"] if rule.endswith("/") else [])]
    return [re.sub(r"\W", "_", segment) for segment in segments if segment and "<" not in segment]


def model_keys(models: Iterable[str], taken: Sequence[str]) -> dict[str, str]:
    """A key for each model, to begin the names of its components: the model's name, or the name and a number.

    The number keeps apart names that a client generator would write alike, `iris-two` and `iris_two`. It also keeps
    `operation_id(key)` apart from the ids that are `taken`.
    """
    keys: dict[str, str] = {}
    alike = {_letters(each) for each in taken}
    for model in sorted(models):
        key, number = model, 1
        while _letters(operation_id(key)) in alike:
            number += 1
            key = f"{model}-{number}"
        alike.add(_letters(operation_id(key)))
        keys[model] = key
    return keys


def operation_id(key: str) -> str:
    """The `operationId` of a model's own operation: a name that programs can have for a function."""
    return f"predict_{re.sub(r'[^0-9A-Za-z]', '_', key)}"


def _letters(name: str) -> str:
    return re.sub(r"[^0-9a-z]", "", name.lower())


def keep_media_types(paths: dict[str, Any], wanted: Sequence[str]) -> None:
    """Leave only these media types of each body and answer that has one of them; all others stay as they are.

    Raises:
        MalformedRequest: no codec knows one of the media types.
    """
    kept = {canonical(each) for each in wanted}
    if unknown := sorted(kept - CODECS.keys()):
        raise MalformedRequest("the query parameter media", f"is {unknown[0][:100]!r}; allowed: {', '.join(CODECS)}")
    for _, _, operation in operations_of(paths):
        for holder in (operation.get("requestBody", {}), *operation["responses"].values()):
            content = holder.get("content", {})
            if kept & content.keys():
                holder["content"] = {each: told for each, told in content.items() if each in kept}
