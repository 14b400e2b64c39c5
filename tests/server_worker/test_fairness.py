"""One noisy client and eight quiet ones: short form."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server_worker.fairness import LIMITS, THREADS, one_floods
from tests.server_worker.served import ask_stats, worker_server

pytestmark = pytest.mark.server

RATIO = 3.0
"""The long form holds 1.5; here is a busy machine's margin. In one line for all it is 7, and most of the quiet ones are
refused."""


@pytest.mark.own_worker("it knows no clients, and serves in one line")
@pytest.mark.parametrize("forwarded", [False, True], ids=["addresses", "behind a proxy"])
def test_o03_a_noisy_client_waits_in_a_line_of_its_own(tmp_path: Path, forwarded: bool) -> None:
    """It has ten times the connections of all others together, each asking again at once: more than there is room for.

    The quiet are never refused, and their p99 beside it is held to that without it, in one pair of runs on the same
    server.
    """
    with worker_server(tmp_path, threads=THREADS, limits=LIMITS) as server:
        seen = one_floods(server, forwarded, 6.0)
        refused = ask_stats(server)["refused"]
    assert set(seen.alone.count) == set(seen.beside.count) == {"200"}
    assert set(seen.noise.count) <= {"200", "429", "503"}
    assert seen.noise.count["200"] > seen.beside.count["200"]  # nobody is idle for the sake of fairness
    assert seen.noise.count["429"] == refused["too_many_requests"] > 0
    assert seen.ratio < RATIO, (seen.ratio, seen.alone.percentile_s("200", 0.99))
