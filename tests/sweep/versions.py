"""Compare artifacts of other scikit-learn releases, packed in their training environment, with their answers there.

`python -m tests.sweep.versions [--releases 1.2.2 1.6.1] [--page PAGE] [--work FOLDER] [CASE ...]`. Packing makes the
environments, which stay in the user's cache. The exit status is 1 if any answer is wrong.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from app import create_app
from app.packing.environments import interpreter_for
from app.packing.stages import Stage
from app.packing.trained_with import Training
from app.runtime.environment import ONE_THREAD
from app.settings import Settings
from app.storage.repository import Repository

from .compare import differences
from .older import RECIPES as OLDER
from .pipelines import RECIPES as PIPELINES

ROOT = Path(__file__).parents[2]
RELEASES = ("1.2.2", "1.3.2", "1.4.2", "1.5.2", "1.6.1", "1.7.2", "1.8.0")

ESTIMATORS = (
    "AdaBoostClassifier",
    "AdaBoostRegressor",
    "BaggingClassifier",
    "BayesianRidge",
    "CalibratedClassifierCV",
    "ClassifierChain",
    "DecisionTreeClassifier",
    "ElasticNet",
    "ExtraTreesRegressor",
    "GaussianMixture",
    "GaussianNB",
    "GaussianProcessClassifier",
    "GradientBoostingClassifier",
    "GradientBoostingRegressor",
    "GridSearchCV",
    "HistGradientBoostingClassifier",
    "HistGradientBoostingRegressor",
    "IsolationForest",
    "IsotonicRegression",
    "KMeans",
    "KNeighborsClassifier",
    "KNeighborsRegressor",
    "LinearDiscriminantAnalysis",
    "LinearRegression",
    "LocalOutlierFactor",
    "LogisticRegression",
    "LogisticRegressionCV",
    "MLPClassifier",
    "NearestCentroid",
    "OneClassSVM",
    "OneVsRestClassifier",
    "OutputCodeClassifier",
    "PLSRegression",
    "RandomForestClassifier",
    "RandomForestRegressor",
    "RidgeClassifier",
    "SVC",
    "SVR",
    "StackingClassifier",
    "VotingClassifier",
)
CASES = (*ESTIMATORS, *(recipe.__name__ for recipe in (*OLDER, *PIPELINES)))


@dataclass(frozen=True, slots=True)
class Cell:
    """The result of one case of one release.

    `how` is "graph" or "artifact" if the answers equal those of the training environment, else "refused", "wrong", or
    "absent" if the release cannot fit the case. `why` is the reason for having no graph.
    """

    case: str
    release: str
    how: str
    why: str = ""


class Release:
    """The cases of one release: trained in its environment, packed by `add`, served by the installed libraries."""

    def __init__(self, version: str, folder: Path) -> None:
        self.version = version
        self._folder = folder
        self._models = folder / "models"

    def cells(self, cases: Sequence[str]) -> list[Cell]:
        """Train and pack the cases that are not in the folder yet; return the result of each case."""
        new = [case for case in cases if not (self._folder / case / "packed.json").exists()]
        if new:
            self._run("training", *new)
            self._run("packing", *new)
        client = create_app(Settings(models_dir=self._models, access_log=False)).test_client()
        return [self._cell(client, case) for case in cases]

    def _run(self, module: str, *arguments: str) -> None:
        """Run a module of the sweep in the environment of the release."""
        training = Training({"scikit-learn": f"=={self.version}"}, "the sweep")
        interpreter = interpreter_for(training, [], None, PrintedProgress())
        command = (sys.executable,) if interpreter is None else (interpreter.python, *interpreter.options)
        environ = os.environ | ONE_THREAD | {"PYTHONPATH": str(ROOT)}
        command = (*command, "-m", f"tests.sweep.{module}", str(self._folder), *arguments)
        subprocess.run(command, cwd=ROOT, env=environ, check=True)

    def _cell(self, client: Any, case: str) -> Cell:
        """Compare the service's answers with those of the training environment."""
        trained = self._read(case, "answers.json")
        if "unfitted" in trained:
            return Cell(case, self.version, "absent", trained["unfitted"])
        refused = self._read(case, "packed.json")["refused"]
        if refused is not None:
            return Cell(case, self.version, "refused", refused)
        manifest = Repository(self._models).manifest(case, 1)
        why = str(manifest.proof.get("reason", ""))
        response = client.post(f"/models/{case}/predict", json={"instances": trained["rows"]})
        if response.status_code != 200:
            (listed,) = client.get(f"/models/{case}").get_json()["versions"]
            return Cell(case, self.version, "refused", str(listed.get("reason") or response.text))
        found = differences(trained["answers"], response.get_json())
        if found:
            return Cell(case, self.version, "wrong", found[0])
        return Cell(case, self.version, "artifact" if why else "graph", why)

    def _read(self, case: str, file: str) -> dict[str, Any]:
        return msgspec.json.decode((self._folder / case / file).read_bytes(), type=dict[str, Any])


class PrintedProgress:
    """Print that an environment is being made."""

    def line(self, text: str) -> None:
        print(text, flush=True)

    def stage(self, stage: Stage) -> None:
        """Do nothing: the steps of pip are not kept."""


def page(cells: Sequence[Cell]) -> str:
    """Return the cells as a Markdown page."""
    releases = list(dict.fromkeys(cell.release for cell in cells))
    of = {(cell.case, cell.release): cell for cell in cells}
    cases = list(dict.fromkeys(cell.case for cell in cells))
    shown = {"absent": "", "wrong": "**wrong**"}
    rows = [
        [case, *(shown.get(cell.how, cell.how) for cell in (of[case, release] for release in releases))]
        for case in cases
    ]
    totals = [["release", "fitted", "served", "equal", "as a proven graph"], *(_total(cells, r) for r in releases)]
    return f"""# Versions: artifacts of other releases of scikit-learn

Written by `make versions`: {len(cases)} estimators and pipelines, fitted with each of {len(releases)} releases of
scikit-learn in an environment of its time, packed there as `flask models add` does, and asked over HTTP. The answers
are compared with those that the environment itself gave: labels identical, numbers within 1e-9.

{_table(totals)}

"graph" is a proven graph, which serves without scikit-learn. "artifact" is the artifact, served by the installed
libraries, which gave all recorded answers. The reasons for the other results are below. A cell is empty if the release
cannot fit the case.

{_table([["case", *releases], *rows])}

## Why there is no graph

{_table([["case", "releases", "result", "reason"], *_reasons(cells)])}
"""


def _total(cells: Sequence[Cell], release: str) -> list[str]:
    hows = [cell.how for cell in cells if cell.release == release and cell.how != "absent"]
    equal, graphs = (sum(how in kinds for how in hows) for kinds in (("graph", "artifact"), ("graph",)))
    return [release, str(len(hows)), str(equal + hows.count("wrong")), str(equal), str(graphs)]


def _reasons(cells: Sequence[Cell]) -> Iterator[list[str]]:
    """Yield each reason with its releases."""
    releases: dict[tuple[str, str, str], list[str]] = {}
    for cell in cells:
        if cell.how in ("artifact", "refused", "wrong"):
            releases.setdefault((cell.case, cell.how, cell.why[:240]), []).append(cell.release)
    for (case, how, why), found in releases.items():
        yield [case, ", ".join(found), how, why]


def _table(rows: Sequence[Sequence[str]]) -> str:
    heading, *others = rows
    lines = [heading, ["---"] * len(heading), *others]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweep, print the cases without a graph, and write the page."""
    parser = argparse.ArgumentParser(description="Serve artifacts of other releases of scikit-learn.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="only these; default: all")
    parser.add_argument("--releases", nargs="+", default=RELEASES)
    parser.add_argument("--page", type=Path, help="write the table as a Markdown page to this file")
    parser.add_argument("--work", type=Path, help="keep artifacts and versions in this folder, or take them from it")
    asked = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    cells: list[Cell] = []
    with tempfile.TemporaryDirectory(prefix="retort-versions-") as temporary:
        for release in asked.releases:
            start = time.monotonic()
            found = Release(release, (asked.work or Path(temporary)) / release).cells(asked.cases or CASES)
            cells += found
            _, fitted, served, equal, graphs = _total(found, release)
            print(f"{release}: {fitted} fitted, {served} served, {equal} equal, {graphs} graphs", end="", flush=True)
            print(f" ({time.monotonic() - start:.0f} s)")
            for cell in found:
                if cell.how not in ("graph", "absent"):
                    print(f"  {cell.case}: {cell.how}: {cell.why[:200]}")
    if asked.page:
        asked.page.write_text(page(cells), "utf-8")
    return int(any(cell.how == "wrong" for cell in cells))


if __name__ == "__main__":
    sys.exit(main())
