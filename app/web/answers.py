"""Answers of the prediction API for people, on the page that the server renders for browsers without JavaScript.

`static/site/answer.js` shows the same with JavaScript.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote

from app.web.cards import headline, json_text, label

OWN: Final = ("prediction", "probabilities", "classes", "model", "version", "warnings", "warnings_more", "explanation")
MANY_CLASSES: Final = 12
LIKELIEST: Final = 8
"""Number of classes that have a bar if there are more than `MANY_CLASSES`."""
_PLACE: Final = re.compile(r"#(?:/instances)?(?:/0)?(?:/(.*))?", re.DOTALL)


def answer_view(model: Mapping[str, Any], status: int, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer to one record for the template: the prediction and other outputs, or an error as `failed`.

    `errors` and `warnings` are sentences by the name of the input; `general` are the sentences of no input.
    """
    if status != 200:
        errors, general = by_input(model, document.get("errors") or ())
        return {"failed": str(document.get("detail", "")), "errors": errors, "warnings": {}, "general": general}
    warnings, general = by_input(model, document.get("warnings") or ())
    prediction = document["prediction"][0] if document.get("prediction") else None
    others = [(name, value[0]) for name, value in document.items() if name not in OWN and isinstance(value, list)]
    return {
        "answered": True,
        "headline": headline(model, prediction),
        "bars": bars(document),
        "others": [(name, json_text(value)) for name, value in others],
        "errors": {},
        "warnings": warnings,
        "general": general,
    }


def by_input(
    model: Mapping[str, Any], sentences: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return sentences by the name of the input in their pointers, and the sentences without an input."""
    names = [spec["name"] for spec in model["inputs"]]
    sentence_of: dict[str, str] = {}
    general = []
    for sentence in sentences:
        rest = (match[1] if (match := _PLACE.fullmatch(sentence["pointer"])) else "") or ""
        name = _input_at(names, rest)
        if name is None:
            general.append(f"{unquote(rest)} {sentence['detail']}".strip())
        else:
            sentence_of.setdefault(name, sentence["detail"])
    return sentence_of, tuple(general)


def _input_at(names: Sequence[str], rest: str) -> str | None:
    """Return the input to which a pointer leads, also if it leads to a value inside the input."""
    steps = [unquote(step).replace("~1", "/").replace("~0", "~") for step in rest.split("/")]
    for name in names:
        if steps[0] == name or (len(name) > 100 and steps[0] == f"{name[:100]}…"):
            return name
    dotted = ".".join(steps)
    return dotted if dotted in names else None


def bars(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a bar for each class in the model's order, or for the likeliest of many classes; empty without classes.

    `width` is the probability as part of 100 units.
    """
    classes, rows = document.get("classes"), document.get("probabilities")
    if not classes or not rows or not isinstance(rows[0], list) or len(rows[0]) != len(classes):
        return []
    pairs = [(label(name), each) for name, each in zip(classes, rows[0], strict=True) if isinstance(each, float | int)]
    if len(pairs) > MANY_CLASSES:
        pairs = sorted(pairs, key=lambda pair: -pair[1])[:LIKELIEST]
    largest = max((share for _, share in pairs), default=0)
    return [
        {"label": name, "percent": percent(share), "width": round(100 * share, 2), "first": share == largest}
        for name, share in pairs
    ]


def percent(share: float) -> str:
    """Return a probability as a percentage. Only exact values are written 0 % and 100 %."""
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    text = f"{100 * share:.1f}"
    return "> 99.9 %" if text == "100.0" else "< 0.1 %" if text == "0.0" else f"{text} %"


def recorded_answer(model: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the recorded answer to the first example; None if none was recorded."""
    examples = model.get("examples") or ()
    if not examples or "prediction" not in examples[0]:
        return None
    outputs = {name: [value] for name, value in examples[0].items() if name in ("prediction", "probabilities")}
    return answer_view(model, 200, outputs | ({"classes": model["classes"]} if model.get("classes") else {}))
