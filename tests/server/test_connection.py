"""Tests of one connection: bytes in any pieces, ordered answers, limits, and ends."""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.server.connection import BODY, LINGERING
from app.server.contract import Response
from app.server.dispatcher import SHORT_BODY_BYTES
from tests.server.mixtures import requests
from tests.server.reference import gunicorn_verdict, plain, statuses_in
from tests.server.stage import Recorder, Stage, config, staged

GET = b"GET /a?b=c HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n"
LAST = b"GET /l HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.fixture
def app() -> Recorder:
    return Recorder()


@pytest.fixture
def stage(app: Recorder) -> Iterator[Stage]:
    with staged(app, body_bytes=1000, body_chunks=20, head_bytes=4096) as one:
        yield one


def document(received: bytes) -> dict[str, Any]:
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    parsed: dict[str, Any] = json.loads(body)
    return parsed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "bodies"),
    [
        (GET, [b""]),
        (POST, [b"hello"]),
        (CHUNKED, [b"abcde"]),
        (GET + POST + CHUNKED + LAST, [b"", b"hello", b"abcde", b""]),
    ],
    ids=["get", "post", "chunked", "all"],
)
def test_a_request_may_be_cut_anywhere(content: bytes, bodies: list[bytes]) -> None:
    for at in range(len(content) + 1):
        app = Recorder()
        with staged(app) as stage:
            received = stage.exchange(content[:at], content[at:])
        assert statuses_in(received) == [200] * len(bodies)
        assert [body for _, body in app.seen] == bodies


def test_pipelined_requests_are_answered_in_order(app: Recorder, stage: Stage) -> None:
    received = stage.exchange((GET + POST) * 50)
    assert statuses_in(received) == [200] * 100
    assert [environ["PATH_INFO"] for environ, _ in app.seen] == ["/a", "/p"] * 50
    assert [int(part.split(b":")[0]) for part in received.split(b"\r\n\r\n")[1:]] == list(range(1, 101))


def test_pipelined_requests_that_threads_answer_are_answered_in_order(app: Recorder, stage: Stage) -> None:
    app.inline = False
    received = stage.exchange((GET + POST) * 20)
    assert [int(part.split(b":")[0]) for part in received.split(b"\r\n\r\n")[1:]] == list(range(1, 41))


def test_after_a_close_nothing_more_is_read(app: Recorder, stage: Stage) -> None:
    assert statuses_in(stage.exchange(LAST + GET)) == [200]
    assert len(app.seen) == 1


@pytest.mark.parametrize(
    ("head", "status", "name"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414, "malformed-request"),
        (b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 200 + b"\r\n", 431, "malformed-request"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 5000, 431, "malformed-request"),
        (b"G\xffT / HTTP/1.1\r\n\r\n", 400, "malformed-request"),
        (b"GET / HTTP/2.0\r\n\r\n", 400, "malformed-request"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", 413, "body-too-large"),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "malformed-request"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 30, 413, "body-too-large"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n", 413, "body-too-large"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 65536, 400, "malformed-request"),
        (b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc", 400, "incomplete-body"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n", 417, "malformed-request"),
    ],
)
def test_a_refused_request_is_answered_and_never_run(
    app: Recorder, stage: Stage, head: bytes, status: int, name: str
) -> None:
    received = stage.exchange(head)
    assert statuses_in(received) == [status]
    problem = document(received)
    assert (problem["status"], problem["type"]) == (status, f"/problems/{name}")
    assert b"Connection: close" in received
    assert app.seen == []
    assert sum(stage.dispatcher.stats.refused.values()) == 1


def test_the_request_line_has_its_limit_before_it_ends() -> None:
    with staged(Recorder(), config(limit_request_line=100)) as stage:
        assert statuses_in(stage.exchange(b"GET /" + b"a" * 200, end=False)) == [414]
        assert statuses_in(stage.exchange(b"GET /" + b"a" * 200 + b" HTTP/1.1\r\n\r\n")) == [414]


def test_a_body_up_to_the_limit_is_taken(app: Recorder, stage: Stage) -> None:
    stage.exchange(b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000)
    stage.exchange(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n" + b"y" * 1000 + b"\r\n0\r\n\r\n")
    assert [body for _, body in app.seen] == [b"x" * 1000, b"y" * 1000]


def test_100_continue_is_sent_before_the_body_and_not_before_a_refusal(app: Recorder, stage: Stage) -> None:
    with stage.connect() as client:
        stage.say(client, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        stage.say(client, b"hello")
        assert statuses_in(client.recv(1000)) == [200]
    received = stage.exchange(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n", end=False
    )
    assert statuses_in(received) == [413]


@pytest.mark.parametrize(
    ("content", "keeps"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", False),
    ],
)
def test_connections_are_kept_as_asked(stage: Stage, content: bytes, keeps: bool) -> None:
    received = stage.exchange(content, end=False)
    assert (b"Connection: keep-alive\r\n" in received) is keeps
    assert received.startswith(content.split(b" ")[2].split(b"\r")[0])


def test_a_head_request_gets_no_body(app: Recorder, stage: Stage) -> None:
    received = stage.exchange(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
    first, _, rest = received.partition(b"\r\n\r\n")
    assert b"Content-Length: 2" in first
    assert rest.startswith(b"HTTP/1.1 200 OK")


def test_deadlines_of_head_body_and_silence() -> None:
    with staged(Recorder(), head_s=0.0, body_grace_s=0.0, silent_s=0.0) as stage:
        for content, said in ((b"GET / HT", [408]), (POST[:-1], [408]), (b"", [])):
            with stage.connect() as client:
                stage.say(client, content)
                stage.loop._next_sweep_s = 0.0
                stage.turn()
                assert statuses_in(client.recv(1000)) == said


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary files that accept only as much as their buffer holds."""
    full = lambda *args, **options: open("/dev/full", "w+b", buffering=1 << 16)  # noqa: E731, PTH123, SIM115
    monkeypatch.setattr(tempfile, "TemporaryFile", full)


@pytest.mark.parametrize("length", [100, 200_000], ids=["at its end", "in its middle"])
@pytest.mark.fault("S03")
def test_a_body_without_room_is_refused(app: Recorder, length: int, full_disk: None) -> None:
    with staged(app, spool_bytes=10) as stage:
        received = stage.exchange(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % length, b"x" * length)
        assert statuses_in(received) == [503]
        assert document(received)["detail"] == "the server has no room for the body"
        assert statuses_in(stage.exchange(GET)) == [200]
        assert stage.loop.connections == {}


@pytest.mark.fault("S03")
def test_a_body_without_room_for_its_rest_is_freed(app: Recorder, full_disk: None) -> None:
    with staged(app, spool_bytes=10, body_grace_s=0.0) as stage:
        begun = b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n" + b"x" * 50
        with stage.connect() as slow:
            stage.say(slow, begun)
            stage.loop._next_sweep_s = 0.0
            stage.turn()
            assert statuses_in(slow.recv(1000)) == [408]
        stage.turn()
        leaving = stage.connect()
        stage.say(leaving, begun)
        (connection,) = stage.loop.connections.values()
        connection.abort()
        leaving.close()
        assert stage.loop.connections == {}
        assert connection.sock.fileno() == -1


def test_the_deadline_of_a_body_grows_with_its_bytes() -> None:
    with staged(Recorder(), body_grace_s=1.0, body_floor_bytes_per_s=1000.0) as stage, stage.connect() as client:
        stage.say(client, b"POST / HTTP/1.1\r\nContent-Length: 5000\r\n\r\n")
        (connection,) = stage.loop.connections.values()
        connection.deadline_s = first_s = time.monotonic() + 0.5
        stage.say(client, b"x" * 100)
        assert connection.deadline_s == pytest.approx(first_s + 0.1)
        stage.say(client, b"x" * 4000)
        assert connection.deadline_s <= time.monotonic() + 1.0


def test_a_connection_is_closed_after_a_random_number_of_requests() -> None:
    with staged(Recorder(), connection_requests=10) as stage:
        received = stage.exchange(GET * 20)
        assert 8 <= len(statuses_in(received)) <= 10
        assert received.count(b"Connection: close") == 1


@pytest.mark.fault("N10")
def test_a_client_that_leaves_while_it_is_queued_is_dropped(app: Recorder, stage: Stage) -> None:
    app.inline = False
    stage.dispatcher.threads.queue.places = 0
    client = stage.connect()
    stage.say(client, GET)
    assert stage.dispatcher.threads.queue.waiting == 1
    client.close()
    stage.turn()
    assert (stage.dispatcher.stats.left, stage.dispatcher.stats.dropped, stage.dispatcher.threads.queue.waiting) == (
        1,
        1,
        0,
    )
    assert stage.loop.connections == {}
    assert app.seen == []


@pytest.mark.parametrize("others", [0, 2])
def test_a_client_that_leaves_as_its_answer_comes_takes_nothing_from_the_queue(others: int) -> None:
    may_run = threading.Semaphore(0)

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        assert may_run.acquire(timeout=60)
        start_response("200 OK", [])
        return [b"ready"]

    with staged(app) as stage:
        leaves, *stay = [stage.connect() for _ in range(1 + others)]
        for client in (leaves, *stay):
            stage.say(client, GET)
        may_run.release()
        while not stage.dispatcher.threads.pool._made:
            time.sleep(0.001)
        leaves.close()
        stage.dispatcher.threads.take(time.monotonic())  # before the loop has noticed that it left
        assert (stage.dispatcher.stats.left, stage.dispatcher.threads.queue.waiting) == (1, max(0, others - 1))
        for _ in stay:
            may_run.release()
        stage.until(lambda: not stage.dispatcher.stats.running())
        for client in stay:
            assert client.recv(1000).endswith(b"ready")
            client.close()
        stage.turn()
        assert stage.loop.connections == {}


def test_a_client_that_leaves_while_it_is_answered_takes_nothing_from_the_queue(app: Recorder, stage: Stage) -> None:
    app.inline = False
    client = stage.connect()
    stage.say(client, b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000)
    (connection,) = stage.loop.connections.values()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # so that the answer is not sent completely
    with contextlib.suppress(BlockingIOError):  # the server does not read more of them
        for _ in range(100):
            stage.say(client, b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000)
    stage.until(lambda: connection.unsent and not stage.dispatcher.stats.running())
    client.close()
    stage.turn()
    assert (stage.dispatcher.stats.left, stage.dispatcher.stats.dropped, stage.dispatcher.threads.queue.waiting) == (
        1,
        0,
        0,
    )
    assert statuses_in(stage.exchange(GET)) == [200]


def test_a_client_that_ends_its_side_with_its_request_is_answered(app: Recorder, stage: Stage) -> None:
    app.inline = False
    assert statuses_in(stage.exchange(GET)) == [200]


@pytest.mark.parametrize(("head", "statuses"), [(b"GET / HTTP/1.1\r\r\n", [400]), (b"GET / HTTP/1.1\r\nHo", [])])
def test_an_incomplete_head_is_judged_by_its_bytes_so_far(stage: Stage, head: bytes, statuses: list[int]) -> None:
    assert statuses_in(stage.exchange(head)) == statuses


def test_refusals_of_the_queue_keep_the_connection(app: Recorder) -> None:
    app.inline = False
    with staged(app, queue_max_wait_s=0.0) as stage, stage.connect() as client:
        stage.dispatcher.threads.queue.places = 0
        stage.say(client, GET.replace(b"\r\n\r\n", b"\r\nX-Request-ID: mine\r\n\r\n"))
        stage.turn()
        received = client.recv(10_000)
        assert statuses_in(received) == [503]
        assert b"Retry-After: 1\r\n" in received
        assert b"X-Request-ID: mine\r\n" in received
        assert b"Connection: keep-alive\r\n" in received
        assert document(received)["request_id"] == "mine"
        stage.dispatcher.threads.queue.places = 1
        stage.say(client, GET)
        stage.until(lambda: not stage.dispatcher.stats.running())
        assert statuses_in(client.recv(10_000)) == [200]


@pytest.mark.fault("P08")
def test_a_full_connection_table_closes_the_connection_idle_for_longest() -> None:
    with staged(Recorder(), config(worker_connections=2), evict_idle_s=0.0) as stage:
        first, second = stage.connect(), stage.connect()
        stage.say(first, GET)
        assert stage.loop._make_room(time.monotonic())
        second.setblocking(True)
        assert second.recv(10) == b""
        assert statuses_in(first.recv(1000)) == [200]
        assert stage.dispatcher.stats.evicted == 1
        first.close()
        second.close()


def asked(stage: Stage, address: str, says: bytes) -> socket.socket:
    client = stage.connect((address, 1))
    stage.say(client, says)
    return client


def test_a_full_connection_table_closes_the_slowest_of_the_client_that_sends_most() -> None:
    with staged(Recorder(), config(worker_connections=5), evict_idle_s=0.0) as stage, contextlib.ExitStack() as ends:
        other = ends.enter_context(asked(stage, "192.0.2.1", b"POST /"))
        slow = [ends.enter_context(asked(stage, "192.0.2.2", says)) for says in (b"POST / HT", b"P", b"POST")]
        fast = ends.enter_context(asked(stage, "192.0.2.2", b"POST / HTTP/1.1\r\nHost: a\r\n" + b"X-A: b\r\n" * 999))
        for one in stage.loop.connections.values():
            one.idle_since_s = 0.0
        for places, gone in ((5, slow[1]), (4, slow[2]), (3, slow[0])):
            stage.loop._most = places
            assert stage.loop._make_room(time.monotonic())
            assert statuses_in(gone.recv(10_000)) == [408]
            assert len(stage.loop.connections) == places - 1
        for client in (other, fast):
            with pytest.raises(BlockingIOError):
                client.recv(1)


def test_one_client_may_fill_half_of_all_places_with_requests_that_do_not_end() -> None:
    with staged(Recorder(), config(worker_connections=8)) as stage, contextlib.ExitStack() as ends:
        for _ in range(6):
            ends.enter_context(asked(stage, "192.0.2.2", b"POST / HT"))
        ends.enter_context(asked(stage, "192.0.2.1", b"POST / HT"))
        stage.loop._next_sweep_s = 0.0
        stage.turn()
        addresses = [one.client for one in stage.loop.connections.values()]
        assert addresses.count("192.0.2.2") == 4
        assert addresses.count("192.0.2.1") == 1
        assert stage.dispatcher.stats.evicted == 2


class Proxied(Recorder):
    """Distinguish clients by the proxy's field."""

    def client(self, environ: dict[str, Any]) -> str:
        name: str = environ["HTTP_X_FORWARDED_FOR"]
        return name


def body_of(client: bytes, sent: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: %b\r\nContent-Length: 9\r\n\r\n%b" % (client, sent)


def test_behind_a_proxy_a_client_is_the_one_that_it_names_while_its_body_is_received() -> None:
    with staged(Proxied(), config(worker_connections=8)) as stage, contextlib.ExitStack() as ends:
        slow = [ends.enter_context(asked(stage, "192.0.2.1", body_of(b"slow"))) for _ in range(6)]
        other = ends.enter_context(asked(stage, "192.0.2.1", body_of(b"other", b"x")))
        stage.loop._next_sweep_s = 0.0
        stage.turn()
        names = [one.client for one in stage.loop.connections.values() if one.state is BODY]
        assert (names.count("slow"), names.count("other")) == (4, 1)
        assert [statuses_in(one.recv(10_000)) for one in slow[:2]] == [[408], [408]]
        stage.say(other, b"x" * 8)
        assert statuses_in(other.recv(10_000)) == [200]


def test_the_room_for_bodies_is_that_of_the_client_that_a_proxy_names() -> None:
    rooms = {"spool_bytes": 1, "bodies_in_memory_bytes": 1, "bodies_in_files_bytes": 24, "body_bytes": 9}
    with staged(Proxied(), **rooms) as stage, contextlib.ExitStack() as ends:
        slow = [ends.enter_context(asked(stage, "192.0.2.1", body_of(b"slow", b"x" * 8))) for _ in range(2)]
        other = ends.enter_context(asked(stage, "192.0.2.1", body_of(b"other", b"x" * 9)))
        assert statuses_in(slow[1].recv(10_000)) == [429]
        stage.until(lambda: stage.dispatcher.stats.answered == 1)
        assert statuses_in(other.recv(10_000)) == [200]


def test_an_application_that_cannot_name_a_client_does_not_stop_the_request(caplog: pytest.LogCaptureFixture) -> None:
    class Unnaming(Recorder):
        def client_of(self, environ: dict[str, Any]) -> str:
            raise KeyError("HTTP_X_FORWARDED_FOR")

    with staged(Unnaming()) as stage, asked(stage, "192.0.2.1", body_of(b"any")) as client:
        (connection,) = stage.loop.connections.values()
        assert connection.client == "192.0.2.1"
        stage.say(client, b"x" * 9)
        assert statuses_in(client.recv(10_000)) == [200]
    assert "client_of() or refuse_by_head() failed" in caplog.text


class Guarded(Recorder):
    """Read bodies only of requests with a key."""

    def refuse_by_head(self, environ: dict[str, Any]) -> Response | None:
        return (
            None if "HTTP_X_API_KEY" in environ else Response(401, [("WWW-Authenticate", "Bearer")], b"a key, please")
        )


LONG = b"POST /jobs HTTP/1.1\r\nHost: a\r\n%bContent-Length: 1000000\r\n\r\n"
CHUNKED = b"POST /predict HTTP/1.1\r\nHost: a\r\n%bTransfer-Encoding: chunked\r\n\r\nf4240\r\n"


@pytest.mark.parametrize("head", [LONG, CHUNKED], ids=["length", "chunks"])
@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"], ids=["sent", "expected"])
def test_a_request_that_is_refused_by_its_head_sends_no_body(head: bytes, expect: bytes) -> None:
    with staged(Guarded(), spool_bytes=1) as stage, stage.connect() as client:
        stage.say(client, head % expect + (b"" if expect else b"x" * 50_000))
        answer = client.recv(10_000)
        assert statuses_in(answer) == [401]
        assert answer.endswith(b"a key, please")
        assert b"Connection: close" in answer
        (connection,) = stage.loop.connections.values()
        assert connection.state is LINGERING
        assert (stage.loop._shared.store.held_bytes, stage.loop._shared.store.spooled_bytes) == (0, 0)
        assert stage.dispatcher.stats.refused == {"by_head": 1}
    with staged(Guarded()) as stage, stage.connect() as client:
        stage.say(client, head % (b"X-API-Key: k\r\n" + expect) + b"x" * 5_000)
        (connection,) = stage.loop.connections.values()
        assert connection.state is BODY


def test_a_short_body_is_read_before_its_request_is_refused_so_that_the_connection_stays() -> None:
    with staged(Guarded()) as stage, stage.connect() as client:
        stage.say(client, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SHORT_BODY_BYTES)
        (connection,) = stage.loop.connections.values()
        assert connection.state is BODY


class Streaming:
    """Answer with parts and no length."""

    def __init__(self, parts: int, size_bytes: int) -> None:
        self.parts, self.size_bytes = parts, size_bytes
        self.made = 0
        self.closed = False

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Streaming:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return self

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(self.parts):
            self.made += 1
            yield b"x" * self.size_bytes

    def close(self) -> None:
        self.closed = True


def test_a_stream_waits_for_its_reader_and_ends_with_it() -> None:
    app = Streaming(1000, 10_000)
    with staged(app, answer_buffer_bytes=50_000) as stage:
        client = stage.connect()
        stage.say(client, GET)
        deadline_s = time.monotonic() + 5.0
        while time.monotonic() < deadline_s and app.made < 20:
            stage.turn()
        time.sleep(0.05)
        stage.turn()
        assert app.made < 200  # the size of the kernel's and of our buffer
        client.close()
        stage.until(lambda: app.closed or bool(time.sleep(0.01)))
        stage.until(lambda: not stage.dispatcher.stats.running())
        assert stage.dispatcher.stats.left == 1


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_stream_arrives_whole(version: bytes) -> None:
    app = Streaming(100, 1000)
    with staged(app) as stage:
        received = stage.exchange(GET.replace(b"1.1", version))
    head, _, body = received.partition(b"\r\n\r\n")
    if version == b"1.0":
        assert body == b"x" * 100_000
        assert b"Transfer-Encoding" not in head
    else:
        assert body == (b"3E8\r\n" + b"x" * 1000 + b"\r\n") * 100 + b"0\r\n\r\n"
    assert app.closed


@pytest.mark.slow
@settings(max_examples=150)
@given(st.lists(requests(), min_size=1, max_size=3), st.data())
def test_any_mixture_in_any_pieces_gets_gunicorns_verdict(written: list[bytes], choice: Any) -> None:
    content = b"".join(written)
    cuts = sorted(choice.draw(st.lists(st.integers(0, len(content)), max_size=6)))
    parts = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    verdict = gunicorn_verdict(config(), content)
    app = Recorder()
    with staged(app) as stage:
        received = stage.exchange(*[part for part in parts if part])
    assert [plain(*one) for one in app.seen] == [plain(*one) for one in verdict.requests]
    assert [body for _, body in app.seen] == [body for _, body in verdict.requests]
    statuses = statuses_in(received.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b""))
    assert statuses[: len(app.seen)] == [200] * len(app.seen)
    refused = statuses[len(app.seen) :]
    if verdict.refusal is None:
        assert refused in ([], [400])
    else:
        assert refused == [verdict.refusal]


def test_a_reset_in_the_middle_of_anything_leaves_nothing(stage: Stage) -> None:
    for content in (b"", b"GET", GET, POST[:-2], CHUNKED[:-9]):
        client = stage.connect()
        stage.say(client, content)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        stage.turn()
        stage.turn()
        assert stage.loop.connections == {}
    assert stage.loop.store.held_bytes == 0


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [("/jobs", 2000, 200), ("/jobs/", 2000, 200), ("/jobs", 2001, 413), ("/predict", 1001, 413)],
)
@pytest.mark.parametrize("is_chunked", [False, True])
def test_bodies_for_the_path_of_uploads_have_a_limit_of_their_own(
    path: str, length: int, status: int, is_chunked: bool
) -> None:
    framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {length}"
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (length, b"x" * length) if is_chunked else b"x" * length
    limits = {"body_bytes": 1000, "upload_bytes": 2000, "upload_path": "/jobs"}
    with staged(Recorder(), **limits) as stage, stage.connect() as client:
        stage.say(client, f"POST {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode() + body)
        if status == 200:
            stage.until(lambda: stage.dispatcher.stats.answered == 1)
        assert statuses_in(client.recv(10_000)) == [status]
