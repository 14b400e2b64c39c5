"""Tests of the request context and of the callbacks at its end."""

from __future__ import annotations

import re

import pytest

from app.gateway.context import KEY, RequestContext, context_in
from tests.gateway.fakes import environ


def test_a_context_has_the_id_and_the_address_of_the_client() -> None:
    context = RequestContext(environ(HTTP_X_REQUEST_ID="abc"))
    assert (context.id, context.client) == ("abc", "192.0.2.1")


@pytest.mark.parametrize("sent", ["", "a b", "x" * 129, "é"])
def test_an_id_that_does_not_fit_a_log_is_replaced(sent: str) -> None:
    assert re.fullmatch("[0-9a-f]{32}", RequestContext(environ(HTTP_X_REQUEST_ID=sent)).id)


def test_a_nearly_empty_environ_makes_a_context() -> None:
    context = RequestContext({})
    assert (context.client, context.path) == ("", "")


def test_only_the_first_answer_claims_the_context() -> None:
    context = RequestContext(environ())
    assert [context.claim(), context.claim()] == [True, False]


def test_each_callback_is_called_once_in_order_even_if_one_fails(caplog: pytest.LogCaptureFixture) -> None:
    context, calls = RequestContext(environ()), list[int]()
    context.at_end(lambda: calls.append(1))
    context.at_end(lambda: calls.append(1 // 0))
    context.at_end(lambda: calls.append(2))
    context.end()
    context.end()
    assert calls == [1, 2]
    assert "ZeroDivisionError" in caplog.text


def test_a_callback_that_comes_after_the_end_is_called_by_the_next_end() -> None:
    context, calls = RequestContext(environ()), list[int]()
    context.end()
    context.at_end(lambda: calls.append(1))
    context.end()
    assert calls == [1]


def test_the_end_leaves_the_error_to_the_thread_that_still_runs_the_request() -> None:
    context = RequestContext(environ())
    context.error = error = ValueError()
    context.end()
    assert context.error is error
    context.release()
    assert context.error is None


def test_an_environ_leads_to_its_context_while_a_reference_is_held() -> None:
    context = RequestContext(environ())
    request = context.environ
    assert context_in(request) is None
    context.mark()
    assert context_in(request) is context
    del context
    assert context_in(request) is None


def test_a_context_removes_only_its_own_mark() -> None:
    request = environ()
    first, second = RequestContext(request), RequestContext(request)
    first.mark()
    second.mark()
    first.release()
    assert context_in(request) is second
    second.release()
    assert KEY not in request
