"""Limits of clients: counts, refusals and header fields."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.gateway.context import Match, RequestContext, context_in
from app.gateway.credentials import Principal
from app.gateway.gateway import Gateway
from app.gateway.interceptors import Interceptor
from app.gateway.limits import client_limits, network
from app.server.contract import Environ, Refusal, Response
from app.settings import Settings
from app.telemetry.metrics import SharedMetrics
from tests.gateway.fakes import Client, FakeRoute, FakeRouter, environ, gateway
from tests.gateway.test_limit_storage import at_the_beginning_of_a_window

ALICE, BOB = "192.0.2.1", "192.0.2.2"


class KnownKeys(Interceptor):
    """Use the header `X-API-Key` as the id of the caller."""

    may_block = False

    def before(self, context: RequestContext) -> None:
        if sent := context.environ.get("HTTP_X_API_KEY"):
            context.principal = Principal(sent, "a caller", frozenset({"predict"}))


class Router(FakeRouter):
    """Match `/livez` too, which is a probe."""

    def match(self, environ: Environ) -> Match:
        return Match(is_limited=False) if environ["PATH_INFO"] == "/livez" else super().match(environ)


def rows_from_header(context: RequestContext) -> Response:
    context.rows = int(context.environ.get("HTTP_X_ROWS", "1"))
    return Response(200, [], b"ok")


def alive(environ: Environ, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"alive"]


class Stage:
    """A gateway with limits, without a server."""

    def __init__(self, **limits: str) -> None:
        self.metrics = SharedMetrics()
        self.interceptor = client_limits(Settings(**limits), self.metrics)
        self.storage = self.interceptor.storage
        for expiry in (60, 3600):
            at_the_beginning_of_a_window(self.storage, expiry)
        self.gateway: Gateway = gateway(KnownKeys(), self.interceptor, router=Router(FakeRoute(rows_from_header)))
        self.gateway.serve(alive)

    def ask(self, client: str = ALICE, key: str = "", rows: int = 1, path: str = "/predict") -> Client:
        sent = {"REMOTE_ADDR": client, "HTTP_X_ROWS": str(rows)} | ({"HTTP_X_API_KEY": key} if key else {})
        return Client(self.gateway, environ(path, **sent))

    def statuses(self, count: int, client: str = ALICE, key: str = "", rows: int = 1) -> list[int]:
        return [int(self.ask(client, key, rows).statuses[0][:3]) for _ in range(count)]


def left(client: Client) -> str:
    return client.headers["RateLimit"]


def test_a_client_may_send_as_many_requests_as_the_limit_says() -> None:
    stage = Stage(limit_requests="3/minute")
    assert stage.statuses(5) == [200, 200, 200, 429, 429]
    assert stage.statuses(4, client=BOB) == [200, 200, 200, 429]


def test_a_refusal_names_the_limit_and_when_to_try_again() -> None:
    stage = Stage(limit_requests="1/minute")
    stage.ask()
    refused = stage.ask()
    document = json.loads(refused.body())
    assert refused.headers["Retry-After"] == "60"
    assert document["type"] == "/problems/rate-limited"
    assert document["detail"] == "this address has used up its limit of 1 request per minute; try again in 60 s"
    assert left(refused) == '"requests per minute";r=0;t=60'
    assert refused.headers["RateLimit-Policy"] == '"requests per minute";q=1;w=60'
    by_key = [stage.ask(key="k1") for _ in range(2)][-1]
    assert json.loads(by_key.body())["detail"].startswith("this key has")


@pytest.mark.parametrize("limit", ["1/minute", "2/minute", "7/minute", "3/hour"])
def test_after_the_time_in_retry_after_a_request_passes(limit: str) -> None:
    stage = Stage(limit_requests=limit)
    while (refused := stage.ask()).statuses[0].startswith("200"):
        pass
    wait_s = int(refused.headers["Retry-After"])
    stage.storage.ahead_s += wait_s - 2
    assert stage.statuses(1) == [429]
    stage.storage.ahead_s += 2
    assert stage.statuses(1) == [200]


def test_every_answer_has_the_remaining_requests_and_rows() -> None:
    stage = Stage(limit_requests="3/minute;100 per 2 hours", limit_rows="10/minute")
    first, second = stage.ask(rows=4), stage.ask(rows=1)
    assert first.headers["RateLimit-Policy"] == (
        '"rows per minute";q=10;qu="rows";w=60, "requests per minute";q=3;w=60, "requests per 2 hours";q=100;w=7200'
    )
    assert left(first).startswith('"rows per minute";r=6;t=60, "requests per minute";r=2;t=60, "requests per 2 hours";')
    assert '"rows per minute";r=5;t=60, "requests per minute";r=1' in left(second)
    assert "Retry-After" not in second.headers


def test_a_client_that_has_used_up_its_rows_is_refused_at_its_next_request() -> None:
    stage = Stage(limit_rows="10/minute")
    assert stage.statuses(3, rows=5) == [200, 200, 429]
    assert stage.statuses(2, client=BOB, rows=25) == [200, 429]  # a request is not refused for its own rows
    assert left(stage.ask("192.0.2.3", rows=25)).startswith('"rows per minute";r=0')
    stage.storage.ahead_s += 60 + 25
    assert stage.statuses(1, client=BOB) == [429]  # the debt counts in the next window as well
    stage.storage.ahead_s += 12
    assert stage.statuses(1, client=BOB) == [200]


def test_refused_requests_count_for_nothing() -> None:
    stage = Stage(limit_requests="2/minute;10/hour", limit_rows="100/minute")
    assert stage.statuses(50).count(200) == 2
    assert '"requests per hour";r=8' in left(stage.ask())
    stage.storage.ahead_s += 3 * 60
    assert stage.statuses(50, rows=100) == [200] + [429] * 49  # no rows are left
    assert '"requests per hour";r=7' in left(stage.ask())


def test_the_holder_of_a_key_is_one_client_at_all_addresses() -> None:
    stage = Stage(limit_requests="2/minute")
    assert [stage.ask(client, "k1").statuses[0][:3] for client in (ALICE, BOB, ALICE)] == ["200", "200", "429"]
    assert stage.statuses(3, key="k2") == [200, 200, 429]
    assert stage.statuses(3) == [200, 200, 429]  # the address itself
    assert stage.statuses(1, key=ALICE) == [200]  # a key whose id is an address


def test_an_address_may_have_a_limit_for_all_its_keys_together() -> None:
    stage = Stage(limit_requests="2/minute", limit_address_requests="3/minute", limit_address_rows="100/minute")
    assert stage.statuses(3, key="k1") == [200, 200, 429]
    assert stage.statuses(3, key="k2") == [200, 429, 429]
    refused = stage.ask(key="k2")
    assert "this address has used up its limit of 3 requests per minute" in json.loads(refused.body())["detail"]
    assert '"requests per minute";r=1;t=60' in left(refused)
    assert '"requests per minute and address";r=0;t=60' in left(refused)
    assert stage.statuses(1, client=BOB, key="k2") == [200]
    assert Stage(limit_address_rows="10/minute").statuses(2, rows=10) == [200, 429]


def test_probes_are_never_limited() -> None:
    stage = Stage(limit_requests="1/minute")
    asked = [stage.ask(path="/livez") for _ in range(5)]
    assert {client.statuses[0] for client in asked} == {"200 OK"}
    assert all("RateLimit" not in client.headers for client in asked)
    assert stage.statuses(2) == [200, 429]


def test_a_request_that_a_middleware_moves_counts_once() -> None:
    stage = Stage(limit_requests="4/minute")

    def moving(environ: Environ, start_response: Any) -> Any:
        environ["PATH_INFO"] = "/predict" if environ["PATH_INFO"] == "/livez" else "/elsewhere"
        return stage.gateway.around(environ, start_response, alive)

    stage.gateway.serve(moving)
    for _ in range(2):
        stage.ask(path="/livez")
        stage.ask(path="/other")
    assert stage.ask(path="/livez").statuses == ["429 Too Many Requests"]


def test_an_unknown_path_counts_as_a_request() -> None:
    stage = Stage(limit_requests="1/minute")
    assert stage.ask(path="/other").statuses == ["200 OK"]
    assert stage.ask(path="/other").statuses == ["429 Too Many Requests"]


def test_rows_of_a_stream_are_charged_at_its_end() -> None:
    stage = Stage(limit_rows="10/minute")

    def streamed(context: RequestContext) -> Response:
        def end() -> None:
            context.rows = 30

        context.at_end(end)
        return Response(200, [], iter([b"a", b"b"]))

    stage.gateway._router.route.answer = streamed
    stream = stage.ask()
    assert stage.ask(client=BOB).statuses == ["200 OK"]
    assert left(stage.ask()).startswith('"rows per minute";r=10')
    assert stream.body() == b"ab"
    assert stage.statuses(1) == [429]


def test_rows_of_a_prediction_through_flask_are_charged_once() -> None:
    stage = Stage(limit_rows="10/minute")

    def predicts(environ: Environ, start_response: Any) -> list[bytes]:
        context = context_in(environ)
        assert context is not None
        context.rows = 4
        start_response("200 OK", [])
        return [b"ok"]

    stage.gateway.serve(predicts)
    assert [left(stage.ask(path="/other")) for _ in range(2)] == [f'"rows per minute";r={rest};t=60' for rest in (6, 2)]


def test_a_refusal_of_the_server_itself_counts_nothing() -> None:
    stage = Stage(limit_requests="2/minute")
    request = stage.gateway.admit(environ("/predict"))
    response = stage.gateway.refuse(request.environ, request, Refusal(503, "queue-full", "full"))
    assert "RateLimit" not in dict(response.headers)
    assert stage.statuses(3) == [200, 200, 429]


def test_refusals_are_counted_by_unit() -> None:
    stage = Stage(limit_requests="1/minute", limit_rows="5/minute")
    stage.statuses(3)
    stage.statuses(2, client=BOB, rows=5)
    assert stage.metrics.samples()["retort_requests_limited"] == {("requests",): (2.0,), ("rows",): (1.0,)}


def test_a_storage_may_be_shared_after_the_interceptor_was_made() -> None:
    stage = Stage(limit_requests="1/minute")
    stage.metrics.share(2)
    stage.metrics.begin(1)
    assert stage.statuses(2) == [200, 429]


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix:something", "unix:something"),
    ],
)
def test_an_ipv6_client_is_the_network_of_its_address(address: str, client: str) -> None:
    assert network(address) == client


def test_ipv6_addresses_of_one_network_share_a_limit() -> None:
    stage = Stage(limit_requests="2/minute")
    addresses = ("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1")
    assert [stage.ask(address).statuses[0][:3] for address in addresses] == ["200", "200", "429", "200"]
