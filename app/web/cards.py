"""Short facts of each model, for its card on the home page and for other pages."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

AVAILABLE: Final = "AVAILABLE"
SHOWN: Final = 3
"""Number of values of the example that a card shows."""

_VALUES: Final = {"number": 1.5, "integer": 1, "boolean": True, "text": "text"}
_COLOURS: Final = {"L": "grey", "RGB": "in colour"}
_PLURALS: Final = {"category": "categories"}


def card_of(entry: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the card of a model, from its entry in GET /models and its own description, which may be empty.

    `current` is the shown version: the one that answers, else the newest. `example` has the first values of a recorded
    example, and `answer` its recorded prediction.
    """
    current, *others = newest_first(entry) or [{"version": 0, "state": "EMPTY", "reason": "this model has no version"}]
    is_available = model.get("state") == AVAILABLE
    if is_available:
        current = dict(model)
    elif current["state"] == AVAILABLE:  # it became unavailable after the list was made
        current = current | {"state": "UNAVAILABLE", "reason": model.get("reason", "its last version was retired")}
    card = {
        "name": entry["name"],
        "default": entry.get("default"),
        "current": current,
        "others": len(others),
        "available": is_available,
    }
    words = [entry["name"], *current.get("aliases", ())]
    if is_available:
        task = str(model["task"]).replace("_", " ").capitalize()
        words += [task, model["estimator"], *labels_of(model.get("classes"))[:50]]
        card |= {"task": task, "census": census_of(model), **_example(model)}
    return card | {"searched": " ".join(words).lower()}


def _example(model: Mapping[str, Any]) -> dict[str, Any]:
    example: Mapping[str, Any] = (model.get("examples") or [{}])[0]
    instance = example.get("instance")
    values = instance if isinstance(instance, Mapping) else {}
    images = (values.get(each["name"]) for each in model["inputs"] if each["kind"] == "image")
    return {
        "example": [(name, shortened(figure(value), 24)) for name, value in [*values.items()][:SHOWN]],
        "more": max(0, len(values) - SHOWN),
        "picture": next((data_url(each) for each in images if isinstance(each, str) and len(each) <= 4000), ""),
        "answer": shortened(headline(model, example["prediction"]), 40) if "prediction" in example else "",
    }


def data_url(text: str) -> str:
    """Return the data URL of an image in base64; empty if the format is unknown."""
    if text.startswith("data:image/"):
        return text
    types = {"iVBOR": "image/png", "/9j/": "image/jpeg", "UklGR": "image/webp"}
    media_type = next((types[start] for start in types if text.startswith(start)), "")
    return f"data:{media_type};base64,{text}" if media_type else ""


def headline(model: Mapping[str, Any], prediction: object) -> str:
    """Return a prediction in one line."""
    if model.get("task") == "outlier_detector" and prediction in (1, -1):
        return "inlier" if prediction == 1 else "outlier"
    return ", ".join(map(figure, prediction)) if isinstance(prediction, list) else figure(prediction)


def figure(value: object) -> str:
    """Return a value for reading. A float has at most six digits."""
    return f"{value:.6g}" if isinstance(value, float) else label(value)


def says(model: Mapping[str, Any]) -> str:
    """Return the heading above a prediction."""
    if model.get("task") == "regressor":
        return "Predicted numbers" if numbers_of(model) > 1 else "Predicted number"
    return {"clusterer": "Cluster", "transformer": "Transformed record"}.get(str(model.get("task")), "Prediction")


def numbers_of(model: Mapping[str, Any]) -> int:
    """Return how many numbers the model predicts for a record, from a recorded example; 1 without an example."""
    prediction = next((each["prediction"] for each in model.get("examples") or () if "prediction" in each), None)
    return len(prediction) if isinstance(prediction, list) else 1


def curl(url: str, body: object) -> str:
    """Return a curl command that is quoted for any POSIX shell."""
    return f"curl {shlex.quote(url)} -d {shlex.quote(json_text(body))}"


def census_of(model: Mapping[str, Any]) -> str:
    """Return the number of inputs of each kind: "5 numbers, 2 categories"."""
    counts = Counter(each["kind"] for each in model["inputs"]).most_common()
    return ", ".join(f"{count} {kind if count == 1 else _PLURALS.get(kind, f'{kind}s')}" for kind, count in counts)


def inputs_of(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the inputs for the table of a model's page.

    `seen` is the range in training, and `choices` are the known values. `accepts` describes an input of several values
    or an image, and `becomes` the size and colours in which the model gets an image.
    """
    return [_input(each) for each in model["inputs"]]


def newest_first(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the versions of a model, newest first."""
    return sorted(model["versions"], key=lambda each: int(each["version"]), reverse=True)


def any_value(described: Mapping[str, Any]) -> object:
    """Return the example of an input, or a value of its kind."""
    if described.get("example") is not None:
        return described["example"]
    return (described.get("categories") or [_VALUES.get(described["kind"])])[0]


def _input(described: Mapping[str, Any]) -> dict[str, Any]:
    line = {"name": described["name"], "kind": described["kind"]}
    if described.get("image") is not None:
        picture = msgspec.to_builtins(described["image"])
        becomes = f"{picture['width']} x {picture['height']} {_COLOURS.get(picture['mode'], picture['mode'])}"
        return line | {"accepts": "PNG, JPEG or WebP", "becomes": becomes}
    shape = " x ".join(map(str, described.get("shape") or ()))
    return line | {
        "nullable": bool(described.get("nullable")),
        "accepts": f"{shape} of {described['dtype']}" if shape else "",
        "seen": seen(described.get("minimum"), described.get("maximum")),
        "choices": [label(each) for each in described.get("categories") or ()],
        "example": "" if described.get("example") is None else shortened(figure(described["example"])),
    }


def seen(minimum: object, maximum: object) -> str:
    """Return the range of the values in training, in words."""
    if minimum is None and maximum is None:
        return ""
    if minimum is None or maximum is None:
        return f"up to {figure(maximum)}" if minimum is None else f"from {figure(minimum)}"
    return f"only {figure(minimum)}" if minimum == maximum else f"{figure(minimum)} to {figure(maximum)}"


def labels_of(classes: object) -> tuple[str, ...]:
    """Return the labels of a classifier; for a model with several outputs, one text of labels for each."""
    if not isinstance(classes, Sequence) or isinstance(classes, str):
        return ()
    return tuple(" / ".join(map(label, each)) if isinstance(each, (list, tuple)) else label(each) for each in classes)


def label(value: object) -> str:
    """Return a value for reading: text without quotes, unless it is empty, padded or not printable."""
    bare = isinstance(value, str) and value != "" and value == value.strip() and value.isprintable()
    return str(value) if bare else json_text(value)


def shortened(text: str, most: int = 60) -> str:
    """Return a text, cut if it is long."""
    return text if len(text) <= most else text[: most - 1] + "…"


def json_text(value: object) -> str:
    """Return JSON, with escapes only if a character is not printable."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)
