"""docs/faults.md: the markers of the tests, the outcomes of the last runs, and the page with both.

`pytest --faults=docs/faults.md` runs the tests with the marker `fault`, and calls this module. The outcomes are kept in
build/faults.json, so that a run of some tests completes the outcomes of earlier runs.
"""

from __future__ import annotations

import ast
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import gmtime, strftime

from tests.faults.rows import EVIDENCE, FAULTS, PEERS, SECTIONS, Fault

ROOT = Path(__file__).parents[2]
OUTCOMES = ROOT / "build" / "faults.json"
HEAD = ("id", "fault", "what happened", "tests", "peers that fail")
PASSED = "passed"


@dataclass(frozen=True)
class Outcome:
    """The outcome of one test, and its time in UTC."""

    outcome: str
    at: str


def marked(folder: Path = ROOT / "tests") -> dict[str, list[str]]:
    """Return the tests of each fault, as pytest names them, by their decorators. Nothing is imported."""
    tests: dict[str, list[str]] = {id_: [] for id_ in FAULTS}
    for path in sorted(folder.rglob("test_*.py")):
        source = path.read_text("utf-8")
        if "mark.fault(" in source:
            for name, ids in _marked_in(source):
                for id_ in ids:
                    tests.setdefault(id_, []).append(f"{path.relative_to(ROOT).as_posix()}::{name}")
    return tests


def _marked_in(source: str) -> Iterator[tuple[str, list[str]]]:
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.fault":
                    yield node.name, [ast.literal_eval(argument) for argument in call.args]


def read_outcomes() -> dict[str, Outcome]:
    """Return the outcomes of earlier runs, by the id of the test with its parameters."""
    if not OUTCOMES.is_file():
        return {}
    return {test: Outcome(**found) for test, found in json.loads(OUTCOMES.read_text("utf-8")).items()}


def write(target: Path, found: Mapping[str, str]) -> None:
    """Add the outcomes of this run to those of earlier ones, and write the page."""
    now = strftime("%Y-%m-%d %H:%M", gmtime())
    outcomes = read_outcomes() | {test: Outcome(outcome, now) for test, outcome in found.items()}
    OUTCOMES.parent.mkdir(exist_ok=True)
    OUTCOMES.write_text(json.dumps({test: vars(outcomes[test]) for test in sorted(outcomes)}, indent=1) + "\n", "utf-8")
    target.write_text(page(outcomes), "utf-8")


def happened(fault: Fault, tests: list[str], outcomes: Mapping[str, Outcome]) -> str:
    """Return one sentence: the results of the tests of a fault, or the reason for having none."""
    if fault.untested:
        return fault.untested
    ended: dict[str, set[str]] = {}
    for test in tests:
        of_test = {found.outcome for name, found in outcomes.items() if name.partition("[")[0] == test}
        for outcome in of_test or {"not run"}:
            ended.setdefault(outcome, set()).add(test)
    if set(ended) == {PASSED}:
        return f"{PASSED}: {fault.expected}"
    others = [outcome for outcome in ended if outcome != PASSED]
    return "; ".join(f"**{one}**: {', '.join(sorted(_short(test) for test in ended[one]))}" for one in others)


def _short(test: str) -> str:
    return f"`{test.partition('::')[2]}`"


def page(outcomes: Mapping[str, Outcome]) -> str:
    """Return the page."""
    tests = marked()
    ran = sorted({outcomes[test].at for test in outcomes})
    when = "never" if not ran else ran[0] if len(ran) == 1 else f"from {ran[0]} to {ran[-1]}"
    results = {id_: happened(fault, tests[id_], outcomes) for id_, fault in FAULTS.items()}
    tested = [id_ for id_, fault in FAULTS.items() if not fault.untested]
    passed = sum(results[id_].startswith(PASSED) for id_ in tested)
    parts = [
        "# Faults: what happens when something goes wrong",
        "Written by `make faults`, which runs the tests below and notes how they ended. Do not edit this page: change "
        "`tests/faults/rows.py` or the tests, and run the command again.",
        f"Generated {when} UTC with Python {platform.python_version()}. {passed} of {len(tested)} faults with tests "
        f"passed; {len(FAULTS) - len(tested)} have no test, and the table says why.",
        "The last column names peers that fail, and how we know: "
        + "; ".join(f"**{letter}** {text}" for letter, text in EVIDENCE.items())
        + f". Versions: {PEERS}. An empty cell says nothing about peers. [Promises](promises.md) sums up what follows "
        "from this; `make soak` holds some of the faults for longer.",
    ]
    for section, faults in SECTIONS.items():
        lines = [_line(HEAD), "|---" * len(HEAD) + "|"]
        for fault in faults:
            named = "<br>".join(f"`{test}`" for test in tests[fault.id])
            lines.append(_line((fault.id, fault.fault, results[fault.id], named, fault.peers)))
        parts += [f"## {section}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")
