"""Tests of npy and npz: rows and records without a pickle, and headers with false declarations."""

from __future__ import annotations

import functools
import io
import struct
import timeit
import zipfile
from typing import Any

import numpy as np
import pytest

from tests.wire.codecs.bodies import npy, npz
from tests.wire.codecs.conftest import Sends

ROWS = np.array([[5.1, 3.5], [6.2, 3.4]])
NPY, NPZ = "application/x-npy", "application/x-npz"


def made(header: str, values: bytes = b"", version: int = 1) -> bytes:
    content = header.encode("latin-1")
    length = struct.pack("<H" if version == 1 else "<I", len(content))
    return b"\x93NUMPY" + bytes([version, 0]) + length + content + values


@pytest.mark.parametrize(
    "array",
    [
        ROWS,
        ROWS.astype(">f8"),
        ROWS.astype("<f8", order="F"),
        ROWS.astype(np.float64)[::1].copy(order="F"),
        np.array([(5.1, 3.5), (6.2, 3.4)], dtype=[("feature1", ">f8"), ("feature2", "<f8")]),
        np.array([(3.5, 5.1), (3.4, 6.2)], dtype=[("feature2", "f8"), ("feature1", "f8")]),
    ],
    ids=["plain", "big-endian", "fortran", "fortran-too", "structured", "structured-in-another-order"],
)
def test_arrays(ask: Sends, array: np.ndarray[Any, Any]) -> None:
    answer = ask(NPY, npy(array))
    assert answer.status == 200, answer.content
    assert answer.document["prediction"] == [0, 2]
    assert ask(NPZ, npz(anything=array)).document == answer.document


def test_columns_in_an_npz(ask: Sends) -> None:
    answer = ask(NPZ, npz(feature2=ROWS[:, 1], feature1=ROWS[:, 0]))
    assert answer.document["prediction"] == [0, 2]
    lengths = ask(NPZ, npz(feature2=ROWS[:, 1], feature1=ROWS[:1, 0]))
    assert lengths.status == 422
    assert "of one length" in lengths.document["errors"][0]["detail"]
    objects = ask(NPZ, npz(feature1=ROWS[:, 0], feature2=np.array([{}, {}])))
    assert "npz: its member 'feature2.npy': it holds pickled Python objects" in objects.document["detail"]


def test_the_fast_path_refuses_what_the_schema_refuses(ask: Sends) -> None:
    for value in (np.nan, np.inf):
        answer = ask(NPY, npy(np.array([[5.1, 3.5], [value, 3.4]])))
        assert answer.status == 422
        assert [error["pointer"] for error in answer.document["errors"]] == ["#/instances/1/0"]


@pytest.mark.parametrize(
    ("array", "status"),
    [
        (np.array([[True, False]]), 422),
        (np.array([["5.1", "3.5"]]), 422),
        (np.array([["\udc80", "3.5"]]), 422),
        (np.array([[0x7F0064, 0x64]], dtype=np.uint32).view("U1"), 422),
        (np.array([["", ""]]), 422),
        (np.array([[b"5.1", b"\xff"]]), 422),
        (np.array([[5 + 1j, 3]]), 422),
        (np.array([["2024-01-01", "NaT"]], dtype="M8[D]"), 422),
        (np.array([[1, 2]], dtype="m8[s]"), 422),
        (np.array([[1, 2]], dtype=np.longdouble), 422),
        (np.zeros((1, 2, 2)), 422),
        (np.zeros(2), 422),
        (np.array(1.0), 422),
        (np.zeros((3, 1)), 422),
        (np.zeros((3, 1000)), 422),
        (np.zeros((1, 2), dtype="V4"), 422),
        (np.zeros((0, 2)), 200),
        (np.array([[5, 3]], dtype=np.uint8), 200),
        (np.array([[5, 3]], dtype=np.float16), 200),
        (np.array([[2**63 + 1, 3]], dtype=np.uint64), 422),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else f"{value.dtype.str} {value.shape}",
)
@pytest.mark.fault("B05")
def test_dtypes_and_shapes(ask: Sends, array: np.ndarray[Any, Any], status: int) -> None:
    answer = ask(NPY, npy(array))
    assert answer.status == status, answer.content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        npy(ROWS)[:-1],
        npy(ROWS) + b"\0",
        npy(ROWS)[:40],
        npy(np.array([[{}, 1]], dtype=object), allow_pickle=True),
        npy(np.array([(1, {})], dtype=[("feature1", "f8"), ("feature2", "O")]), allow_pickle=True),
        made("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2)}", bytes(16)),
        made("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 2)}", bytes(16)),
        made("{'descr': '<f8', 'fortran_order': False, 'shape': (2.0, 2)}", bytes(32)),
        made("{'descr': '<f8', 'fortran_order': 'yes', 'shape': (2, 2)}", bytes(32)),
        made("{'descr': '<f8', 'shape': (2, 2)}", bytes(32)),
        made("{'descr': 'nonsense', 'fortran_order': False, 'shape': (2, 2)}", bytes(32)),
        made("{'descr': [('a', '<f8', (99999999999,))], 'fortran_order': False, 'shape': (1,)}", bytes(32)),
        made("{'descr': [('a', '<f8'), ('a', '<f8')], 'fortran_order': False, 'shape': (1,)}", bytes(16)),
        made("__import__('os').system('true')", bytes(32)),
        made("(" * 9000, bytes(32)),
        made("[" * 100 + "]" * 100, bytes(32)),
        made("{'descr': '<f8', 'fortran_order': False, 'shape': (9" + "9" * 5000 + ", 2)}", bytes(32)),
        made("{" + " " * 60_000 + "}"),
        made("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 99999999999999)}"),
        made("{'descr': '<U0', 'fortran_order': False, 'shape': (1, 99999999999999)}"),
        made("{}", version=9),
        made("{'descr': '<M8', 'fortran_order': False, 'shape': (1, 2)}", bytes(16)),
        made("{'descr': [('feature1', '<M8'), ('feature2', '<f8')], 'fortran_order': False, 'shape': (1,)}", bytes(16)),
        made("{'descr': '2f8', 'fortran_order': False, 'shape': (1, 2)}", bytes(32)),
    ],
)
@pytest.mark.fault("B05", "B06")
def test_invalid_npy_files(ask: Sends, content: bytes) -> None:
    for media_type, body in ((NPY, content), (NPZ, archive({"a.npy": content}))):
        answer = ask(media_type, body)
        assert answer.status == 400, answer.content


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 2)}",
        "{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000, 2)}",
    ],
)
@pytest.mark.fault("B05")
def test_a_header_that_declares_too_many_rows(ask: Sends, header: str) -> None:
    answer = ask(NPY, made(header))
    assert answer.status == 413
    assert answer.document["type"] == "/problems/too-many-instances"


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()


@pytest.mark.slow
@pytest.mark.fault("B07")
def test_a_zip_bomb_is_refused_before_it_is_inflated(ask: Sends, peak_bytes: Any) -> None:
    bomb = archive({f"{number}.npy": bytes(20_000_000) for number in range(4)})
    assert len(bomb) < 200_000
    peak = peak_bytes(lambda: ask(NPZ, bomb))
    assert ask(NPZ, bomb).status == 413
    assert peak < 10_000_000


@pytest.mark.fault("B07")
def test_damaged_archives(ask: Sends) -> None:
    good = npz(a=ROWS)
    lying = bytearray(good)
    at = lying.rfind(b"PK\x01\x02")
    lying[at + 24 : at + 28] = struct.pack("<I", 10)  # the size after inflation
    for content in (b"", b"PK", good[:-10], good[:60], bytes(lying), archive({}), archive({"a.npy": b"x"}, 14)):
        assert ask(NPZ, content).status == 400


@pytest.mark.slow
@pytest.mark.fault("B07")
def test_very_many_members(ask: Sends) -> None:
    content = archive(dict.fromkeys(map(str, range(10_001)), b""), zipfile.ZIP_STORED)
    rows = np.ones((len(content) // 16, 2))
    good = npz(a=rows)
    bad_s, good_s = (
        min(timeit.repeat(functools.partial(ask, NPZ, each), number=1, repeat=3)) for each in (content, good)
    )
    assert (ask(NPZ, content).status, ask(NPZ, good).status) == (400, 200)
    assert bad_s < 20 * good_s
