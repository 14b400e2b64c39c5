"""The ids of operations in an OpenAPI document. Client generators make function names of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from flask_smorest.spec.plugins import FlaskPlugin
from werkzeug.routing import Map, Rule

from app.wire.application import FURTHER_URL

OWN_TAGS = ("predict", "models", "health", "metrics", "jobs")
"""The blueprints of Retort's own protocol. They come first, and their ids have no prefix."""


def operations_of(paths: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each operation with its path and method."""
    for path, members in paths.items():
        for method, operation in members.items():
            if isinstance(operation, dict):
                yield path, method, operation


def name_operations(paths: dict[str, Any], url_map: Map) -> list[str]:
    """Set the `operationId` of each view's operations from the name of the view, and return all ids.

    If a view has several paths, the shortest has the bare name, and the others add their words. If a path has several
    methods, the id ends with the method. An id from `blp.doc(operationId=...)` stays.
    """
    rules: dict[str, list[Rule]] = {}
    for rule in url_map.iter_rules():
        rules.setdefault(FURTHER_URL.sub("", rule.endpoint), []).append(rule)
    ids: dict[tuple[str, str], str] = {}
    for endpoint, several in rules.items():
        blueprint, _, view = endpoint.rpartition(".")
        name = view if blueprint in OWN_TAGS or view.startswith(blueprint) else f"{blueprint}_{view}".replace(".", "_")
        words_of_first = {*_words(min(several, key=lambda rule: _rule_order(rule, name)).rule), *name.split("_")}
        for rule in several:
            own_words = [word for word in _words(rule.rule) if word not in words_of_first]
            methods = [method.lower() for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}]
            path = FlaskPlugin.flaskpath2openapi(rule.rule)
            ids |= {(path, each): "_".join([name, *own_words, *([each] if methods[1:] else [])]) for each in methods}
    for path, method, operation in operations_of(paths):
        operation.setdefault("operationId", ids[path, method])
    return [operation["operationId"] for _, _, operation in operations_of(paths)]


def _rule_order(rule: Rule, name: str) -> tuple[int, bool, str]:
    """Return the sort key of a view's rules: the shortest path first, then the path that contains the view's name."""
    return rule.rule.count("/"), not name.endswith(rule.rule.rpartition("/")[2]), rule.rule


def _words(rule: str) -> list[str]:
    """Return the segments of a URL rule that are not parameters, and "slash" for a slash at the end."""
    segments = [*rule.removesuffix("/").split("/"), *(["slash"] if rule.endswith("/") else [])]
    return [re.sub(r"\W", "_", segment) for segment in segments if segment and "<" not in segment]


def model_keys(models: Iterable[str], taken: Sequence[str]) -> dict[str, str]:
    """Return a key for each model, the prefix of its components: the model's name, or the name and a number.

    The number distinguishes names that a client generator would write alike, such as `iris-two` and `iris_two`, and
    keeps `operation_id(key)` different from the ids in `taken`.
    """
    keys: dict[str, str] = {}
    used = {_letters(each) for each in taken}
    for model in sorted(models):
        key, number = model, 1
        while _letters(operation_id(key)) in used:
            number += 1
            key = f"{model}-{number}"
        used.add(_letters(operation_id(key)))
        keys[model] = key
    return keys


def operation_id(key: str) -> str:
    """Return the `operationId` of a model's own operation, valid as the name of a function."""
    return f"predict_{re.sub(r'[^0-9A-Za-z]', '_', key)}"


def _letters(name: str) -> str:
    return re.sub(r"[^0-9a-z]", "", name.lower())
