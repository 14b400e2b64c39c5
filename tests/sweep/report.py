"""The results of the sweep, one line for each estimator."""

from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass(frozen=True, slots=True)
class Line:
    """The result of one estimator: whether it is served, whether it equals the notebook, and its graph's proof.

    `batched` tells whether clients who shared runs got equal answers; None if they did not ask it.
    """

    estimator: str
    family: str
    served: bool
    equal: bool
    note: str = ""
    proof: dict[str, Any] = field(default_factory=dict)
    batched: bool | None = None

    @property
    def proven(self) -> bool:
        """Whether the estimator is served as a graph."""
        return bool(self.proof.get("proven"))

    @property
    def remark(self) -> str:
        """The reason why it is not served, or not as a graph."""
        return self.note or str(self.proof.get("reason", ""))

    @property
    def cells(self) -> tuple[str, ...]:
        """The texts of the line's cells, under `HEADING`."""
        difference = f"{self.proof['largest_difference']:.0e}" if self.proven else ""
        times = (f"{self.proof[key]:.0f}" if self.proven else "" for key in ("graph_us", "artifact_us"))
        said = {True: "yes", False: "no", None: ""}
        yes_no = (said[yes] for yes in (self.served, self.equal, self.batched, self.proven))
        return (self.estimator, self.family, *yes_no, difference, *times, self.remark)


HEADING = (
    "estimator",
    "family",
    "served",
    "equal",
    "batched",
    "graph proven",
    "largest difference",
    "graph µs",
    "artifact µs",
    "why not",
)
LINES = pytest.StashKey[list[Line]]()
BATCHED = pytest.StashKey[dict[str, bool]]()


def title(lines: list[Line]) -> str:
    """Return the totals."""
    served, equal, proven = (sum(getattr(line, kind) for line in lines) for kind in ("served", "equal", "proven"))
    batched = sum(line.batched is True for line in lines)
    return (
        f"{len(lines)} estimators, {served} served, {equal} equal to the notebook, {batched} when batched too, "
        f"{proven} as a proven graph"
    )


def table(lines: list[Line]) -> str:
    """Return the lines in columns, with a heading."""
    rows = [HEADING, *(line.cells for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADING))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def page(lines: list[Line]) -> str:
    """Return the table as a Markdown page."""
    shares = []
    for family in ("classifier", "regressor", "cluster", "outlier", "pipeline"):
        members = [line for line in lines if line.family == family and line.served]
        if members:
            shares.append(f"{sum(line.proven for line in members)} of {len(members)} of family {family}")
    rows = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line.cells) + " |" for line in lines)
    return f"""# Estimators: how each is served

Written by `make estimators`: every classifier, regressor, clusterer and outlier detector of scikit-learn, and realistic
pipelines, packed, served both ways and compared over HTTP with what the estimator gives in a notebook; and once more
as artifacts whose requests share runs (`RETORT_BATCHING=on`), asked by eight clients at once (batched).

{title(lines)}. Proven graphs: {", ".join(shares)}.

The times are of one row, in process, from columns to outputs, in microseconds, on the machine that wrote this page; the
artifact's are of the direct call that would serve it. The largest difference is relative; labels are always identical.
Estimators without a proven graph are served as their artifact.

| {" | ".join(HEADING)} |
|{"---|" * len(HEADING)}
{rows}
"""
