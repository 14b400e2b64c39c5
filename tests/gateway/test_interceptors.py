"""The chain calls interceptors in order before a request and in reverse order after it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from app.gateway import Interceptor, RequestContext, RequestRefused, Response
from app.gateway.interceptors import InterceptorChain
from app.server.contract import Refusal
from tests.gateway.fakes import Recorder, environ, gateway

LATE = Refusal(504, "deadline-exceeded", "too late")


class Noting(Interceptor):
    def __init__(self, name: str, calls: list[str], may_block: bool = False) -> None:
        self.name, self.calls, self.may_block = name, calls, may_block

    def before(self, context: RequestContext) -> None:
        self.calls.append(f"{self.name} before")

    def after(self, context: RequestContext, response: Response) -> None:
        self.calls.append(f"{self.name} after {response.status}")


def test_interceptors_are_called_in_order_and_then_in_reverse() -> None:
    calls: list[str] = []
    served = gateway(Noting("a", calls), Noting("b", calls))
    served.respond([served.admit(environ())])
    assert calls == ["a before", "b before", "b after 200", "a after 200"]


def test_interceptors_after_a_refusing_one_see_only_the_answer() -> None:
    class Refusing(Interceptor):
        def before(self, context: RequestContext) -> None:
            raise RequestRefused(403, "no", "no")

    calls: list[str] = []
    served = gateway(Noting("a", calls), Refusing(), Noting("b", calls))
    served.respond([served.admit(environ())])
    assert calls == ["a before", "b after 403", "a after 403"]


def test_an_interceptor_that_fails_after_a_request_is_logged_and_others_are_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(Interceptor):
        def after(self, context: RequestContext, response: Response) -> None:
            raise ZeroDivisionError

    calls: list[str] = []
    served = gateway(Noting("a", calls), Failing())
    [response] = served.respond([served.admit(environ())]) or []
    assert (response.status, calls) == (200, ["a before", "a after 200"])
    assert "Failing" in caplog.text


@pytest.mark.parametrize("name", ["before", "after", "start", "close", "flush"])
def test_an_interceptor_with_a_coroutine_function_is_refused_at_the_start(name: str) -> None:
    async def method(self: Any, *_: Any) -> None: ...

    with pytest.raises(TypeError, match=f"{name} of Own is a coroutine function"):
        InterceptorChain([type("Own", (Interceptor,), {name: method})()])


@pytest.mark.parametrize("given", [Interceptor, object(), "Interceptor"])
def test_an_object_that_is_not_an_interceptor_is_refused_at_the_start(given: Any) -> None:
    with pytest.raises(TypeError, match="pass an object of a subclass"):
        InterceptorChain([given])


def test_an_interceptor_that_is_added_twice_is_called_twice() -> None:
    calls: list[str] = []
    one = Noting("a", calls)
    served = gateway(one, one)
    served.respond([served.admit(environ())])
    assert calls == ["a before", "a before", "a after 200", "a after 200"]


@pytest.mark.parametrize("value", [5, None, "a\r\nX-Other: 1", "a\nb", "\0", "Łódź", b"bytes"])
def test_an_invalid_header_field_is_left_out_of_the_error(value: Any) -> None:
    class Adding(Interceptor):
        may_block = False

        def after(self, context: RequestContext, response: Response) -> None:
            response.headers += [("X-Bad", value), ("X-Bad name", ""), ("X-Good", "café")]

    served = gateway(Adding())
    context = served.admit(environ())
    served.respond([context])
    for request in (context, None):
        refused = served.refuse(context.environ, request, Refusal(500, "internal-error", "the server failed"))
        assert [header for header in refused.headers if header[0].startswith("X-")] == [("X-Good", "café")]
        assert b"the server failed" in refused.body  # type: ignore[operator]


@pytest.mark.parametrize("body", [[b"a", b"b"], iter([b"a", b"b"])])
def test_an_answer_in_parts_is_joined_on_the_event_loop(body: Any) -> None:
    class Answering(Interceptor):
        may_block = False

        def before(self, context: RequestContext) -> Response:
            return Response(200, [], body)

    served = gateway(Answering())
    context = served.admit(environ())
    assert context.runs_inline
    [response] = served.respond([context]) or []
    assert response.body == b"ab"


def test_an_interceptor_can_set_the_status_of_the_request() -> None:
    class Teapot(Interceptor):
        def after(self, context: RequestContext, response: Response) -> None:
            response.status = 418

    calls: list[str] = []
    served = gateway(Noting("a", calls), Teapot())
    context = served.admit(environ())
    [response] = served.respond([context]) or []
    assert (response.status, context.status, calls[-1]) == (418, 418, "a after 418")


def test_methods_set_on_the_interceptor_object_are_called() -> None:
    calls: list[Any] = []
    interceptor = Interceptor()
    interceptor.before = calls.append  # type: ignore[method-assign, assignment]
    interceptor.after = lambda context, response: calls.append(response)  # type: ignore[method-assign, misc]
    served = gateway(interceptor)
    served.respond([served.admit(environ())])
    assert len(calls) == 2


class Waiting(Interceptor):
    """Block until the test releases it."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.go_on, self.done = threading.Event(), threading.Event()

    def after(self, context: RequestContext, response: Response) -> None:
        self.threads.append(threading.current_thread())
        assert self.go_on.wait(60)


def test_a_refusal_by_the_server_runs_no_blocking_interceptor_on_its_thread() -> None:
    waiting, recorder = Waiting(), Recorder()
    served = gateway(waiting, recorder)
    context = served.admit(environ())
    context.at_end(lambda: waiting.threads.append(threading.current_thread()))
    context.at_end(waiting.done.set)
    assert served.refuse(context.environ, context, LATE).status == 504
    assert recorder.after_calls == [504]
    waiting.go_on.set()
    assert waiting.done.wait(60)
    assert len(waiting.threads) == 2
    assert threading.current_thread() not in waiting.threads


def test_a_refusal_that_comes_after_the_answer_is_not_shown_again() -> None:
    calls, ended = list[str](), threading.Event()
    served = gateway(Noting("a", calls, may_block=True))
    context = served.admit(environ())
    served.respond([context])
    context.at_end(ended.set)
    served.refuse(context.environ, context, LATE)
    assert ended.wait(60)
    assert calls == ["a before", "a after 200"]


def test_without_blocking_interceptors_a_refusal_ends_the_request_at_once() -> None:
    ends: list[int] = []
    served = gateway(Recorder())
    context = served.admit(environ())
    context.at_end(lambda: ends.append(1))
    served.refuse(context.environ, context, LATE)
    assert ends == [1]


def test_refusals_waiting_for_interceptors_are_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.gateway.interceptors.MOST_WAITING", 2)
    waiting = Waiting()
    served = gateway(waiting)
    for _ in range(5):
        served.refuse(environ(), None, LATE)
    assert "they do not see this one" in caplog.text
    waiting.go_on.set()


def test_a_chain_knows_whether_it_may_block() -> None:
    assert not InterceptorChain([]).may_block
    assert InterceptorChain([Interceptor()]).may_block


class Lasting(Interceptor):
    def __init__(self, name: str, calls: list[str]) -> None:
        self.name, self.calls = name, calls

    def start(self) -> None:
        self.calls.append(f"{self.name} starts")

    def close(self) -> None:
        self.calls.append(f"{self.name} closes")
        if self.name == "b":
            raise ConnectionError


def test_interceptors_start_with_the_worker_and_close_in_reverse_even_if_one_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls: list[str] = []
    served = gateway(Lasting("a", calls), Interceptor(), Lasting("b", calls))
    served.start()
    served.close()
    assert calls == ["a starts", "b starts", "b closes", "a closes"]
    assert "failed at the end of the worker" in caplog.text
