"""Packs what `training` fitted, in the environment that fitted it, all in one process: `add` would start one for each.

`python -m tests.sweep.packing FOLDER [NAME ...]`: each case becomes a version below `FOLDER/models`, and `packed.json`
beside its artifact says why not. Whether other libraries give the recorded answers is left to those that serve.
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
    """Packs the case in this folder, if it was fitted."""
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
    """Packs the cases of these names."""
    warnings.simplefilter("ignore")
    for name in names:
        pack_case(folder / name, folder / "models")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
