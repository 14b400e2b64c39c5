"""Open an artifact: read one or several files, and put one model together."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from app.errors import LoadingFailed, PackingRefused
from app.packing.artifacts import onnx_file
from app.packing.artifacts.boosters import estimator_of, read_catboost, read_lightgbm, read_xgboost
from app.packing.artifacts.folders import Located, hub_example, located
from app.packing.artifacts.kinds import kind_of
from app.packing.artifacts.parts import Choice, Whole, is_container, parts_of, role_of, whole_of
from app.runtime.loaders import READERS

CUT_OFF = (
    "EOFError", "truncated", "exhausted", "Ran out of input", "Compressed file ended", "incomplete", "unexpected end",
    "EOF",
)  # fmt: skip
SUFFIXES = {"joblib": (".joblib", ".pkl", ".pickle", ".sav"), "skops": (".skops",), "onnx": (".onnx",)}


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model that is ready to be packed, and notes for the user.

    `file` is stored unchanged; it is None if the estimator was put together here and is saved anew. `columns` are the
    names of its inputs, from the artifact or its folder. `steps` are the names in `--before` that are not parts of the
    artifact. `parts` are the names of the parts, if there are several. `example` are example rows, or a file with them.
    """

    estimator: Any
    format: str
    file: Path | None
    columns: tuple[str, ...] | None = None
    steps: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    example: Path | pd.DataFrame | None = None
    notes: tuple[str, ...] = ()

    @property
    def stored_name(self) -> str:
        """The name of the file in the folder of the version."""
        suffix = "" if self.file is None else self.file.suffix.lower()
        allowed = SUFFIXES[self.format]
        return f"model{suffix if suffix in allowed else allowed[0]}"


def opened(
    given: Sequence[str], choice: Choice, name: str, *, trust: bool = False, options: Sequence[str] = ()
) -> Artifact:
    """Open the model in these files, folders or URIs; several make one pipeline in this order.

    It is refused if it is not clear which parts make the model. The command that an error proposes has the name of the
    model and repeats the other options of the user. With `trust`, all types in a skops file are trusted.
    """
    found = [located(each) for each in given]
    several_files = len(found) > 1
    parts: dict[str, Any] = {}
    contained = False
    content: Any = None
    trust_notes: list[str] = []
    kinds = [kind_of(place.file) for place in found]
    for place, kind in zip(found, kinds, strict=True):
        content, types = trusted(place.file) if trust and kind == "skops" else (read(place.file, kind), ())
        trust_notes += [f"trusted, as asked: {', '.join(types)}"] * bool(types)
        contained = contained or is_container(content)
        parts |= _named_parts(content, _stem(place.file) if several_files else "model", several_files)
    beside = _named_files(choice, parts)
    if len(parts) == 1 and not contained and not beside:
        whole = Whole(next(iter(parts.values())), steps=choice.before)
    else:
        command = shlex.join(["flask", "models", "add", *given, "--name", name, *options])
        whole = whole_of(parts | beside, choice, several_files=several_files, command=command)
    # A model that was read with --trust is saved as a pickle, because a server has nobody to ask.
    changed = contained or several_files or bool(beside or trust_notes) or kinds[0] not in SUFFIXES
    changed = changed or whole.estimator is not content
    first = found[0]
    return Artifact(
        whole.estimator,
        "joblib" if changed else kinds[0],
        None if changed else first.file,
        whole.columns or next((place.columns for place in found if place.columns), None),
        whole.steps,
        tuple(parts) if contained or several_files else (),
        next(filter(None, (place.example for place in found)), None) if first.example else _example(first),
        (*(note for place in found for note in place.notes), *whole.notes, *trust_notes),
    )


def _named_parts(content: Any, label: str, several_files: bool) -> dict[str, Any]:
    """Return the parts of one file by name; of several files, the parts of a container get its label as prefix."""
    prefix = f"{label}." if several_files and is_container(content) else ""
    return {f"{prefix}{key}": estimator_of(part) for key, part in parts_of(content, label).items()}


def read(path: Path, kind: str) -> Any:
    """Read the object in a file of this kind."""
    try:
        return READERS_OF_KIND[kind](path)
    except OSError as error:
        raise PackingRefused(f"{path} cannot be read: {error.strerror}") from None
    except LoadingFailed as error:
        if any(text in error.detail for text in CUT_OFF):
            raise PackingRefused(f"{path} is cut off: its {path.stat().st_size} bytes end too early") from None
        hint = "; if you trust whoever made it: --trust" if "not trusted" in error.detail else ""
        raise PackingRefused(f"{path} cannot be loaded: {error.detail}{hint}") from None


def trusted(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Read a skops file, trusting all types in it.

    Returns:
        The object, and the types that skops does not trust by itself.
    """
    try:
        import skops.io
    except ModuleNotFoundError:
        return read(path, "skops"), ()
    content = path.read_bytes()
    try:
        types = skops.io.get_untrusted_types(data=content)
        return skops.io.loads(content, trusted=types), tuple(types)
    except Exception as error:
        raise PackingRefused(f"{path} cannot be loaded ({type(error).__name__}: {error})") from error


def _named_files(choice: Choice, parts: dict[str, Any]) -> dict[str, Any]:
    """Read the labels and the column names that are in files of their own, as parts."""
    names = [name for name in (choice.labels, choice.columns) if name is not None and name not in parts]
    files = {name: Path(name) for name in names if Path(name).is_file()}
    return {name: read(path, kind_of(path)) for name, path in files.items()}


def _example(place: Located) -> pd.DataFrame | None:
    rows = hub_example(place.file.parent)
    return None if rows is None else pd.DataFrame(rows)


def _stem(path: Path) -> str:
    """Return the name of a file without its suffixes."""
    return path.name.split(".")[0] or path.name


def _of_loader(name: str) -> Callable[[Path], Any]:
    def read_file(path: Path) -> Any:
        with path.open("rb") as stream:
            return READERS[name](stream)

    return read_file


def _json(path: Path) -> Any:
    """Read column names or labels in JSON, which are parts of a model."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise PackingRefused(f"{path} is no JSON that can be read ({error}), and no model") from None
    if isinstance(content, dict) and content and all(key.isdigit() for key in content):
        content = {int(key): label for key, label in content.items()}
    if role_of(content) == "other":
        raise PackingRefused(f"{path} is JSON, not a model")
    return content


READERS_OF_KIND: dict[str, Callable[[Path], Any]] = {
    "joblib": _of_loader("joblib"),
    "skops": _of_loader("skops"),
    "json": _json,
    "onnx": onnx_file.read,
    "xgboost": read_xgboost,
    "lightgbm": read_lightgbm,
    "catboost": read_catboost,
}
