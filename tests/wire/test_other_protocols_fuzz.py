"""Tests with arbitrary JSON for the protocols of other servers: a prediction or a refusal, never a failure."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.wire.exchange import post, told_of_inside

pytestmark = pytest.mark.slow

NAMES = """instances inputs examples context signature_name params parameters outputs b64 data dataframe_split
dataframe_records columns index feature1 feature2 prediction a/b~c"""
KEYS = st.sampled_from(NAMES.split())
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), KEYS, st.integers(10**30, 10**31)
)
ROWS = st.lists(st.lists(st.floats(0, 10), min_size=2, max_size=2), max_size=3)
VALUES = st.recursive(
    SCALARS | ROWS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=12
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=4) | VALUES
PATHS = [
    "/v1/models/iris-two:predict",
    "/v1/models/iris-two:classify",
    "/v1/models/iris-two:regress",
    "/v1/endpoints/1/deployedModels/2:predict",
    "/endpoints/iris-two/invocations",
]


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(document=DOCUMENTS)
def test_no_json_document_makes_the_server_fail(app: Flask, path: str, document: Any) -> None:
    body = json.dumps(document)
    answer = post(app, path, body)
    assert answer.status in (200, 400, 422), answer.content
    assert answer.status == 200 or told_of_inside(answer, body) == set()
    assert answer.document is not None
