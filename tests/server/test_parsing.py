"""Heads that were read before are read from the cache, as if they were parsed again."""

from __future__ import annotations

from gunicorn.config import Config

from app.server.parsing import KNOWN_HEAD_BYTES, KNOWN_HEADS, HeadReader

HEAD = b"POST /predict?x=%31 HTTP/1.1\r\nHost: here\r\nX-Forwarded-Proto: https\r\nContent-Length: 2\r\n\r\n"


def reader() -> HeadReader:
    return HeadReader(Config(), 65536)


def test_an_equal_head_of_another_peer_gets_that_peers_environ() -> None:
    heads = reader()
    peers = [heads.peer((address, 1), ("127.0.0.1", 80)) for address in ("127.0.0.1", "192.0.2.1")]
    first, second = (heads.read(HEAD + b"{}", 0, peer, 1) for peer in peers)
    assert first is not None
    assert second is not None
    assert [each.environ["REMOTE_ADDR"] for each in (first, second)] == ["127.0.0.1", "192.0.2.1"]
    assert [each.environ["wsgi.url_scheme"] for each in (first, second)] == ["https", "http"], "one peer is trusted"
    assert [(each.consumed, each.length_bytes, each.keep_alive) for each in (first, second)] == [
        (len(HEAD), 2, True)
    ] * 2


def test_a_change_of_one_environ_changes_no_other() -> None:
    heads = reader()
    peer = heads.peer(("127.0.0.1", 1), ("127.0.0.1", 80))
    first = heads.read(HEAD, 0, peer, 1)
    assert first is not None
    expected = dict(first.environ)
    first.environ["PATH_INFO"] = "/elsewhere"
    second = heads.read(HEAD, 0, peer, 2)
    assert second is not None
    assert second.environ == expected


def test_the_cache_of_heads_is_bounded() -> None:
    heads = reader()
    peer = heads.peer(("127.0.0.1", 1), ("127.0.0.1", 80))
    for number in range(KNOWN_HEADS + 10):
        head = heads.read(b"GET /%d HTTP/1.1\r\nHost: here\r\n\r\n" % number, 0, peer, 1)
        assert head is not None
        assert head.environ["PATH_INFO"] == f"/{number}"
    long = b"GET / HTTP/1.1\r\nHost: here\r\nX-Long: " + b"a" * KNOWN_HEAD_BYTES + b"\r\n\r\n"
    assert heads.read(long, 0, peer, 1) is not None
    assert len(heads._known_heads) <= KNOWN_HEADS
    assert long not in heads._known_heads
