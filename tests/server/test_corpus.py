"""Tests that every request of Gunicorn's corpus gets the result of Gunicorn's own parser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.server.reference import gunicorn_verdict, load_corpus, plain, statuses_in
from tests.server.stage import Recorder, staged

FILES_AT_LEAST = 120
SPLITS = 40

pytestmark = pytest.mark.server


def check(name: str, cfg: Any, content: bytes, parts: list[bytes]) -> None:
    cfg.set("threads", 1)
    verdict = gunicorn_verdict(cfg, content)
    app = Recorder()
    with staged(app, cfg) as stage:
        received = stage.exchange(*parts)
    statuses = statuses_in(received)
    got, expected = told_of(app.seen), told_of(verdict.requests)
    assert got == expected, name
    assert statuses[: len(got)] == [200] * len(got), name
    refused = statuses[len(got) :]
    if verdict.refusal is None:
        assert refused in ([], [400]), (name, received)  # the request is incomplete
    else:
        assert refused == [verdict.refusal], (name, received)


def told_of(requests: list[tuple[dict[str, Any], bytes]]) -> list[dict[str, Any]]:
    """Return the application's view of each request. Gunicorn forgets the PROXY protocol's fields after the first
    request."""
    received = [plain(environ, body) | {"body": body} for environ, body in requests]
    for later in received[1:]:
        for key in ("PROXY_PROTOCOL", "PROXY_ADDR", "PROXY_PORT", "REMOTE_ADDR", "REMOTE_PORT"):
            later.pop(key, None)
    return received


@pytest.mark.own_worker("it is not run: this drives our own parser without a server")
@pytest.mark.parametrize("how", ["whole", "bytes", "lines"])
@pytest.mark.fault("N07")
def test_the_corpus_gets_gunicorns_verdict(gunicorn_source: Path, how: str) -> None:
    corpus = load_corpus(gunicorn_source)
    assert len(corpus) >= FILES_AT_LEAST
    wrong = []
    for name, cfg, content in corpus:
        parts = {
            "whole": [content],
            "bytes": [content[at : at + 1] for at in range(len(content))] if len(content) < 4096 else [content],
            "lines": content.splitlines(keepends=True),
        }[how]
        try:
            check(name, cfg, content, parts)
        except AssertionError as error:
            wrong.append(f"{name}: {str(error)[:600]}")
    assert not wrong, f"{len(wrong)} of {len(corpus)}:\n" + "\n".join(wrong)
