"""Tests of content codings: bodies are decompressed within the limit, responses compressed if that is worthwhile."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable

import pytest
from flask import Flask

from app.wire.body import zstd
from tests.wire.conftest import MakeApp
from tests.wire.exchange import Answer, check, post

PATH = "/models/iris-two/predict"
BODY = b'{"feature1": 5.1, "feature2": 3.5}'
MANY = json.dumps({"instances": [[5.1, 3.5]] * 100})


def raw_deflate(content: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(content) + compressor.flush()


CODED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "zstd": ("ZSTD", zstd.compress),
    "gzip in members": ("gzip", lambda content: gzip.compress(content[:9]) + gzip.compress(content[9:])),
}


def ask(app: Flask, content: bytes, coding: str) -> Answer:
    answer = post(app, PATH, content, {"Content-Type": "application/json", "Content-Encoding": coding})
    check(answer)
    return answer


@pytest.mark.parametrize("way", CODED)
def test_bodies_are_decompressed(app: Flask, way: str) -> None:
    coding, compress = CODED[way]
    assert ask(app, compress(BODY), coding).document["prediction"] == [0]


@pytest.mark.parametrize("way", CODED)
@pytest.mark.fault("N09")
def test_damaged_compressed_bodies_are_refused(app: Flask, way: str) -> None:
    coding, compress = CODED[way]
    good = compress(BODY)
    for bad in (b"", good[:-1], good[:5], good + b"more", b"\xff" * 40, BODY):
        answer = ask(app, bad, coding)
        assert answer.status == 400
        assert answer.document["type"] == "/problems/invalid-body"


@pytest.mark.slow
@pytest.mark.parametrize("way", CODED)
@pytest.mark.fault("N09")
def test_bombs_are_refused_at_the_limit(iris_two: MakeApp, way: str) -> None:
    coding, compress = CODED[way]
    app = iris_two(body_limit_bytes=100_000)
    assert ask(app, compress(bytes(200_000_000)), coding).status == 413
    assert ask(app, compress(BODY.ljust(100_001)), coding).status == 413
    assert ask(app, compress(BODY.ljust(100_000)), coding).status == 200


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "gzip, zstd", "compress"])
@pytest.mark.fault("N09")
def test_an_unknown_coding_is_refused_with_the_allowed_ones(app: Flask, coding: str) -> None:
    answer = ask(app, BODY, coding)
    assert answer.status == 415
    assert answer.headers["Accept-Encoding"] == "zstd, gzip, deflate, identity"


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("deflate;q=0.9, gzip;q=0.1", "deflate"),
        ("*", "zstd"),
        ("zstd;q=0, *;q=0.5", "gzip"),
        ("br", None),
        ("identity, gzip;q=0.5", None),
        ("gzip;q=0", None),
        ("", None),
    ],
)
def test_answers_are_compressed_as_wanted(app: Flask, accept: str, coding: str | None) -> None:
    answer = post(app, PATH, MANY, {"Content-Type": "application/json", "Accept-Encoding": accept})
    assert answer.headers.get("Content-Encoding") == coding
    expand: dict[str | None, Callable[[bytes], bytes]] = {
        "gzip": gzip.decompress,
        "deflate": zlib.decompress,
        "zstd": zstd.decompress,
        None: bytes,
    }
    assert json.loads(expand[coding](answer.content))["prediction"] == [0] * 100
    assert int(answer.headers["Content-Length"]) == len(answer.content)


def test_a_small_answer_is_compressed_only_if_the_client_requires_it(app: Flask) -> None:
    def small(accept: str) -> Answer:
        return post(app, PATH, BODY, {"Content-Type": "application/json", "Accept-Encoding": accept})

    assert "Content-Encoding" not in small("gzip").headers
    assert small("gzip, identity;q=0").headers["Content-Encoding"] == "gzip"
    refused = small("br, identity;q=0")
    assert refused.status == 406
    assert "zstd, gzip, deflate, identity" in refused.document["detail"]
