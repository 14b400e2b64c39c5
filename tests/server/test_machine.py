"""Tests of several clients of one worker in random order: each gets its own answers, in order.

They send ordinary, odd or wrong requests in any pieces, pipelined. They end early, read late or not at all, and some
answers are slow, long or streamed. Gunicorn's own parser gives the expected requests: each is run once and answered
once, and each invalid one is refused once. `DRAWS=5000 pytest tests/server/test_machine.py` is the long form.
"""

from __future__ import annotations

import bisect
import contextlib
import json
import os
import socket
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from app.server.limits import Limits
from tests.server.echoes import HANGS_AFTER_S, Client, Echo, echo
from tests.server.mixtures import mutated, numbered, ordinary, requests
from tests.server.reference import gunicorn_verdict
from tests.server.responses import answers_in
from tests.server.stage import NEVER_S, Stage, config

DRAWS = int(os.environ.get("DRAWS", "60"))
CLIENTS = 4
SETTLE_TURNS = 12
LIMITS = Limits(
    body_bytes=100_000,
    answer_buffer_bytes=50_000,
    queue_requests=1,
    **dict.fromkeys(("silent_s", "head_s", "body_grace_s", "answer_grace_s", "linger_s"), NEVER_S),
    **dict.fromkeys(("queue_max_wait_s", "request_timeout_s"), NEVER_S),
)


class Worker(RuleBasedStateMachine):
    """One worker's loop, and up to four clients at a time. Clients that ended are judged at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.clients: list[Client] = []
        self.done: list[Client] = []
        self.left: list[Client] = []
        self.number = 0

    @initialize()
    def start(self) -> None:
        self.app = Echo()
        self.cfg = config(threads=2)
        self.stage = Stage(self.app, self.cfg, LIMITS)
        self.broken: list[object] = []
        self.stage.dispatcher.close_broken = self.broken.append  # type: ignore[method-assign]
        self.connect()

    def connect(self) -> Client:
        port = 1000 + len(self.clients) + len(self.done) + len(self.left)
        self.clients.append(Client(self.stage.connect(("127.0.0.1", port)), port))
        return self.clients[-1]

    def client(self, which: int) -> Client:
        return self.clients[which] if which < len(self.clients) else self.connect()

    def connection(self, client: Client) -> Any:
        found = self.stage.loop.connections.values()
        return next((one for one in found if one.peer.client[1] == client.port), None)

    def settle(self) -> None:
        """Turn until only held requests, or answers that wait for their reader, are left."""
        for _ in range(SETTLE_TURNS):
            self.stage.turn()
            if not self.stage.loop.ready and self.stage.dispatcher.stats.running() <= self.app.holding:
                return
            time.sleep(0.0003)

    which = st.integers(0, CLIENTS - 1)

    @rule(which=which, written=st.lists(ordinary() | ordinary() | mutated() | requests(), min_size=1, max_size=4))
    def means_to_send(self, which: int, written: list[bytes]) -> None:
        client = self.client(which)
        for content in written:
            self.number += 1
            client.pending += numbered(content, self.number)

    @rule(which=which, size=st.integers(1, 120) | st.just(1 << 20))
    def sends(self, which: int, size: int) -> None:
        self.client(which).deliver(size)
        self.settle()

    @rule(which=which, size=st.integers(1, 300))
    def sends_byte_by_byte(self, which: int, size: int) -> None:
        client = self.client(which)
        for _ in range(min(size, len(client.pending))):
            client.deliver(1)
            self.stage.turn()

    @rule(which=which)
    def reads(self, which: int) -> None:
        client = self.client(which)
        client.read()
        self.settle()
        self.judge(client, at_the_end=False)

    @rule()
    def slow_answers_are_ready(self) -> None:
        self.app.release()
        self.settle()

    @rule(which=which)
    def ends(self, which: int) -> None:
        self.settle()
        client = self.client(which)
        self.end(client)
        self.clients.remove(client)
        self.done.append(client)
        self.settle()

    def end(self, client: Client) -> None:
        connection = self.connection(client)
        if connection is not None and connection.pending is not None and connection.pending.is_queued:
            client.may_be_cut = True  # a client that ends while its request is queued has left
        client.ended = True
        with contextlib.suppress(OSError):
            client.sock.shutdown(socket.SHUT_WR)

    @rule(which=which)
    def leaves(self, which: int) -> None:
        client = self.client(which)
        client.sock.close()
        self.clients.remove(client)
        self.left.append(client)
        self.settle()

    @rule(which=which)
    def runs_out_of_time(self, which: int) -> None:
        client = self.client(which)
        connection = self.connection(client)
        if connection is not None and connection.deadline_s < float("inf"):
            client.may_be_cut = True
            connection.deadline_s = self.stage.loop._next_sweep_s = 0.0
        self.settle()

    def judge(self, client: Client, at_the_end: bool) -> None:
        """Compare the answers of a client with Gunicorn's parser for its bytes."""
        verdict = gunicorn_verdict(self.cfg, client.sent)
        requests, refusal = verdict.requests, verdict.refusal
        for number, (environ, _) in enumerate(requests):
            if (environ["PATH_INFO"], environ["SERVER_PROTOCOL"]) == ("/stream", "HTTP/1.0"):
                requests, refusal = requests[: number + 1], None  # only the end of the connection ends this answer
                break
        expected = [echo(*request) for request in requests]
        methods = [environ["REQUEST_METHOD"] for environ, _ in requests]
        said = answers_in(client.told, methods, client.told_all)
        answered, refused = said[: len(expected)], said[len(expected) :]
        ran = list(self.app.run.get(str(client.port), []))
        assert ran == expected[: len(ran)] or any(one.status == 503 for one in answered)
        for number, (answer, body) in enumerate(zip(answered, expected, strict=False)):
            is_cut = number == len(said) - 1 and (not answer.whole or client.may_be_cut)
            if is_cut and answer.status in (0, 200):
                assert not at_the_end or client.may_be_cut, answer
                assert body.startswith(answer.body)
            elif answer.status == 200:
                assert answer.body == (b"" if methods[number] == "HEAD" else body)
                assert body in ran
                ran.remove(body)
            elif answer.status == 503:
                assert methods[number] == "HEAD" or json.loads(answer.body)["type"] == "/problems/queue-full"
            else:
                assert (client.may_be_cut, answer.status, number) == (True, 408, len(said) - 1)
        assert len(refused) <= 1
        assert all(400 <= one.status <= 501 or not one.whole for one in refused), refused
        if at_the_end and not client.may_be_cut:
            assert len(answered) == len(expected)
            assert not ran, "it was run, and not answered"
            statuses = [one.status for one in refused]
            if statuses:
                # An incomplete request is 400, and one that declares too much 413, even if other parts are wrong, too.
                assert statuses[0] in (refusal, 400, 413)
            else:
                assert refusal is None or self.ended_in_a_head(client.sent, len(expected))

    def ended_in_a_head(self, sent: bytes, accepted: int) -> bool:
        """Return whether the client ended within a head after these requests: its refusal may come early or never."""

        def whole(size: int) -> int:
            return len(gunicorn_verdict(self.cfg, sent[:size]).requests)

        return b"\r\n\r\n" not in sent[bisect.bisect_left(range(len(sent)), accepted, key=whole) :]

    def teardown(self) -> None:
        if not hasattr(self, "stage"):
            return
        try:
            self.finish()
        finally:
            self.app.release(for_ever=True)
            for client in (*self.clients, *self.done):
                client.sock.close()
            self.stage.close()

    def finish(self) -> None:
        """End all clients; all due answers arrive, and nothing is left."""
        self.app.release(for_ever=True)
        self.settle()
        for client in self.clients:
            self.end(client)
        everybody = [*self.clients, *self.done]
        until_s = time.monotonic() + HANGS_AFTER_S
        while not all(client.told_all for client in everybody) or self.stage.loop.connections:
            assert time.monotonic() < until_s, "somebody waits for ever"
            self.settle()
            for client in everybody:
                client.read()
        self.stage.until(lambda: not self.stage.dispatcher.stats.running() or bool(time.sleep(0.001)))
        for client in everybody:
            self.judge(client, at_the_end=True)
        assert not self.broken
        assert self.stage.loop.store.held_bytes == self.stage.dispatcher.threads.queue.waiting == 0


TestWorker = pytest.mark.slow(Worker.TestCase)
TestWorker.settings = settings(
    max_examples=DRAWS, stateful_step_count=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
