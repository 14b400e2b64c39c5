"""Pack the sweep's estimators as `flask models add` does, each once."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import joblib

from app.packing.spawn import PackRequest
from app.packing.write import pack

if TYPE_CHECKING:
    from .cases import Case


class Packed:
    """Repositories by case, each with only the case's estimator. `processes` make them in `folder`."""

    def __init__(self, folder: Path, processes: ProcessPoolExecutor) -> None:
        self._folder = folder
        self._processes = processes
        self._begun: dict[Case, Future[Path]] = {}

    def __call__(self, case: Case) -> Path:
        """Return the case's repository.

        Raises:
            PackingRefused: it cannot be served.
        """
        self.begin([case])
        return self._begun[case].result()

    def begin(self, cases: Iterable[Case]) -> None:
        """Start to pack these, as many at a time as there are processes. Do not wait."""
        for case in cases:
            if case not in self._begun:
                request = _request(case, self._folder / f"{len(self._begun)}-{case.name}")
                self._begun[case] = self._processes.submit(_pack, request)


def _request(case: Case, folder: Path) -> PackRequest:
    folder.mkdir()
    joblib.dump(case.estimator, folder / "model.joblib")
    sample = None
    if case.sample is not None:
        sample = str(folder / "sample.csv")
        case.sample.to_csv(sample, index=False)
    return PackRequest(str(folder / "model.joblib"), case.name, str(folder / "models"), sample)


def _pack(request: PackRequest) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in packing's own process
        pack(request)
    return Path(request.models_dir)
