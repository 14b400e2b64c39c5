"""Tests of forms: fields of one record, or a file, and fast refusals of abuse."""

from __future__ import annotations

import functools
import timeit

import msgspec
import numpy as np
import pytest
from flask import Flask

from app.wire.codecs.multipart import MAX_FIELD_BYTES
from tests.wire.codecs.bodies import BOUNDARY, as_arrow, as_parquet, form, npy, npz
from tests.wire.codecs.conftest import Sends
from tests.wire.exchange import post

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
        ([("any", b"x", "image/png")], 422, "#/any"),
        ([("a", b"x", "image/png"), *FIELDS], 422, "#/a"),
        ([("any", b"x", "application/octet-stream")], 422, "#/any"),
        ([("any", b"5.1,3.5", "text/csv; charset=utf-16")], 415, None),
        ([("any", form(FIELDS)[1].replace(b"a-b", b"b-b"), TYPE.replace("a-b", "b-b"))], 400, None),
        ([("any", b"{", "application/json")], 400, None),
        ([(f"f{number}", b"1", None) for number in range(1000)], 422, "#"),
        ([FIELDS[0], ("feature2", b"1" * (MAX_FIELD_BYTES + 1), None)], 422, "#/feature2"),
        ([("any", b"\n" * 2_000_001, "text/csv")], 413, None),
    ],
)
def test_the_error_names_the_field(
    ask: Sends, parts: list[tuple[str, bytes, str | None]], status: int, pointer: str | None
) -> None:
    answer = ask(*form(parts))
    assert answer.status == status, answer.content
    assert pointer is None or answer.document["errors"][0]["pointer"] == pointer


def file_part(name: str, file_name: str, content: bytes, media_type: str | None) -> tuple[str, bytes]:
    """Return a form of one file as a browser sends it."""
    kind = f"Content-Type: {media_type}\r\n" if media_type is not None else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{file_name}"\r\n{kind}\r\n'
    return TYPE, head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


RECORDS = [{"feature1": 5.1, "feature2": 3.5}]
FILES = {
    "rows.csv": b"feature1,feature2\n5.1,3.5\n",
    "ROWS.CSV": b"5.1,3.5\n",
    "rows.2024.json": b'{"instances": [[5.1, 3.5]]}',
    "rows.ndjson": b"[5.1, 3.5]\n",
    "rows.jsonl": b'{"feature1": 5.1, "feature2": 3.5}\n',
    "rows.npy": npy(np.array([[5.1, 3.5]])),
    "rows.npz": npz(feature1=np.array([5.1]), feature2=np.array([3.5])),
    "rows.msgpack": msgspec.msgpack.encode([[5.1, 3.5]]),
    "rows.parquet": as_parquet(RECORDS)[1],
    "rows.arrow": as_arrow(RECORDS)[1],
}


@pytest.mark.parametrize("media_type", [None, "", "application/octet-stream", "application/vnd.ms-excel", "text/plain"])
@pytest.mark.parametrize("file_name", FILES)
def test_a_file_of_a_generic_type_is_read_by_its_extension(ask: Sends, file_name: str, media_type: str | None) -> None:
    answer = ask(*file_part("file", file_name, FILES[file_name], media_type))
    assert (answer.status, answer.document.get("prediction")) == (200, [0]), answer.content


def test_a_specific_type_overrides_the_extension(ask: Sends) -> None:
    assert ask(*file_part("file", "rows.csv", b"[[5.1, 3.5]]", "application/json")).status == 200
    assert ask(*file_part("file", "rows.csv", b"5.1,3.5\n", "image/png")).status == 422


@pytest.mark.parametrize("media_type", ["image/png", "application/octet-stream", None])
def test_the_error_of_an_image_under_another_name_lists_the_fields(app: Flask, media_type: str | None) -> None:
    content_type, body = file_part("file", "three.png", b"\x89PNG", media_type)
    answer = post(app, "/models/digits-image/predict", body, {"Content-Type": content_type})
    (error,) = answer.document["errors"]
    assert (answer.status, error["pointer"]) == (422, "#/file")
    assert "is not a field of this model; the fields are: image" in error["detail"]


PART = b'--%s\r\nContent-Disposition: form-data; name="feature1"\r\n\r\n5.1\r\n' % BOUNDARY.encode()


@pytest.mark.slow
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
@pytest.mark.fault("N08")
def test_abuse_is_refused_in_the_time_that_a_good_form_of_its_length_takes(ask: Sends, content: bytes) -> None:
    _, good = form([("feature1", b"5.1".rjust(max(len(content), 1_000_000)), None), FIELDS[1]])
    answers = ask(TYPE, content), ask(TYPE, good)
    bad_s, good_s = (
        min(timeit.repeat(functools.partial(ask, TYPE, each), number=1, repeat=3)) for each in (content, good)
    )
    assert answers[0].status in {400, 422}
    assert bad_s < 20 * good_s  # 4 times for the longest ones, many thousands if the ends are searched repeatedly


@pytest.mark.parametrize("length", [1, 70, 72, 200])
def test_a_boundary_of_any_length_that_clients_send(ask: Sends, length: int) -> None:
    boundary = "b" * length
    content = form(FIELDS)[1].replace(BOUNDARY.encode(), boundary.encode())
    assert ask(f"multipart/form-data; boundary={boundary}", content).document["prediction"] == [0]


@pytest.mark.parametrize("parameters", ["", "; boundary=", "; boundary=" + "x" * 1000])
def test_an_invalid_boundary(ask: Sends, parameters: str) -> None:
    assert ask("multipart/form-data" + parameters, PART).status == 400
