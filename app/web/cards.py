"""What the home page says about each model: plain frozen values, worked out here so that the template only prints."""

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
WIDE: Final = 12  # inputs; beyond this a record with every name in it is no longer something one reads

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
class Input:
    """One input as a reader sees it: `seen` is the range met in training, `choices` what is allowed, if a list is.

    `accepts` says what an input takes that is more than one value, and `becomes` what the model sees of it.
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
    """One version of a model, its state, and why it failed if it did."""

    version: int
    state: str
    aliases: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Card:
    """One model. `curl` and `answer` are empty where no version can answer; `others` are the versions not shown.

    `path` is where `curl` sends its request, below the root of the application.
    `before` and `after` are the steps around the model; `invented` are inputs whose values in `curl` stand for any.
    """

    name: str
    default: bool
    current: VersionLine
    others: tuple[VersionLine, ...]
    task: str = ""
    estimator: str = ""
    made_with: str = ""
    inputs: tuple[Input, ...] = ()
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
        """Whether the version shown answers requests."""
        return self.current.state == AVAILABLE

    @property
    def wide(self) -> bool:
        """Whether there are too many inputs to show them all at once."""
        return len(self.inputs) > WIDE

    @property
    def census(self) -> str:
        """How many inputs there are of each kind: "5 numbers, 2 categories"."""
        counted = Counter(each.kind for each in self.inputs).most_common()
        return ", ".join(f"{count} {kind if count == 1 else _PLURALS.get(kind, f'{kind}s')}" for kind, count in counted)


def has_available(entry: Mapping[str, Any]) -> bool:
    """Whether any version of this entry of GET /models can be asked about itself."""
    return any(each["state"] == AVAILABLE for each in entry["versions"])


def silent_card(entry: Mapping[str, Any], reason: str = "") -> Card:
    """The card of a model that cannot answer: its newest version, and why, as GET /models tells it.

    `reason` stands in where the list has none, as when the last version went away between two questions.
    """
    newest, *older = _lines(entry) or [VersionLine(0, "EMPTY", (), "this model has no version")]
    if newest.state == AVAILABLE:
        newest = VersionLine(newest.version, "UNAVAILABLE", newest.aliases, reason)
    return Card(entry["name"], bool(entry.get("default")), newest, tuple(older))


def answering_card(entry: Mapping[str, Any], model: Mapping[str, Any], root_url: str) -> Card:
    """The card of a model that answers, from its entry in GET /models and its own description.

    `root_url` is this server's address as the reader reached it, so that the command works where it is pasted.
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
    """One command line that any POSIX shell takes as it stands, whatever characters are in the values."""
    return f"curl {shlex.quote(url)} -d {shlex.quote(_json(body))}"


def _lines(entry: Mapping[str, Any]) -> list[VersionLine]:
    lines = [
        VersionLine(each["version"], each["state"], tuple(each.get("aliases", ())), each.get("reason") or "")
        for each in entry["versions"]
    ]
    return sorted(lines, key=lambda line: line.version, reverse=True)


def _example(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first recorded example, or, where there is none, a record of the inputs' own examples with no answer."""
    recorded: Sequence[Mapping[str, Any]] = model.get("examples") or ()
    return recorded[0] if recorded else {"instance": {each["name"]: _any_value(each) for each in model["inputs"]}}


def _any_value(described: Mapping[str, Any]) -> object:
    """The example of an input, or a value of its kind."""
    if described.get("example") is not None:
        return described["example"]
    return (described.get("categories") or [_VALUES.get(described["kind"])])[0]


def _body(model: Mapping[str, Any], instance: object) -> object:
    """The request: a record, which explains itself; a bare row of values where 64 names would bury them."""
    names = [each["name"] for each in model["inputs"]]
    if isinstance(instance, Mapping):
        as_row = len(names) > WIDE and instance.keys() == set(names)
        return {"instances": [[instance[name] for name in names]]} if as_row else dict(instance)
    return {"instances": [instance]}


def _answer(name: str, model: Mapping[str, Any], example: Mapping[str, Any]) -> str:
    """What the server says to the example, one member to a line; empty where no answer was recorded."""
    if "prediction" not in example:
        return ""
    members: dict[str, object] = {"prediction": [example["prediction"]]}
    if example.get("probabilities") is not None:
        members["probabilities"] = [example["probabilities"]]
        if model.get("classes") is not None:
            members["classes"] = model["classes"]
    members |= {"model": name, "version": model["version"]}
    return "{\n" + ",\n".join(f"  {_json(key)}: {_json(value)}" for key, value in members.items()) + "\n}"


def _input(described: Mapping[str, Any]) -> Input:
    if described.get("image") is not None:
        picture = msgspec.to_builtins(described["image"])
        becomes = f"{picture['width']} x {picture['height']} {_COLOURS.get(picture['mode'], picture['mode'])}"
        return Input(described["name"], described["kind"], False, "", (), "", "PNG, JPEG or WebP", becomes)
    shape = " x ".join(map(str, described.get("shape") or ()))
    return Input(
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
    """A limit to six digits: it is there to give an idea, and the exact one stands in GET /models/<name>."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _classes(classes: object) -> tuple[str, ...]:
    """The labels; for a model with several outputs, one line of labels for each."""
    if not isinstance(classes, Sequence) or isinstance(classes, str):
        return ()
    return tuple(" / ".join(map(_label, each)) if isinstance(each, (list, tuple)) else _label(each) for each in classes)


def _label(value: object) -> str:
    """A value as one reads it: words without quotes, unless what matters would then be invisible."""
    bare = isinstance(value, str) and value != "" and value == value.strip() and value.isprintable()
    return str(value) if bare else _json(value)


def _shortened(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _made_with(model: Mapping[str, Any]) -> str:
    """When it was packed and with which scikit-learn: the first two questions when an answer looks odd."""
    day, release = str(model.get("created") or "")[:10], (model.get("environment") or {}).get("scikit-learn")
    return " ".join(filter(None, ("Packed", day, f"with scikit-learn {release}" if release else ""))) if day else ""


def _json(value: object) -> str:
    """JSON in the reader's own script, escaped only if a character in it could not be seen or could not be sent."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)
