"""Fit the sweep's estimators with the installed scikit-learn, and write their answers for rows that they have not seen.

`python -m tests.sweep.training FOLDER [NAME ...]`: each case gets a folder with `model.joblib`, the sample (if it was
fitted on a frame), and `answers.json`: the rows as JSON, and the answers; or why it cannot be fitted there.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import joblib
import msgspec
import numpy as np
import pandas as pd
import sklearn

from . import older
from .cases import RECIPES, Case, build_pipeline
from .compare import notebook, rows

TARGET = "the target"
CASES: dict[str, Callable[[], Case]] = RECIPES | {
    recipe.__name__: partial(build_pipeline, recipe) for recipe in older.RECIPES
}


def train(name: str, folder: Path) -> None:
    """Fit the case of this name and write its files."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        case = CASES[name]()
    except Exception as error:  # noqa: BLE001 (around fit: whatever a release says of an option that it does not have)
        said = {"unfitted": f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"}
    else:
        joblib.dump(case.estimator, folder / "model.joblib")
        said = {"family": case.family, "unservable": case.unservable}
        if case.unservable is None:
            said |= {"rows": rows(case.frame), "answers": notebook(case.estimator, case.frame)}
        sample_of(case, folder)
    (folder / "answers.json").write_bytes(msgspec.json.encode(said | {"scikit-learn": sklearn.__version__}))


def sample_of(case: Case, folder: Path) -> None:
    """Write the training rows, with the target, as a file for `--sample`."""
    if case.sample is not None:
        case.sample.to_csv(folder / "sample.csv", index=False)
    elif case.table is not None and isinstance(case.table.features, pd.DataFrame) and np.ndim(case.table.target) == 1:
        features, target = case.table.seen
        features.assign(**{TARGET: target}).to_csv(folder / "sample.csv", index=False)


def main(folder: Path, names: list[str]) -> None:
    """Fit the cases of these names, or all."""
    warnings.simplefilter("ignore")
    for name in names or CASES:
        train(name, folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
