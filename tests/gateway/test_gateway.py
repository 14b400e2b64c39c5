"""Tests that every request passes the interceptors once, however it is answered."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from app.gateway import Interceptor, RequestContext, RequestRefused, Response
from app.gateway.context import Access, context_in
from app.server.contract import Refusal
from app.telemetry import NO_REQUEST, request_id
from tests.gateway.fakes import Client, FakeRoute, FakeRouter, Recorder, environ, gateway

QUEUE_FULL = Refusal(503, "queue-full", "the server is busy")


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def streaming(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [])
    return iter([b"a", b"b"])


def lazy(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [])
    yield b"a"


def writing(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])(b"written")
    return []


def failing(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    raise ZeroDivisionError


def failing_late(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [])
    raise ZeroDivisionError


def failing_before_it_starts(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    raise ZeroDivisionError
    yield b""


def starting_again(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        start_response("500 INTERNAL SERVER ERROR", [], sys.exc_info())
    return [b"failed"]


@pytest.mark.parametrize(
    ("application", "body", "status"),
    [
        (hello, b"hello", 200),
        (streaming, b"ab", 200),
        (lazy, b"a", 200),
        (writing, b"written", 200),
        (starting_again, b"failed", 200),
    ],
)
def test_a_request_through_wsgi_is_seen_once_and_ends_once(application: Any, body: bytes, status: int) -> None:
    recorder, ends = Recorder(), []
    served = gateway(recorder).serve(application)
    context = served.admit(environ("/other"))
    context.at_end(lambda: ends.append(1))
    client = Client(served, context.environ)
    assert client.body() == body
    assert (len(recorder.before_calls), recorder.after_calls, ends) == (1, [status], [1])
    assert "X-Seen" in client.headers


def test_a_second_status_is_the_one_of_the_request() -> None:
    served = gateway(Recorder()).serve(starting_again)
    context = served.admit(environ("/other"))
    client = Client(served, context.environ)
    assert client.statuses == ["200 OK", "500 INTERNAL SERVER ERROR"]
    assert (context.status, client.headers["X-Seen"]) == (500, "1")


@pytest.mark.parametrize("application", [failing, failing_late, failing_before_it_starts])
def test_an_application_that_fails_is_seen_once_and_the_server_gets_its_error(application: Any) -> None:
    recorder, ends = Recorder(), []
    served = gateway(recorder).serve(application)
    context = served.admit(environ("/other"))
    context.at_end(lambda: ends.append(1))
    with pytest.raises(ZeroDivisionError):
        Client(served, context.environ).body()
    assert recorder.after_calls == [200 if application is failing_late else 500]
    assert ends == [1]
    assert not context.is_running


def test_the_answer_to_a_failure_of_the_application_has_the_header_fields_of_every_answer() -> None:
    served = gateway(Recorder()).serve(failing)
    context = served.admit(environ("/other"))
    with pytest.raises(ZeroDivisionError):
        served(context.environ, None)
    assert ("X-Seen", "1") in served.refuse(context.environ, context, QUEUE_FULL).headers


def test_a_client_that_leaves_ends_a_stream_once() -> None:
    ends: list[int] = []

    def stream(context: RequestContext) -> Response:
        context.at_end(lambda: ends.append(1))
        return Response(200, [], iter([b"a", b"b"]))

    recorder = Recorder()
    served = gateway(recorder, router=FakeRouter(FakeRoute(stream)))
    [response] = served.respond([served.admit(environ())]) or []
    assert next(iter(response.body)) == b"a"
    assert ends == []
    response.body.close()  # type: ignore[union-attr]
    response.body.close()  # type: ignore[union-attr]
    assert (ends, recorder.after_calls) == ([1], [200])


def test_the_parts_of_a_stream_are_made_under_its_request() -> None:
    def parts() -> Iterator[bytes]:
        yield request_id().encode()

    served = gateway(router=FakeRouter(FakeRoute(lambda context: Response(200, [], parts()))))
    client = Client(served.serve(hello), environ(HTTP_X_REQUEST_ID="abc"))
    assert request_id() == NO_REQUEST
    assert client.body() == b"abc"


class Answering(Interceptor):
    def __init__(self, answer: Callable[[], Any]) -> None:
        self.answer = answer
        self.ends: list[int] = []

    def before(self, context: RequestContext) -> Any:
        context.at_end(lambda: self.ends.append(1))
        return self.answer()


def refusing() -> None:
    raise RequestRefused(403, "no-tenant", "the header X-Tenant is missing")


def dividing() -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("path", ["/predict", "/other"])
@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (lambda: Response(401, [], b"who?"), 401, b"who?"),
        (lambda: Response(200, [], iter([b"a", b"b"])), 200, b"ab"),
        (refusing, 403, b"X-Tenant"),
        (dividing, 500, b"internal-error"),
        (lambda: ("no", 401), 500, b"internal-error"),
        (lambda: Response(204, [], b""), 204, b""),
    ],
)
def test_an_interceptor_answers_instead_and_the_answer_is_seen(
    path: str, answer: Any, status: int, body: bytes
) -> None:
    recorder, answering = Recorder(), Answering(answer)
    served = gateway(recorder, answering, router=FakeRouter(FakeRoute(lambda _: pytest.fail("it was run"))))
    client = Client(served.serve(failing), environ(path))
    assert body in client.body()
    assert client.statuses[0].startswith(str(status))
    assert ("Content-Length" in client.headers) is (status not in (204, 200))
    assert (recorder.after_calls, answering.ends) == ([status], [1])


def test_a_refusal_of_one_request_leaves_its_neighbours_alone() -> None:
    class RefuseOne(Interceptor):
        may_block = False

        def before(self, context: RequestContext) -> None:
            if context.id == "bad":
                raise RequestRefused(403, "bad", "bad")

    served = gateway(RefuseOne())
    contexts = [served.admit(environ(HTTP_X_REQUEST_ID=each)) for each in ("a", "bad", "b")]
    assert [response.status for response in served.respond(contexts) or []] == [200, 403, 200]


def test_a_route_that_fails_is_an_answer_for_each_request() -> None:
    def fail(context: RequestContext) -> Response:
        raise ZeroDivisionError

    recorder = Recorder()
    served = gateway(recorder, router=FakeRouter(FakeRoute(fail)))
    answers = served.respond([served.admit(environ()), served.admit(environ())]) or []
    assert [response.status for response in answers] == recorder.after_calls == [500, 500]


def test_head_has_the_header_fields_and_no_body() -> None:
    served = gateway(Answering(lambda: Response(200, [], b"body"))).serve(hello)
    client = Client(served, environ("/other", "HEAD"))
    assert (client.body(), client.headers["Content-Length"]) == (b"", "4")


def test_an_interceptor_that_may_block_keeps_requests_off_the_loop() -> None:
    assert gateway(Recorder()).admit(environ()).runs_inline
    context = gateway(Recorder(may_block=True)).admit(environ())
    assert not context.runs_inline
    assert not context.through_wsgi
    assert context.batch_key is not None


def test_a_hook_that_appears_sends_requests_through_wsgi_and_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "app.gateway.gateway")
    router, recorder = FakeRouter(), Recorder()
    served = gateway(recorder, router=router).serve(hello)
    context = served.admit(environ())
    router.direct = False
    assert served.respond([context]) is None
    assert recorder.before_calls == []
    assert Client(served, context.environ).body() == b"hello"
    assert (len(recorder.before_calls), recorder.after_calls) == (1, [200])
    assert served.admit(environ()).through_wsgi
    router.direct = True
    served.observe()
    assert not served.admit(environ()).through_wsgi
    through_flask, without_flask = caplog.messages
    assert through_flask.endswith("because of: a hook")
    assert "without Flask" in without_flask


class AwaitedRoute(FakeRoute):
    """Answer on the event loop."""

    def plan(self, context: RequestContext) -> None:
        context.awaited = self

    async def respond_async(self, context: RequestContext) -> Response:
        return Response(200, [], b"ok")


def test_a_hook_that_appears_sends_awaited_requests_through_wsgi_from_the_next_turn_on() -> None:
    router, recorder = FakeRouter(AwaitedRoute()), Recorder()
    served = gateway(recorder, router=router)
    contexts = [served.admit(environ()) for _ in range(2)]

    async def one_before_and_one_after() -> None:
        first = await served.respond_async(contexts[0])
        assert first is not None
        assert (first.status, recorder.after_calls) == (200, [200])
        router.direct = False
        await asyncio.sleep(0)
        assert await served.respond_async(contexts[1]) is None

    asyncio.run(one_before_and_one_after())
    assert [context.through_wsgi for context in contexts] == [False, True]
    assert context_in(contexts[1].environ) is contexts[1]
    assert len(recorder.before_calls) == 1


def test_an_awaited_request_that_leads_elsewhere_meanwhile_goes_through_wsgi() -> None:
    router, recorder = FakeRouter(AwaitedRoute()), Recorder()
    served = gateway(recorder, router=router)
    context = served.admit(environ())
    router.route = AwaitedRoute()
    assert asyncio.run(served.respond_async(context)) is None
    assert context.through_wsgi
    assert recorder.before_calls == []


def test_a_wrapper_around_the_application_sends_requests_through_wsgi() -> None:
    served = gateway().serve(hello, wrapped_by="Auth")
    served.started(dict)
    assert served.admit(environ()).through_wsgi


def test_a_late_answer_is_not_intercepted_again_and_has_the_same_header_fields() -> None:
    recorder, ends = Recorder(), []
    served = gateway(recorder)
    context = served.admit(environ())
    assert served.refuse(context.environ, context, Refusal(504, "deadline-exceeded", "too late")).status == 504
    context.at_end(lambda: ends.append(1))
    [late] = served.respond([context]) or []
    assert (recorder.after_calls, context.status, late.headers) == ([504], 504, [("X-Seen", "1")])
    assert ends == [1]


@pytest.mark.parametrize("known", [{"REQUEST_METHOD": "POST", "PATH_INFO": "/predict"}, {}])
def test_a_refusal_before_the_request_is_whole_is_seen(known: dict[str, Any]) -> None:
    recorder = Recorder()
    response = gateway(recorder).refuse(known, None, Refusal(413, "body-too-large", "too long", {"Retry-After": "1"}))
    assert response.status == 413
    assert {"X-Seen": "1", "Retry-After": "1"}.items() <= dict(response.headers).items()
    assert recorder.after_calls == [413]


def test_an_environ_that_is_used_again_is_another_request() -> None:
    recorder = Recorder()
    served = gateway(recorder).serve(streaming)
    request = environ("/other")
    first = Client(served, request)
    second = Client(served, request)  # while the first is still being sent
    assert first.body() == second.body() == b"ab"
    assert len(recorder.before_calls) == 2
    assert Client(served, request).body() == b"ab"
    assert recorder.after_calls == [200, 200, 200]


def test_a_copy_of_the_environ_is_the_same_request() -> None:
    recorder = Recorder()
    served = gateway(recorder)

    def copying(environ: dict[str, Any], start_response: Any) -> Any:
        return served.around(dict(environ), start_response, hello)

    assert Client(served.serve(copying), environ("/other")).body() == b"hello"
    assert len(recorder.before_calls) == len(recorder.after_calls) == 1


def test_an_application_that_is_called_twice_for_a_request_is_one_request() -> None:
    recorder = Recorder()
    served = gateway(recorder)

    def retrying(environ: dict[str, Any], start_response: Any) -> Any:
        served.around(environ, start_response, hello)
        return served.around(environ, start_response, hello)

    assert Client(served.serve(retrying), environ("/other")).body() == b"hello"
    assert recorder.after_calls == [200]


def test_another_gateway_inside_runs_its_own_interceptors() -> None:
    inner_recorder, outer_recorder = Recorder(), Recorder()
    inner, outer = gateway(inner_recorder), gateway(outer_recorder)

    def nested(environ: dict[str, Any], start_response: Any) -> Any:
        return inner.around(environ, start_response, hello)

    assert Client(outer.serve(nested), environ("/other")).body() == b"hello"
    assert (inner_recorder.after_calls, outer_recorder.after_calls) == ([200], [200])


def test_interceptors_that_look_at_the_view_are_asked_again_below_a_mount() -> None:
    class Looking(Recorder):
        looks_at_view = True

        def before(self, context: RequestContext) -> None:
            super().before(context)
            if context.may_change_models:
                raise RequestRefused(403, "no", "no")

    looking, recorder = Looking(), Recorder()
    served = gateway(looking, recorder)

    def mount(environ: dict[str, Any], start_response: Any) -> Any:
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/ml")
        return served.around(environ, start_response, hello)

    client = Client(served.serve(mount), environ("/ml/models/m/unload"))
    assert b"no" in client.body()
    assert client.statuses == ["403 Forbidden"]
    assert (len(looking.before_calls), len(recorder.before_calls), recorder.after_calls) == (2, 1, [403])
    assert Client(served, environ("/ml/predict")).body() == b"hello"


def test_an_interceptor_may_answer_for_a_view_that_only_flask_finds() -> None:
    class ScopedRouter(FakeRouter):
        def access(self, endpoint: str, method: str, arguments: Mapping[str, Any]) -> Access:
            return Access(endpoint)

    class Closed(Interceptor):
        looks_at_view = True

        def before(self, context: RequestContext) -> Response | None:
            return Response(404) if context.needed_scope == "admin" else None

    served = gateway(Closed(), router=ScopedRouter())
    context = served.admit(environ("/other"))
    assert served.dispatching(context, "predict", {}) is None
    answer = served.dispatching(context, "admin", {})
    assert answer is not None
    assert answer.status == 404


@pytest.mark.parametrize("application", [hello, streaming, lazy, failing])
def test_a_request_through_wsgi_is_freed_at_once(application: Any) -> None:
    served = gateway(Recorder()).serve(application)
    gc.disable()
    try:
        request = environ("/other")
        context = weakref.ref(served.admit(request))
        assert context() is None  # the server has let go of it
        assert context_in(request) is None
        context = weakref.ref(held := served.admit(request))
        try:
            Client(served, request).body()
        except ZeroDivisionError as error:
            error.__traceback__ = None
        del held
        assert context() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("path", ["/predict", "/other"])
def test_a_refused_request_is_freed_at_once(path: str) -> None:
    served = gateway(Answering(refusing)).serve(hello)
    served_later = gateway(Recorder())
    gc.disable()
    try:
        context = weakref.ref(held := served.admit(environ(path)))
        Client(served, held.environ).body()
        served_later.refuse(held.environ, held, QUEUE_FULL)
        del held
        assert context() is None
    finally:
        gc.enable()
