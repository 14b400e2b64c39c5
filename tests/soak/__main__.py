"""Run the soak: python -m tests.soak [--rows n01,o,r01] [--minutes 15] [--requests 1000000] [--report FILE]."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import SETTINGS_NAMES, SETTINGS_PREFIXES
from tests.server.crowds import allow_descriptors
from tests.soak.floods import FLOODS
from tests.soak.network import NETWORK
from tests.soak.overload import OVERLOAD
from tests.soak.process import PROCESS
from tests.soak.rows import Bounds, Row
from tests.soak.sheet import Sheet, table, write_report
from tests.soak.steady import STEADY
from tests.soak.waiting import WAITING

ROWS = (*PROCESS, *NETWORK, *OVERLOAD, *FLOODS, *WAITING, *STEADY)
MINUTES = 15.0
REQUESTS = 1_000_000


def chosen(rows: Sequence[Row], named: str) -> list[Row]:
    """Return the rows whose names begin with one of the comma-separated prefixes.

    Raises:
        ValueError: no row has a prefix.
    """
    prefixes = [prefix.strip().lower() for prefix in named.split(",") if prefix.strip()]
    for prefix in prefixes:
        if not any(row.name.startswith(prefix) for row in rows):
            raise ValueError(f"no row is called {prefix}: there are {', '.join(row.name for row in rows)}")
    return [row for row in rows if not prefixes or row.name.startswith(tuple(prefixes))]


def run_row(row: Row, for_s: float, requests: int) -> Sheet:
    """Run one row in its own folder. Its sheet records an error that stops it."""
    sheet = Sheet(row.name, row.shows, load_average=os.getloadavg()[0])
    began_s = time.monotonic()
    if row.program and shutil.which(row.program) is None:
        sheet.stopped = f"{row.program} is not installed"
        return sheet
    with tempfile.TemporaryDirectory(prefix=f"retort-soak-{row.name}-") as folder:
        try:
            row.run(Bounds(Path(folder), for_s, requests), sheet)
        except Exception as error:  # noqa: BLE001 - the other rows are to be run all the same
            sheet.stopped = f"{type(error).__name__}: {error}"[:500]
    sheet.took_s = time.monotonic() - began_s
    return sheet


def main(words: Sequence[str] | None = None) -> int:
    """Return the exit status: 1 if any row fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--rows", default="", help="rows, or the beginnings of their names: p,n01,r01 (all)")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"for all of them together ({MINUTES:g})")
    parser.add_argument("--requests", type=int, default=REQUESTS, help=f"most in a row of o06, b03 or r01 ({REQUESTS})")
    parser.add_argument("--report", type=Path, help="a file for the table, or .json")
    parser.add_argument("--list", action="store_true", help="name the rows and what each must show")
    asked = parser.parse_args(words)
    try:
        rows = chosen(ROWS, asked.rows)
    except ValueError as error:
        parser.error(str(error))
    if asked.list:
        print("\n".join(f"{row.name:14}{row.shows}" for row in rows))
        return 0
    for name in [name for name in os.environ if name in SETTINGS_NAMES or name.startswith(SETTINGS_PREFIXES)]:
        del os.environ[name]  # settings of this machine would change the results
    allow_descriptors()
    scale = 60 * asked.minutes / sum(row.for_s for row in rows)
    sheets = []
    for row in rows:
        print(f"{row.name}: about {scale * row.for_s:.0f} s ...", file=sys.stderr, flush=True)
        sheets.append(run_row(row, scale * row.for_s, asked.requests))
        print(f"  {sheets[-1].verdict}: {sheets[-1].measured}", file=sys.stderr, flush=True)
        if asked.report:
            write_report(asked.report, sheets)  # after each row, so that a stopped soak has its report
    print(table(sheets))
    failed = [sheet.row for sheet in sheets if not sheet.holds]
    print(
        f"\n{len(sheets) - len(failed)} of {len(sheets)} rows pass" + (f"; not: {', '.join(failed)}" if failed else "")
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
