"""Tests of bodies that are too long, too deep or have too many values: a fast, short refusal."""

from __future__ import annotations

import functools
import gzip
import json
import time
import timeit
from typing import Any

import pytest
from flask import Flask
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from app import create_app
from app.settings import Settings
from tests.wire.conftest import MODELS, MakeApp
from tests.wire.exchange import Answer, call, check, environ_of, post, send

pytestmark = pytest.mark.slow

PATH = "/models/iris-two/predict"
ROW = [5.1, 3.5]
LIMIT_ROWS = 100_000
REFUSED_WITHIN_BYTES = 64_000
MOST_TIMES_A_GOOD_ONE = 20
"""Work quadratic in the size would take thousands of times as long."""


def chunked(body: bytes, chunk_bytes: int = 1000) -> bytes:
    """Return a whole request that does not declare its length."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    parts = [body[start : start + chunk_bytes] for start in range(0, len(body), chunk_bytes)]
    return (
        f"{head}Transfer-Encoding: chunked\r\n\r\n".encode()
        + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        + b"0\r\n\r\n"
    )


def timed(app: Flask, document: Any) -> tuple[Answer, float]:
    body = json.dumps(document)
    start = time.perf_counter()
    answer = post(app, PATH, body)
    return answer, time.perf_counter() - start


@functools.cache
def valid_rows_s(app: Flask, count: int) -> float:
    """Return how long a number of valid rows takes."""
    good = json.dumps([ROW] * count)
    assert post(app, PATH, good).status == 200
    return min(timeit.repeat(functools.partial(post, app, PATH, good), number=1, repeat=3))


def soon(app: Flask, body: str) -> Answer:
    """Return the response, after checking that it took not much longer than valid rows of about the same size."""
    count = max(1, len(body) // len(json.dumps(ROW)))
    digits = 1 - len(str(count))  # round, so that bodies of about the same size share a measurement
    good_s = valid_rows_s(app, round(count, digits))
    answers = list[Answer]()
    bad_s = min(timeit.repeat(lambda: answers.append(post(app, PATH, body)), number=1, repeat=3))
    assert bad_s < MOST_TIMES_A_GOOD_ONE * good_s
    return answers[-1]


@pytest.fixture(scope="module")
def of_few_bytes() -> Flask:
    """Make a service that accepts bodies of at most 10,000 bytes."""
    return create_app(Settings(models_dir=MODELS, body_limit_bytes=10_000))


@pytest.fixture(scope="module")
def of_few_values() -> Flask:
    """Make a service that accepts bodies of at most 1,000 values."""
    return create_app(Settings(models_dir=MODELS, max_values=1000))


@pytest.mark.parametrize("over_bytes", [1, 100_000])
@pytest.mark.fault("N05")
def test_a_body_over_the_limit_is_refused_however_it_comes(of_few_bytes: Flask, over_bytes: int) -> None:
    # Cut anywhere after the first row and closed again, this would be a document of fewer rows: nothing may be cut.
    body = (b'{"instances": [[5.1, 3.5]]}' + b" " * 10_000)[:10_000] + b" " * over_bytes
    for answer in (post(of_few_bytes, PATH, body), send(of_few_bytes, chunked(body))):
        assert answer.status == 413
        check(answer)
        assert answer.document["type"] == "/problems/body-too-large"
        assert "10000 bytes" in answer.document["detail"]


def test_a_body_of_just_the_limit_is_read(of_few_bytes: Flask) -> None:
    body = b'{"instances": [[5.1, 3.5]]}'.ljust(10_000)
    assert post(of_few_bytes, PATH, body).document["prediction"] == [0]
    assert send(of_few_bytes, chunked(body)).document["prediction"] == [0]


def test_a_declared_length_over_the_limit_is_refused_without_reading(of_few_bytes: Flask) -> None:
    class Unread:
        def read(self, size: int = -1) -> bytes:
            raise AssertionError("the body was read")

    environ = environ_of(Unread(), CONTENT_LENGTH="10001")
    answer = call(of_few_bytes, environ)
    assert answer.status == 413


@pytest.mark.parametrize("length", ["30", "1000000"])
@pytest.mark.fault("N05")
def test_a_body_shorter_than_declared_is_refused(app: Flask, length: str) -> None:
    class Ends:
        """A client that leaves after the first 27 bytes, which happen to be a complete document."""

        def __init__(self) -> None:
            self.left = b'{"instances": [[5.1, 3.5]]}'

        def read(self, size: int = -1) -> bytes:
            read, self.left = self.left[:size], self.left[size:]
            return read

    answer = call(app, environ_of(Ends(), CONTENT_LENGTH=length))
    assert answer.status == 400
    check(answer)


@pytest.mark.fault("I13")
def test_too_many_instances(app: Flask) -> None:
    answer, _ = timed(app, {"instances": [ROW] * (LIMIT_ROWS + 1)})
    assert answer.status == 413
    check(answer)
    assert answer.document["type"] == "/problems/too-many-instances"
    assert answer.document["detail"] == (
        "the request has 100001 instances; at most 100000 are taken at once: send it in parts;"
        " the server's operator can raise RETORT_MAX_INSTANCES"
    )


def test_the_limit_of_instances_is_a_setting(iris_two: MakeApp) -> None:
    app = iris_two(max_instances=2)
    assert post(app, PATH, json.dumps([ROW] * 2)).status == 200
    assert post(app, PATH, json.dumps([ROW] * 3)).status == 413


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"instances": [', '[{"feature1":'])
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
@pytest.mark.fault("I05")
def test_nesting_100_000_deep(app: Flask, opening: str, closed: bool) -> None:
    ends = {"[": "]", "{": "}"}
    closing = "".join(ends[letter] for letter in reversed(opening) if letter in ends)
    answer = post(app, PATH, opening * 100_000 + ("1" + closing * 100_000 if closed else ""))
    assert answer.status == 400
    check(answer)
    assert "nested too deeply" in answer.document["detail"]


@pytest.mark.parametrize("innermost", ["1", "NaN", '"\\ud800"', "9" * 100, '"x'])
@pytest.mark.fault("I05")
def test_nesting_around_the_depth_that_is_too_deep(app: Flask, innermost: str) -> None:
    """A document on either side of the parser's limit gets a refusal, never a 500."""
    for depth in [*range(100, 900, 100), *range(900, 1020)]:
        for body in ("[" * depth + innermost + "]" * depth, '{"outputs":' * depth + innermost + "}" * depth):
            answer = post(app, PATH, f'{{"instances": [], "outputs": [{body}]}}')
            assert answer.status in {400, 422}, (depth, answer.content)
            check(answer)


@pytest.fixture(scope="module")
def good_s(app: Flask) -> float:
    """Return how long the largest allowed number of rows takes."""
    answer, seconds = timed(app, {"instances": [ROW] * LIMIT_ROWS})
    assert answer.document["prediction"] == [0] * LIMIT_ROWS
    return seconds


@pytest.mark.parametrize(
    "bad",
    [["x", 3.5], [5.1], 1, None, {"feature1": 5.1}, {"feature1": 5.1, "feature2": "x"}, dict.fromkeys("abcdefgh")],
    ids=["row", "short", "number", "null", "lacks", "record", "unknown"],
)
@pytest.mark.fault("I12")
@pytest.mark.alone
def test_100_000_invalid_rows_are_refused_as_fast_as_valid_ones_are_accepted(
    app: Flask, good_s: float, bad: Any
) -> None:
    answer, bad_s = timed(app, {"instances": [bad] * LIMIT_ROWS})
    assert answer.status == 422
    check(answer)
    document = answer.document
    assert len(document["errors"]) == 100
    assert document["errors_total"] >= LIMIT_ROWS
    assert document["errors_more"] == document["errors_total"] - 100
    assert document["detail"] == (
        f"{document['errors_total']} values are not acceptable; the first 100 are listed, "
        f"{document['errors_more']} more are not"
    )
    assert len(answer.content) < REFUSED_WITHIN_BYTES
    assert bad_s < 3 * good_s + 1  # a second for a busy machine


@pytest.mark.fault("I11")
def test_the_last_of_100_000_rows_is_found(app: Flask) -> None:
    answer, _ = timed(app, {"instances": [ROW] * (LIMIT_ROWS - 1) + [[5.1, "x"]]})
    assert answer.status == 422
    assert [each["pointer"] for each in answer.document["errors"]] == ["#/instances/99999/1"]
    assert answer.document["errors_more"] == 0


@pytest.mark.parametrize("wrapped", [False, True], ids=["record", "instances"])
@pytest.mark.fault("I07")
def test_a_record_of_40_000_keys(app: Flask, wrapped: bool) -> None:
    record = {f"key{number}": number for number in range(40_000)}
    answer = soon(app, json.dumps({"instances": [record]} if wrapped else record))
    assert answer.status == 422
    check(answer)
    assert answer.document["errors_total"] == 40_002
    assert answer.document["errors"][0]["pointer"] == ("#/instances/0/feature1" if wrapped else "#/feature1")
    assert len(answer.content) < REFUSED_WITHIN_BYTES


@pytest.mark.fault("I07")
def test_an_envelope_of_40_000_keys(app: Flask) -> None:
    answer = soon(app, json.dumps({"instances": [], **{f"key{number}": number for number in range(40_000)}}))
    assert answer.document["errors_total"] == 40_000
    check(answer)


def test_40_000_outputs(app: Flask) -> None:
    answer = soon(app, json.dumps({"instances": [], "outputs": ["shap"] * 40_000}))
    assert answer.document["errors_total"] == 40_000
    check(answer)


@pytest.mark.parametrize("digits", [3_000, 4_299, 4_301, 5_000, 1_000_000])
@pytest.mark.parametrize(
    "body",
    [
        '{"feature1": %s, "feature2": 1}',
        "[[%s, 1]]",
        '{"instances": [], "outputs": [%s]}',
        '{"%s": 1}',
        "%s",
        "[[-%s, 1]]",
    ],
)
@pytest.mark.fault("I04")
def test_integers_of_any_length(app: Flask, body: str, digits: int) -> None:
    answer = soon(app, body % ("9" * digits))
    assert answer.status == 422, answer.content
    check(answer)
    assert len(answer.content) < REFUSED_WITHIN_BYTES


def of_bytes(size_bytes: int, before: str, each: str, after: str, counted: bool = True) -> str:
    """Return a document of this size, made of equal or distinct parts."""
    many = size_bytes // (len(each) + (4 if counted else 1))
    return before + ",".join(each % at if counted else each for at in range(many)) + after


FULL_OF_ERRORS = {
    "outputs": (PATH, of_bytes(400_000, '{"instances": [], "outputs": [', '"a"', "]}", counted=False)),
    "outputs-numbers": (PATH, of_bytes(400_000, '{"instances": [], "outputs": [', "1", "]}", counted=False)),
    "envelope": (PATH, of_bytes(400_000, '{"instances": [],', '"%x":1', "}")),
    "record": (PATH, of_bytes(400_000, "{", '"%x":1', "}")),
    "instances": (PATH, of_bytes(99_999, "[", "1", "]", counted=False)),
    "columns": ("/invocations", of_bytes(400_000, '{"inputs": {', '"%x":[]', "}}")),
    "split-columns": (
        "/invocations",
        of_bytes(400_000, '{"dataframe_split": {"data": [], "columns": [', "1", "]}}", counted=False),
    ),
    "split-rows": (
        "/invocations",
        of_bytes(
            500_000, '{"dataframe_split": {"columns": ["feature1", "feature2"], "data": [', "1", "]}}", counted=False
        ),
    ),
    "tensors": ("/v2/models/iris-two/infer", of_bytes(400_000, '{"inputs": [', "1", "]}", counted=False)),
    "csv": (PATH, "feature1,feature2\n" + "1\n" * 99_999),
}


@pytest.mark.parametrize("name", FULL_OF_ERRORS)
@pytest.mark.fault("I12")
def test_a_body_full_of_errors_is_refused_in_bounded_memory(iris_two: MakeApp, peak_bytes: Any, name: str) -> None:
    """Decoded JSON takes up to twenty times its size. Its errors add next to nothing."""
    app, (path, body) = iris_two(), FULL_OF_ERRORS[name]
    headers = {"Content-Type": "text/csv", "Accept": "application/json"} if name == "csv" else None
    post(app, path, "{}", headers)
    statuses = list[int]()
    peak = peak_bytes(lambda: statuses.append(post(app, path, body, headers).status))
    assert statuses[0] in {400, 422}
    assert peak < 25 * len(body)


@pytest.mark.parametrize(
    ("path", "media_type", "body"),
    [
        (PATH, "application/json", b"[[" + b"0," * 1001 + b"0]]"),
        (PATH, "application/x-ndjson", b"0\n" * 1001),
        (PATH, "text/csv", b"\n" * 1001),
        (PATH, "text/csv", b'"0",0\n' * 501),
        (PATH, "application/msgpack", b"\xdc\x04\x00" + b"\xc0" * 1024),
        ("/v1/models/iris-two:predict", "application/json", b'{"instances":[' + b"0," * 1001 + b"0]}"),
        ("/v2/models/iris-two/infer", "application/json", b'{"inputs":[' + b"0," * 1001 + b"0]}"),
        ("/endpoints/iris-two/invocations", "application/json", b'{"inputs":[' + b"0," * 1001 + b"0]}"),
    ],
)
@pytest.mark.fault("I13")
def test_a_body_of_too_many_values_is_refused_and_says_which_setting_counts(
    of_few_values: Flask, path: str, media_type: str, body: bytes
) -> None:
    answer = post(of_few_values, path, body, {"Content-Type": media_type, "Accept": "application/json"})
    assert answer.status == 413
    assert b"at most 1000 are read at once: send it in parts" in answer.content
    assert b"RETORT_MAX_VALUES" in answer.content


def test_a_table_of_texts_is_refused_by_its_shape_before_it_is_read(of_few_values: Flask) -> None:
    head = b'{"inputs":[{"name":"x","shape":[501,2],"datatype":"BYTES","parameters":{"binary_data_size":4008}}]}'
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    answer = post(of_few_values, "/v2/models/iris-two/infer", head + b"\xff" * 4008, headers)
    assert answer.status == 413
    assert b"the body has 1002 values; at most 1000" in answer.content


WORDS, REVIEW = "good and very bad ", "love it so much"


def test_texts_longer_than_the_body_are_refused_before_the_model_runs(served: MakeApp) -> None:
    reviews = [REVIEW, "hate this thing", "good stuff here", "bad bad bad"] * 3
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(reviews, [1, 0] * 6)
    app = served(model, max_text_chars=1000)
    path, packed = "/models/model/predict", {"Content-Encoding": "gzip"}
    lines = packed | {"Content-Type": "application/x-ndjson"}
    for texts in ([WORDS * 60], [REVIEW] * 100):
        body = json.dumps(texts)
        answer = post(app, path, gzip.compress(body.encode()), packed)
        assert (answer.status, answer.document["type"]) == (413, "/problems/too-many-characters")
        check(answer)
        assert "RETORT_MAX_TEXT_CHARS" in answer.document["detail"]
        streamed = gzip.compress("".join(json.dumps(text) + "\n" for text in texts).encode())
        assert post(app, path, streamed, lines | {"Accept": "application/x-ndjson"}).status == 200
        assert post(app, path, streamed, lines | {"Accept": "application/json"}).status == 413
        assert post(app, path, body).status == 200
    assert post(app, path, gzip.compress(json.dumps([REVIEW] * 60).encode()), packed).status == 200
