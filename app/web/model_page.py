"""The sections of a model's page other than the playground: versions, environment, proof, hashes, example calls."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from app.web import markdown
from app.web.answers import percent
from app.web.cards import census_of, inputs_of, json_text, label, labels_of, newest_first, numbers_of
from app.web.fields import MANY_INPUTS, example_record, heights_of, is_whole

FEW: Final = 6
"""Number of classes that the first sentence names at most."""
LIBRARIES: Final = {"python": "Python", "numpy": "NumPy", "scipy": "SciPy", "onnxruntime": "ONNX Runtime"}
_VERBS: Final = {
    "regressor": "Predicts a number",
    "clusterer": "Finds the cluster",
    "transformer": "Transforms a record",
    "outlier_detector": "Tells outliers from inliers",
}
_DATATYPES: Final = {"number": "FP64", "integer": "INT64", "boolean": "BOOL"}

JSON: Final = "application/json"
MOST_IMPORTANT: Final = 12
MOST_SHARES: Final = 8
"""Number of values of an input that have a bar, the most frequent first."""


def model_page(model: Mapping[str, Any], version: str | None) -> dict[str, Any]:
    """Return the values that the page shows. `version` is the version in the URL, if any.

    If the description has no inputs, the page shows only the versions. The table of the inputs is folded if it is
    `dense`.
    """
    page = {"model": model, "pinned": version is not None, "versions": newest_first(model)}
    if "inputs" not in model:
        return page
    steps, profile = model.get("steps") or {}, model.get("profile") or {}
    distributions, rows = profile.get("inputs") or {}, profile.get("rows", 0)
    return page | {
        "sentence": sentence(model),
        "inputs": inputs_of(model),
        "dense": len(model["inputs"]) > MANY_INPUTS,
        "classes": labels_of(model.get("classes")),
        "census": census_of(model),
        "environment": [(LIBRARIES.get(key, key), text) for key, text in (model.get("environment") or {}).items()],
        "proof": proof_sentences(model.get("proof") or {}),
        "steps": [(name, when) for when in ("before", "after") for name in steps.get(when, ())],
        "calls": calls(model),
        "card": markdown.html(model.get("card", "")),
        "heights": {
            name: heights_of(distribution) for name, distribution in distributions.items() if "counts" in distribution
        },
        "shares": {
            name: shares_of(distribution, rows)
            for name, distribution in distributions.items()
            if "values" in distribution
        },
        "importance": [*importance_of(profile)],
    }


def shares_of(distribution: Mapping[str, Any], rows: int) -> tuple[tuple[str, str, float], ...]:
    """Return the most frequent values, each with its label, its share as text, and the width of its bar (0 to 100)."""
    values = distribution["values"][:MOST_SHARES]
    most = max((count for _, count in values), default=1)
    return tuple((label(value), percent(count / rows), round(100 * count / most, 1)) for value, count in values)


def importance_of(profile: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Yield the most important inputs, each with its name, loss of the score, and width of its bar (0 to 100)."""
    inputs: Mapping[str, float] = (profile.get("importance") or {}).get("inputs") or {}
    ranked = sorted(inputs.items(), key=lambda each: -each[1])[:MOST_IMPORTANT]
    most = max((value for _, value in ranked), default=0.0)
    for name, value in ranked:
        yield name, f"{value:.3f}".replace("-", "\N{MINUS SIGN}"), max(0.0, 100 * value / most) if most > 0 else 0.0


def sentence(model: Mapping[str, Any]) -> str:
    """Return a sentence about a model: "Predicts Adelie, Chinstrap or Gentoo from 5 numbers and 2 categories."."""
    labels = labels_of(model.get("classes"))
    if model["task"] == "classifier" and labels and not any(isinstance(each, list) for each in model["classes"]):
        claim = f"Predicts {joined(labels, 'or')}" if len(labels) <= FEW else f"Predicts one of {len(labels)} classes"
        if all(text.lstrip("-").isdigit() for text in labels) and len(labels) > 2:
            claim = f"Predicts one of the classes {labels[0]} to {labels[-1]}"
    elif model["task"] == "classifier" and len(labels) > 1:
        claim = f"Predicts {len(labels)} labels"
    else:
        claim = _VERBS.get(model["task"], "Predicts")
    if model["task"] == "regressor" and numbers_of(model) > 1:
        claim = f"Predicts {numbers_of(model)} numbers"
    if len(model["inputs"]) == 1:
        kind = model["inputs"][0]["kind"]
        return f"{claim} from {'an' if kind[0] in 'aeiou' else 'a'} {kind}."
    return f"{claim} from {joined(census_of(model).split(', '), 'and')}."


def joined(words: Any, last: str) -> str:
    """Return words as a list in a sentence, with `last` before the last word."""
    *most, end = words
    return f"{', '.join(most)} {last} {end}" if most else end


def proof_sentences(proof: Mapping[str, Any]) -> list[str]:
    """Return the comparison and the measurements of packing, in sentences."""
    if not proof:
        return []
    if not proof.get("proven"):
        return [f"There is no graph: {proof['reason']}."] if proof.get("reason") else []
    difference = proof.get("largest_difference")
    sentences = []
    if proof.get("rows"):
        result = "" if difference is None else f": the largest relative difference was {difference:.1e}"
        result = ": every answer was identical" if difference == 0 else result
        sentences.append(f"Packing compared the graph with the artifact on {proof['rows']:,} rows{result}.")
    if refused_rows := proof.get("rows_refused_by_estimator"):
        sentences.append(f"Both refused the same {refused_rows:,} rows.")
    if proof.get("graph_us") and proof.get("artifact_us"):
        graph, artifact = proof["graph_us"], proof["artifact_us"]
        slower = f", {artifact / graph:,.0f} times as long" if artifact >= 1.5 * graph else ""
        durations = f"{duration(graph)} as a graph and {duration(artifact)} as the artifact"
        sentences.append(f"One row takes {durations}{slower}.")
    if proof.get("slower"):
        sentences.append(f"{proof['slower'][0].upper()}{proof['slower'][1:].rstrip('.')}.")
    return sentences


def duration(number_us: float) -> str:
    """Return a duration in the unit that suits it."""
    return f"{number_us / 1000:.3g} ms" if number_us >= 1000 else f"{number_us:.3g} µs"


def calls(model: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return a request of each protocol with the first example, as title, path, body and media type."""
    name, record = quote(model["name"], safe=""), example_record(model)
    path, rows = f"models/{name}/predict", json_text({"instances": [record]})
    requests = [("JSON, many records", path, rows, JSON)]
    is_flat = not is_whole(model) and not any(isinstance(value, list | dict) for value in record.values())
    if is_flat:
        requests.append(("CSV", path, _csv(record), "text/csv"))
    requests.append(("JSON lines, a stream", path, json_text(record), "application/x-ndjson"))
    if is_flat and None not in record.values():
        tensors = [_tensor(each, record[each["name"]]) for each in model["inputs"] if each["name"] in record]
        body = json_text({"inputs": tensors})
        requests.append(("Open Inference (KServe, Triton)", f"v2/models/{name}/infer", body, JSON))
    requests.append(("TensorFlow Serving", f"v1/models/{name}:predict", rows, JSON))
    records = json_text({"dataframe_records": [record]})
    return [*requests, ("MLflow, SageMaker", f"endpoints/{name}/invocations", records, JSON)]


def _tensor(described: Mapping[str, Any], value: object) -> dict[str, Any]:
    datatype = _DATATYPES.get(described["kind"], "BOOL" if isinstance(value, bool) else "FP64")
    datatype = "BYTES" if isinstance(value, str) else datatype
    return {"name": described["name"], "shape": [1], "datatype": datatype, "data": [value]}


def _csv(record: Mapping[str, Any]) -> str:
    def cell(value: object) -> str:
        text = "" if value is None else value if isinstance(value, str) else json.dumps(value)
        return f'"{text.replace(chr(34), chr(34) * 2)}"' if any(mark in text for mark in ',"\r\n') else text

    return ",".join(map(cell, record)) + "\n" + ",".join(map(cell, record.values())) + "\n"
