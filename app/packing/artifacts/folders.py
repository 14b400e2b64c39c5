"""Find the file of a model in folders of MLflow, and in folders of skops for the Hugging Face Hub.

Nothing is loaded here; the names of the inputs and example rows are read if the folder has them.

Sources: https://mlflow.org/docs/latest/ml/model/ (MLmodel, signature, input example);
https://skops.readthedocs.io/en/stable/hf_hub.html (config.json).
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from app.errors import PackingRefused

MLMODEL = "MLmodel"
CONFIG = "config.json"
FILE_OF_FLAVOR = {"sklearn": "pickled_model", "xgboost": "data", "lightgbm": "data", "catboost": "data", "onnx": "data"}
"""The flavors of MLflow that are served, and the key under which each names the file of the model."""

ENTRY = re.compile(r"(?P<indent> *)(?P<key>[^\s:#][^:]*?|'[^']*'|\"[^\"]*\") *:(?P<value>(?: .*)?)")
QUOTES = "'\""
BACKSLASH = "\\"


@dataclass(frozen=True, slots=True)
class Located:
    """The file of a model, with the names of its inputs, a file of example rows, and notes, as far as known."""

    file: Path
    columns: tuple[str, ...] | None = None
    example: Path | None = None
    notes: tuple[str, ...] = ()


def located(given: str) -> Located:
    """Find the file of the model at a path, in a folder, or under a URI of MLflow."""
    path = _path(given)
    if not path.is_dir():
        return _beside_mlmodel(path)
    if (path / MLMODEL).is_file():
        return _of_mlflow(path)
    if (path / CONFIG).is_file():
        return _of_hub(path)
    return Located(path)


def _beside_mlmodel(path: Path) -> Located:
    """Return a single file, with the facts of the MLflow folder that it may lie in."""
    if path.is_file() and (path.parent / MLMODEL).is_file():
        try:
            found = _of_mlflow(path.parent)
        except (PackingRefused, OSError, ValueError):
            return Located(path)
        return found if found.file == path else Located(path)
    return Located(path)


def _path(given: str) -> Path:
    uri = urlparse(given)
    if uri.scheme == "file":
        return Path(unquote(uri.path))
    if uri.scheme in ("runs", "models", "mlflow-artifacts"):
        return _of_store(given, uri.scheme, unquote(uri.path or given.partition(":")[2]).strip("/"))
    if len(uri.scheme) > 1 and "://" in given:
        raise PackingRefused(f"{given} is not on this machine: download it, and add the file")
    return Path(given)


def _of_store(given: str, scheme: str, below: str) -> Path:
    """Find the folder of a run or a registered version in a store of files, else by MLflow itself."""
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    stores = [Path(unquote(urlparse(tracking).path)) if tracking.startswith("file:") else Path(tracking or "mlruns")]
    for store in stores if "://" not in tracking or tracking.startswith("file:") else []:
        found = _in_run(store, below) if scheme == "runs" else _registered(store, below)
        if found is not None:
            return found
    if importlib.util.find_spec("mlflow") is None:
        raise PackingRefused(
            f"{given} is not in the store {stores[0]}, and to look elsewhere needs mlflow, which is not installed: "
            "pip install mlflow, or add the folder that holds its MLmodel"
        )
    return Path(importlib.import_module("mlflow.artifacts").download_artifacts(artifact_uri=given))


def _in_run(store: Path, below: str) -> Path | None:
    run, _, path = below.partition("/")
    if not re.fullmatch(r"\w+", run) or ".." in Path(path).parts:
        return None
    return next((folder / path for folder in store.glob(f"*/{run}/artifacts") if (folder / path).exists()), None)


def _registered(store: Path, below: str) -> Path | None:
    """Find a version of a registered model, by its number or the newest."""
    name, _, version = below.partition("/")
    folder = store / "models" / name
    numbers = sorted(int(found.name.removeprefix("version-")) for found in folder.glob("version-*"))
    if version in ("", "latest") and numbers:
        version = str(numbers[-1])
    try:
        meta = _document((folder / f"version-{version}" / "meta.yaml").read_text())
    except OSError:
        return None
    source = str(meta.get("storage_location") or meta.get("source") or "")
    return None if not source or source.startswith("models:") else _path(source)


def _of_mlflow(folder: Path) -> Located:
    document = _document((folder / MLMODEL).read_text(encoding="utf-8"))
    flavors = document.get("flavors")
    flavors = flavors if isinstance(flavors, dict) else {}
    flavor = next((name for name in FILE_OF_FLAVOR if name in flavors), None)
    if flavor is None:
        there = ", ".join(name for name in flavors if name != "python_function") or "python_function"
        raise PackingRefused(
            f"{folder} is an MLflow model of the flavor {there}; those that are served are: {', '.join(FILE_OF_FLAVOR)}"
        )
    options = flavors[flavor] if isinstance(flavors[flavor], dict) else {}
    name = options.get(FILE_OF_FLAVOR[flavor]) or "model.pkl"
    inner = folder / str(name)
    if not inner.exists():
        raise PackingRefused(f"{folder} is an MLflow model whose {MLMODEL} names the file {name}, which is not there")
    file = next((p for p in sorted(inner.iterdir()) if p.is_file()), inner) if inner.is_dir() else inner
    signature = document.get("signature")
    inputs = signature.get("inputs") if isinstance(signature, dict) else None
    example = document.get("saved_input_example_info")
    shown = folder / str(example.get("artifact_path")) if isinstance(example, dict) else None
    notes = [f"MLflow model, flavor {flavor}, file {file.relative_to(folder)}"]
    if document.get("mlflow_version"):
        notes[0] += f", written by MLflow {document['mlflow_version']}"
    return Located(file, _columns(inputs), shown if shown is not None and shown.is_file() else None, tuple(notes))


def _columns(inputs: Any) -> tuple[str, ...] | None:
    """Return the column names in a signature of MLflow, which is JSON in YAML; None for tensors."""
    try:
        columns = json.loads(inputs) if isinstance(inputs, str) else inputs
    except ValueError:
        return None
    if not isinstance(columns, list) or not all(isinstance(column, dict) for column in columns):
        return None
    names = tuple(column.get("name") for column in columns)
    return names if names and all(isinstance(name, str) for name in names) else None


def _of_hub(folder: Path) -> Located:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise PackingRefused(f"{folder / CONFIG} is no JSON: {error}") from None
    sklearn = config.get("sklearn") if isinstance(config, dict) else None
    if not isinstance(sklearn, dict) or not isinstance(sklearn.get("model"), dict):
        kind = config.get("model_type") or "another kind" if isinstance(config, dict) else "another kind"
        raise PackingRefused(f"{folder} is a model of {kind} from the Hugging Face Hub, not one of scikit-learn")
    file = folder / str(sklearn["model"].get("file", "model.skops"))
    columns = sklearn.get("columns")
    names = tuple(columns) if isinstance(columns, list) and all(isinstance(name, str) for name in columns) else None
    return Located(file, names, None, (f"model of the Hugging Face Hub, file {file.name}",))


def hub_example(folder: Path) -> Mapping[str, Any] | None:
    """Return the example rows in a folder of the Hugging Face Hub, as a list for each column."""
    try:
        example = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["sklearn"]["example_input"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return example if isinstance(example, dict) and example else None


def _document(text: str) -> dict[str, Any]:
    """Parse the maps and texts of a YAML file as MLflow writes it; lists are left out.

    A YAML library would be needed for nothing else.
    """
    document: dict[str, Any] = {}
    open_maps: list[tuple[int, dict[str, Any]]] = [(-1, document)]
    lines = iter(text.splitlines())
    line = next(lines, None)
    while line is not None:
        entry = ENTRY.fullmatch(line)
        following = next(lines, None)
        if entry is None or line.lstrip().startswith(("-", "#")):
            line = following
            continue
        indent, value = len(entry["indent"]), entry["value"].strip()
        while following is not None and value and _goes_on(value, following, indent):
            value = f"{value.removesuffix(BACKSLASH)}{'' if value.endswith(BACKSLASH) else ' '}{following.strip()}"
            following = next(lines, None)
        while open_maps[-1][0] >= indent:
            open_maps.pop()
        inner: dict[str, Any] = {}
        open_maps[-1][1][_scalar(entry["key"])] = _scalar(value) if value else inner
        if not value:
            open_maps.append((indent, inner))
        line = following
    return document


def _goes_on(value: str, following: str, indent: int) -> bool:
    """Return whether the next line continues a text: a quote is open, or, without quotes, the line is indented more."""
    quote = value[0]
    if quote in QUOTES:
        inside = value[1:].replace(quote * 2, "") if quote == "'" else re.sub(r"\\.", "", value[1:])
        return quote not in inside
    return bool(following.strip()) and len(following) - len(following.lstrip()) > indent


def _scalar(value: str) -> Any:
    if value.startswith("'"):
        return value[1:-1].replace("''", "'")
    if value.startswith('"'):
        try:
            return json.loads(re.sub(r"\\x(..)", r"\\u00\1", value.replace(BACKSLASH + " ", " ")))
        except ValueError:
            return value[1:-1]
    return None if value in ("null", "~") else value
