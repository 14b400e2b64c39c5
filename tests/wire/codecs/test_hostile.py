"""Tests that a small body costs little or is refused early, however large it is after decoding.

Every tenth body is sent, and the formerly most expensive ones, which takes half a minute. `HOSTILE=all pytest
tests/wire/codecs/test_hostile.py` sends all.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from flask import Flask

from app.telemetry.process_state import give_large_blocks_back
from tests.wire.codecs import bodies, hostile, hostile_images, hostile_structures, hostile_tables, hostile_texts
from tests.wire.codecs.hostile import Hostile
from tests.wire.exchange import post

pytestmark = pytest.mark.slow

BODIES = [
    *hostile.every(),
    *hostile_texts.every(),
    *hostile_tables.every(),
    *hostile_images.every(),
    *hostile_structures.every(),
]
WORST = {
    "column-arrow-text-views",
    "csv-bare-spaces",
    "large-png-high",
    "large-webp-lossless",
    "more-csv-quoted-line-ends",
    "more-npy-two-byte-texts",
    "parquet-tiny-pages",
    "structure-arrow-shared-fields-small",
    "structure-explanations-digits",
    "structure-images-exif",
    "structure-msgpack-one-hash",
    "structure-parquet-page-of-many-truths",
    "structure-parquet-row-groups",
    "wide-first-csv-quoted",
    "wide-last-form",
    "wide-last-json-name",
}
"""The most expensive bodies before they were bounded."""
SOME = [body for number, body in enumerate(BODIES) if number % 10 == 0 or body.name in WORST]
ASKED = BODIES if os.environ.get("HOSTILE") == "all" else SOME
MOST_MEMORY_BYTES = 200 * 2**20
ROUNDS = 20_000_000
"""Rounds of a loop that takes half a second on an idle machine."""
MOST_LOOPS_REFUSED = 3
"""Limit for refusals of each value, which read all values first: as many as RETORT_MAX_INSTANCES allows."""
PARTS = 10


def cpu_of_the_loop_s() -> float:
    """Return the CPU time of the whole loop, estimated from a part of it."""
    began_s, total = time.process_time(), 0
    for number in range(ROUNDS // PARTS):
        total ^= number
    return (time.process_time() - began_s) * PARTS


@pytest.fixture(scope="module")
def idle_loop_s() -> float:
    """Return the shortest CPU time of the loop in five measurements."""
    return min(cpu_of_the_loop_s() for _ in range(5))


def memory_bytes(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    assert found is not None
    return int(found[1]) * 1024


@pytest.fixture(scope="module")
def warm(app: Flask) -> Flask:
    """Return the service as its workers run it, with the imports for each media type done."""
    give_large_blocks_back()
    for make in (bodies.as_json, bodies.as_msgpack, bodies.as_csv, bodies.as_parquet, bodies.as_arrow, bodies.as_npz):
        media_type, content = make([{"feature1": 5.1, "feature2": 3.5}])
        assert post(app, hostile.PREDICT, content, {"Content-Type": media_type, "Accept": "*/*"}).status == 200
    return app


def test_there_are_hundreds_of_bodies_with_distinct_names() -> None:
    names = {body.name for body in BODIES}
    assert len(names) == len(BODIES) >= 500
    assert names >= WORST


@pytest.mark.parametrize("body", [pytest.param(body, id=body.name) for body in ASKED])
@pytest.mark.fault("B02")
def test_a_small_body_costs_at_most_a_loop_and_little_memory_or_is_refused(
    warm: Flask, idle_loop_s: float, body: Hostile
) -> None:
    headers, content = body.request()
    assert len(content) <= hostile.LARGEST_SENT_BYTES
    Path("/proc/self/clear_refs").write_text("5")  # the peak is measured anew from here
    before_bytes = memory_bytes("VmRSS")
    began_s = time.process_time()
    answer = post(warm, body.path, content, headers)
    took_s = time.process_time() - began_s
    most_loops = 1 if answer.status == 200 else MOST_LOOPS_REFUSED
    # Only a body that costs more than the loop did needs a new measurement: the machine may be slower now.
    loop_s = idle_loop_s if took_s <= idle_loop_s * most_loops else max(cpu_of_the_loop_s() for _ in range(2))
    assert answer.status in (200, 400, 413, 415, 422)
    assert took_s <= loop_s * most_loops
    assert memory_bytes("VmHWM") - before_bytes <= MOST_MEMORY_BYTES
