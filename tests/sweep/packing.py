"""Pack the estimators that `training` fitted, in the same environment and in one process: `add` would start many.

`python -m tests.sweep.packing FOLDER [NAME ...]`: each case becomes a version below `FOLDER/models`, and `packed.json`
beside its artifact has the refusal, if any. The serving side checks whether other libraries give the recorded answers.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import msgspec
import sklearn

from app.errors import RetortError
from app.packing.spawn import PackRequest
from app.packing.write import pack

from .training import TARGET


def pack_case(folder: Path, models: Path) -> None:
    """Pack the case in this folder, if it was fitted."""
    sample = folder / "sample.csv"
    target = TARGET if sample.exists() and TARGET in sample.read_text().partition("\n")[0] else None
    request = PackRequest(
        str(folder / "model.joblib"),
        folder.name,
        str(models),
        sample=str(sample) if sample.exists() else None,
        target=target,
        trained_with=(f"scikit-learn=={sklearn.__version__}",),
        trained_with_source="the artifact",
    )
    refused = None
    try:
        if (folder / "model.joblib").exists():
            pack(request)
    except RetortError as error:
        refused = error.detail
    (folder / "packed.json").write_bytes(msgspec.json.encode({"refused": refused}))


def main(folder: Path, names: list[str]) -> None:
    """Pack the cases of these names."""
    warnings.simplefilter("ignore")
    for name in names:
        pack_case(folder / name, folder / "models")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
