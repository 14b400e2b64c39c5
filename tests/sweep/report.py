"""What the sweep found, one line for each estimator."""

from dataclasses import dataclass

import pytest


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one estimator: served or not, equal to the notebook or not, and why."""

    estimator: str
    family: str
    served: bool
    equal: bool
    note: str = ""


LINES = pytest.StashKey[list[Line]]()


def title(lines: list[Line]) -> str:
    """The totals."""
    served, equal = sum(line.served for line in lines), sum(line.equal for line in lines)
    return f"fidelity: {len(lines)} estimators, {served} served, {equal} equal to the notebook"


def table(lines: list[Line]) -> str:
    """The lines in columns, with a heading."""
    width = max(len(line.estimator) for line in lines)
    heading = f"{'estimator':{width}}  {'family':10}  served  equal  note"
    return "\n".join([heading, *(_row(line, width) for line in lines)])


def _row(line: Line, width: int) -> str:
    served, equal = ("yes" if yes else "no" for yes in (line.served, line.equal))
    return f"{line.estimator:{width}}  {line.family:10}  {served:6}  {equal:5}  {line.note}".rstrip()
