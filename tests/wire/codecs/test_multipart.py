"""Forms: fields of one record, or a file; abuse is refused soon."""

from __future__ import annotations

import time

import pytest

from tests.wire.codecs.bodies import BOUNDARY, form
from tests.wire.codecs.conftest import Sends

FIELDS: list[tuple[str, bytes, str | None]] = [("feature1", b"5.1", None), ("feature2", b"3.5", None)]
TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def test_fields_and_files(ask: Sends) -> None:
    assert ask(*form(FIELDS)).document["prediction"] == [0]
    files = {
        "text/csv": b"feature1,feature2\n5.1,3.5\n",
        "application/json": b'{"instances": [[5.1, 3.5]]}',
        "application/x-ndjson": b"[5.1, 3.5]\n",
    }
    for media_type, content in files.items():
        assert ask(*form([("any", content, media_type)])).document["prediction"] == [0]


@pytest.mark.parametrize(
    ("parts", "status", "pointer"),
    [
        ([*FIELDS, FIELDS[0]], 422, "#/feature1"),
        ([FIELDS[0]], 422, "#/feature2"),
        ([], 422, "#/feature1"),
        ([*FIELDS, ("other", b"1", None)], 422, "#/other"),
        ([FIELDS[0], ("feature2", b"\xff", None)], 422, "#/feature2"),
        ([*FIELDS, ("any", b"5.1,3.5", "text/csv")], 422, "#"),
        ([("any", b"5.1,3.5", "text/csv")] * 2, 422, "#"),
        ([("any", b"x", "image/png")], 415, None),
        ([("any", form(FIELDS)[1].replace(b"a-b", b"b-b"), TYPE.replace("a-b", "b-b"))], 400, None),
        ([("any", b"{", "application/json")], 400, None),
        ([(f"f{number}", b"1", None) for number in range(1000)], 422, "#"),
    ],
)
def test_what_is_wrong_is_named(
    ask: Sends, parts: list[tuple[str, bytes, str | None]], status: int, pointer: str | None
) -> None:
    answer = ask(*form(parts))
    assert answer.status == status, answer.content
    assert pointer is None or answer.document["errors"][0]["pointer"] == pointer


PART = b'--%s\r\nContent-Disposition: form-data; name="feature1"\r\n\r\n5.1\r\n' % BOUNDARY.encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no boundary",
        PART,
        PART + b"--" + BOUNDARY.encode(),
        b"--" + BOUNDARY.encode() + b"\r\nX: " + b"y" * 10_000_000 + b"\r\n\r\n",
        b"--" + BOUNDARY.encode() + b"\r\n" + b"X: y\r\n" * 100_000,
        b"--" + BOUNDARY.encode() + b"\r\nContent-Disposition: form-data\r\n\r\n1\r\n--" + BOUNDARY.encode() + b"--",
        PART * 100_000,
        PART * 100_000 + b"--" + BOUNDARY.encode() + b"--\r\n",
        (b"--" + BOUNDARY.encode()) * 500_000,
        b"\r\n--" * 2_000_000,
        b"\r" * 5_000_000 + PART,
    ],
    ids=range(12),
)
def test_abuse_is_refused_soon(ask: Sends, content: bytes) -> None:
    start = time.perf_counter()
    assert ask(TYPE, content).status in {400, 422}
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("parameters", ["", "; boundary=", "; boundary=" + "x" * 1000])
def test_a_boundary_that_cannot_be(ask: Sends, parameters: str) -> None:
    assert ask("multipart/form-data" + parameters, PART).status == 400
