"""The content of the home page for each model: frozen values, computed here so that the template only prints."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import msgspec

AVAILABLE: Final = "AVAILABLE"
WIDE: Final = 12  # inputs; a longer record is hard to read

_TASKS: Final = {
    "classifier": "Classifier",
    "regressor": "Regressor",
    "clusterer": "Clusterer",
    "outlier_detector": "Outlier detector",
    "transformer": "Transformer",
}
_VALUES: Final = {"number": 1.5, "integer": 1, "boolean": True, "text": "text"}
_COLOURS: Final = {"L": "grey", "RGB": "in colour"}
_PLURALS: Final = {"category": "categories"}


@dataclass(frozen=True, slots=True)
class InputLine:
    """One input as shown to a reader.

    `seen` is the range in training and `choices` are the allowed values. `accepts` describes inputs that are not single
    values, and `becomes` how the model sees them.
    """

    name: str
    kind: str
    nullable: bool
    seen: str
    choices: tuple[str, ...]
    example: str
    accepts: str = ""
    becomes: str = ""


@dataclass(frozen=True, slots=True)
class VersionLine:
    """One version of a model, its state, and the reason if it failed."""

    version: int
    state: str
    aliases: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Card:
    """One model.

    `curl` and `answer` are empty if no version can answer; `curl` posts to `path` below the root of the application.
    `others` are the versions that are not shown. `before` and `after` are the steps around the model. `invented` are
    inputs whose values in `curl` are arbitrary.
    """

    name: str
    default: bool
    current: VersionLine
    others: tuple[VersionLine, ...]
    task: str = ""
    estimator: str = ""
    made_with: str = ""
    inputs: tuple[InputLine, ...] = ()
    classes: tuple[str, ...] = ()
    path: str = ""
    curl: str = ""
    answer: str = ""
    made_up: bool = False
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    invented: tuple[str, ...] = ()

    @property
    def available(self) -> bool:
        """Whether the shown version answers requests."""
        return self.current.state == AVAILABLE

    @property
    def wide(self) -> bool:
        """Whether there are too many inputs to show all at once."""
        return len(self.inputs) > WIDE

    @property
    def census(self) -> str:
        """The number of inputs of each kind: "5 numbers, 2 categories"."""
        counted = Counter(each.kind for each in self.inputs).most_common()
        return ", ".join(f"{count} {kind if count == 1 else _PLURALS.get(kind, f'{kind}s')}" for kind, count in counted)


def has_available(entry: Mapping[str, Any]) -> bool:
    """Return whether any version in this entry of GET /models is AVAILABLE."""
    return any(each["state"] == AVAILABLE for each in entry["versions"])


def silent_card(entry: Mapping[str, Any], reason: str = "") -> Card:
    """Return the card of a model that cannot answer: its newest version and the reason from GET /models.

    `reason` applies if the list has none, because the last version became unavailable after it was made.
    """
    newest, *older = _lines(entry) or [VersionLine(0, "EMPTY", (), "this model has no version")]
    if newest.state == AVAILABLE:
        newest = VersionLine(newest.version, "UNAVAILABLE", newest.aliases, reason)
    return Card(entry["name"], bool(entry.get("default")), newest, tuple(older))


def answering_card(entry: Mapping[str, Any], model: Mapping[str, Any], root_url: str) -> Card:
    """Return the card of a model that answers.

    Args:
        entry: the model in the body of GET /models.
        model: the body of GET /models/<name>.
        root_url: the address of this server as the reader reached it, so that the command works when pasted.
    """
    lines = _lines(entry)
    name, version = entry["name"], model["version"]
    current = VersionLine(version, model["state"], tuple(model.get("aliases", ())), "")
    example = _example(model)
    steps = model.get("steps") or {}
    path = "predict" if entry.get("default") else f"models/{quote(name, safe='')}/predict"
    return Card(
        name=name,
        default=bool(entry.get("default")),
        current=current,
        others=tuple(line for line in lines if line.version != version),
        task=_TASKS.get(model["task"], str(model["task"]).replace("_", " ").capitalize()),
        estimator=model["estimator"],
        made_with=_made_with(model),
        inputs=tuple(_input(each) for each in model["inputs"]),
        classes=_classes(model.get("classes")),
        path=path,
        curl=curl(root_url + path, _body(model, example["instance"])),
        answer=_answer(name, model, example),
        made_up=bool(model.get("examples_made_up")),
        before=tuple(steps.get("before", ())),
        after=tuple(steps.get("after", ())),
        invented=() if model.get("examples") else tuple(e["name"] for e in model["inputs"] if e.get("example") is None),
    )


def curl(url: str, body: object) -> str:
    """Return one command line that any POSIX shell takes literally, whatever the values contain."""
    return f"curl {shlex.quote(url)} -d {shlex.quote(_json(body))}"


def _lines(entry: Mapping[str, Any]) -> list[VersionLine]:
    lines = [
        VersionLine(each["version"], each["state"], tuple(each.get("aliases", ())), each.get("reason") or "")
        for each in entry["versions"]
    ]
    return sorted(lines, key=lambda line: line.version, reverse=True)


def _example(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the first recorded example, or a record of the inputs' own examples without an answer."""
    recorded: Sequence[Mapping[str, Any]] = model.get("examples") or ()
    return recorded[0] if recorded else {"instance": {each["name"]: _any_value(each) for each in model["inputs"]}}


def _any_value(described: Mapping[str, Any]) -> object:
    """Return the example of an input, or a value of its kind."""
    if described.get("example") is not None:
        return described["example"]
    return (described.get("categories") or [_VALUES.get(described["kind"])])[0]


def _body(model: Mapping[str, Any], instance: object) -> object:
    """Return the request: a record, or a row of values if a record would have too many names."""
    names = [each["name"] for each in model["inputs"]]
    if isinstance(instance, Mapping):
        as_row = len(names) > WIDE and instance.keys() == set(names)
        return {"instances": [[instance[name] for name in names]]} if as_row else dict(instance)
    return {"instances": [instance]}


def _answer(name: str, model: Mapping[str, Any], example: Mapping[str, Any]) -> str:
    """Return the answer to the example, one member on each line; empty if no answer was recorded."""
    if "prediction" not in example:
        return ""
    members: dict[str, object] = {"prediction": [example["prediction"]]}
    if example.get("probabilities") is not None:
        members["probabilities"] = [example["probabilities"]]
        if model.get("classes") is not None:
            members["classes"] = model["classes"]
    members |= {"model": name, "version": model["version"]}
    return "{\n" + ",\n".join(f"  {_json(key)}: {_json(value)}" for key, value in members.items()) + "\n}"


def _input(described: Mapping[str, Any]) -> InputLine:
    if described.get("image") is not None:
        picture = msgspec.to_builtins(described["image"])
        becomes = f"{picture['width']} x {picture['height']} {_COLOURS.get(picture['mode'], picture['mode'])}"
        return InputLine(described["name"], described["kind"], False, "", (), "", "PNG, JPEG or WebP", becomes)
    shape = " x ".join(map(str, described.get("shape") or ()))
    return InputLine(
        name=described["name"],
        kind=described["kind"],
        nullable=bool(described.get("nullable")),
        accepts=f"{shape} of {described['dtype']}" if shape else "",
        seen=_seen(described.get("minimum"), described.get("maximum")),
        choices=tuple(_label(each) for each in described.get("categories") or ()),
        example="" if described.get("example") is None else _shortened(_label(described["example"])),
    )


def _seen(minimum: object, maximum: object) -> str:
    if minimum is None and maximum is None:
        return ""
    if minimum is None or maximum is None:
        return f"up to {_figure(maximum)}" if minimum is None else f"from {_figure(minimum)}"
    return f"only {_figure(minimum)}" if minimum == maximum else f"{_figure(minimum)} to {_figure(maximum)}"


def _figure(value: object) -> str:
    """Return a limit with six digits. GET /models/<name> has the exact one."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _classes(classes: object) -> tuple[str, ...]:
    """Return the labels; for a model with several targets, one line of labels for each."""
    if not isinstance(classes, Sequence) or isinstance(classes, str):
        return ()
    return tuple(" / ".join(map(_label, each)) if isinstance(each, (list, tuple)) else _label(each) for each in classes)


def _label(value: object) -> str:
    """Return a value as text: words without quotes, unless quotes make a difference visible."""
    bare = isinstance(value, str) and value != "" and value == value.strip() and value.isprintable()
    return str(value) if bare else _json(value)


def _shortened(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _made_with(model: Mapping[str, Any]) -> str:
    """Return the date of packing and the scikit-learn version."""
    day, release = str(model.get("created") or "")[:10], (model.get("environment") or {}).get("scikit-learn")
    return " ".join(filter(None, ("Packed", day, f"with scikit-learn {release}" if release else ""))) if day else ""


def _json(value: object) -> str:
    """Return JSON with readable characters; escaped only if a character is not printable."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)
