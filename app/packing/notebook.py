"""`pack`: add a version from a notebook or a script, as `flask models add` does on the command line."""

from __future__ import annotations

import os
import pickle
import re
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

from app.errors import PackingRefused
from app.packing.spawn import PackRequest
from app.packing.stages import LoggedProgress
from app.packing.start import PackedVersion, add_version
from app.settings import Settings
from app.settings.env_files import environ_with_files

ARTIFACT = "model.joblib"
SAMPLE = "sample"
StrPath = str | os.PathLike[str]


def pack(
    estimator: object,
    name: str,
    sample: pd.DataFrame | np.ndarray[Any, Any] | StrPath | None = None,
    *,
    target: str | Sequence[str] | None = None,
    models_dir: StrPath | None = None,
    inputs: StrPath | None = None,
    card: StrPath | None = None,
    out_of_range: str | None = None,
    unseen: str | None = None,
    default: bool = False,
    stage: bool = False,
    before: Sequence[str] = (),
    after: Sequence[str] = (),
    use: str | None = None,
    columns: StrPath | None = None,
    labels: StrPath | None = None,
    trust: bool = False,
    trained_with: str | None = None,
    python: StrPath | None = None,
) -> PackedVersion:
    """Pack a fitted estimator, or the file of one, as a new version of a model.

    An estimator is packed by a process of this Python, whose libraries are its training environment. A file is packed
    in an environment like that of its training. The options are those of `flask models add`.

    Args:
        estimator: a fitted estimator; or the path of its file, or the paths of several files that make one model.
        name: the name of the model, as it stands in URLs.
        sample: rows that the model was trained on: a frame, an array, or the path of a file with a table.
        target: the column of the sample that is predicted, or several.
        models_dir: the folder of models; by default that of `RETORT_MODELS_DIR`, which is `models`.
        inputs: a JSON file that declares inputs.
        card: a file in Markdown that describes the model.
        out_of_range: "ignore", "warn" or "reject" for numbers outside the range of the sample.
        unseen: "reject", "warn" or "accept" for categories that the sample has not.
        default: put the model behind `/predict`.
        stage: let the version answer by its number only, until `flask models use` chooses it.
        before: the names of steps before the model.
        after: the names of steps after the model.
        use: the part that is the model, if a file holds several.
        columns: the part, or a file, that holds the names of the inputs.
        labels: the part, or a file, that decodes predictions.
        trust: load the types in a .skops file that skops does not know.
        trained_with: the training environment of a file, such as "scikit-learn==1.4.2,numpy<2".
        python: the Python of the training environment of a file.

    Raises:
        PackingRefused: nothing was packed; the message is the sentence that `flask models add` prints.
        InvalidSettings, InvalidRepository: the environment, or the folder of models, cannot be read.
    """
    settings = Settings.from_environ(environ_with_files())
    files = _files(estimator)
    if not files and (trained_with or python):
        raise PackingRefused(
            "trained_with and python are for files: an estimator is packed by the Python that holds it"
        )
    with tempfile.TemporaryDirectory(prefix="retort-pack-") as folder:
        artifact = files or [_saved(estimator, Path(folder))]
        rows, is_frame = _rows(sample, Path(folder), is_same_python=not files)
        request = PackRequest(
            artifact[0],
            name,
            str(models_dir or settings.models_dir),
            rows,
            target if isinstance(target, str | None) else tuple(target),
            sample_is_frame=is_frame,
            out_of_range=out_of_range,
            unseen=unseen,
            inputs=_text(inputs),
            before=tuple(before),
            after=tuple(after),
            beside=tuple(artifact[1:]),
            use=use,
            columns=_text(columns),
            labels=_text(labels),
            trust=trust,
            staged=stage,
            card=_text(card),
        )
        try:
            return add_version(
                request,
                settings,
                default=default,
                trained_with=trained_with,
                python=_text(python),
                progress=LoggedProgress(),
            )
        except PackingRefused as error:
            raise PackingRefused(_without_paths(error.detail, Path(folder))) from None


def _files(estimator: object) -> list[str]:
    """Return the paths of an artifact; none if it is an estimator."""
    several = estimator if isinstance(estimator, list | tuple) else [estimator]
    paths = [os.fspath(each) for each in several if isinstance(each, str | os.PathLike)]
    return paths if len(paths) == len(several) else []


def _saved(estimator: object, folder: Path) -> str:
    """Save an estimator as a data scientist would.

    Raises:
        PackingRefused: it holds something that cannot be saved.
    """
    path = folder / ARTIFACT
    try:
        joblib.dump(estimator, path)
    except (pickle.PicklingError, AttributeError, TypeError) as error:  # by the version of Python and the object
        reason = re.sub(r" at 0x[0-9a-fA-F]+", "", str(error))
        raise PackingRefused(
            f"the estimator cannot be saved ({reason}): a lambda, or a function inside of another, must be a function "
            "of a module that can be imported"
        ) from None
    return str(path)


def _rows(
    sample: pd.DataFrame | np.ndarray[Any, Any] | StrPath | None, folder: Path, *, is_same_python: bool
) -> tuple[str | None, bool]:
    """Return the file of a sample, and whether it is a pickled frame, which loses nothing but needs this Python."""
    if sample is None or isinstance(sample, str | os.PathLike):
        return _text(sample), False
    path = folder / SAMPLE
    if isinstance(sample, np.ndarray):
        np.save(path.with_suffix(".npy"), sample, allow_pickle=False)
        return str(path.with_suffix(".npy")), False
    if not isinstance(sample, pd.DataFrame):
        raise PackingRefused(f"the sample is a {type(sample).__name__}; it must be a frame, an array or a path")
    if is_same_python:
        sample.to_pickle(path)
    elif find_spec("pyarrow"):
        path = path.with_suffix(".parquet")
        sample.to_parquet(path)
    else:
        path = path.with_suffix(".csv")
        sample.to_csv(path, index=False)
    return str(path), is_same_python


def _text(path: StrPath | None) -> str | None:
    return None if path is None else os.fspath(path)


def _without_paths(detail: str, folder: Path) -> str:
    """Name the estimator and the sample in a refusal in place of their temporary files."""
    detail = re.sub(rf"(the )?sample {re.escape(str(folder / SAMPLE))}(\.\w+)?", "the sample", detail)
    return detail.replace(str(folder / ARTIFACT), "the estimator")
