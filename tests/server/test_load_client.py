"""Tests of the counting clients with a server that swaps answers, forgets one, or announces its close."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.server.load_client import LoadRequest, echo
from tests.server.loops import closed_loop, open_loop

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n"
BUSY = b'HTTP/1.1 503 Service Unavailable\r\nContent-Length: 24\r\n\r\n{"%b"}'


@contextlib.contextmanager
def answering(answer: Callable[[int, bytes], bytes]) -> Iterator[int]:
    """Run a server that answers the nth request of a connection with this function, and ends on an empty answer."""

    def talk(client: socket.socket) -> None:
        told, nth = b"", 0
        with client, contextlib.suppress(OSError):
            while received := client.recv(65536):
                told += received
                while (at := told.find(b"\r\n\r\n") + 4) > 3 and len(told) >= at + 20:
                    number, told = told[at : at + 20], told[at + 20 :]
                    said = answer(nth, number)
                    nth += 1
                    if not said:
                        return
                    client.sendall(said)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                talking.append(threading.Thread(target=talk, args=(client,)))
                talking[-1].start()

    talking: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    for one in (thread, *talking):
        one.join()


@pytest.mark.slow
def test_right_answers_are_counted() -> None:
    with answering(lambda nth, number: OK + number) as port:
        outcomes = closed_loop(port, 2, echo, for_s=10, most=50, pipelined=lambda: 2)
    assert set(outcomes.count) == {"200"}
    assert outcomes.count["200"] >= 50


def test_an_answer_to_another_request_is_detected() -> None:
    numbers: list[bytes] = []

    def late(nth: int, number: bytes) -> bytes:
        numbers.append(number)
        return OK + numbers[max(0, len(numbers) - (2 if len(numbers) == 7 else 1))]

    with answering(late) as port:
        outcomes = closed_loop(port, 1, echo, for_s=10, most=20)
    assert outcomes.count == {"200": 19, "mixed": 1}


@pytest.mark.parametrize("swapped", [False, True])
def test_a_refusal_has_to_repeat_the_number(swapped: bool) -> None:
    with answering(lambda nth, number: BUSY % (bytes(reversed(number)) if swapped else number)) as port:
        outcomes = closed_loop(port, 1, echo, for_s=10, most=3)
    assert outcomes.count == {"mixed" if swapped else "503": 3}


def test_a_wrong_status_is_detected() -> None:
    def make() -> LoadRequest:
        refused_request = echo()
        refused_request.status = 422
        return refused_request

    with answering(lambda nth, number: OK + number) as port:
        outcomes = closed_loop(port, 1, make, for_s=10, most=3)
    assert outcomes.count == {"200 for 422": 3}


def test_a_connection_that_ends_without_its_answer_is_a_reset() -> None:
    with answering(lambda nth, number: b"" if nth == 2 else OK + number) as port:
        outcomes = closed_loop(port, 1, echo, for_s=10, most=6)
    assert outcomes.count == {"200": 4, "reset": 2}


def test_an_announced_close_is_not_a_reset() -> None:
    last = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with answering(lambda nth, number: b"" if nth else last + number) as port:
        outcomes = closed_loop(port, 1, echo, for_s=10, most=6, pipelined=lambda: 2)
    assert outcomes.count == {"200": 3, "after the last": 3}
    with answering(lambda nth, number: last + number + OK + number) as port:
        outcomes = closed_loop(port, 1, echo, for_s=10, most=1)
    assert outcomes.count == {"200": 1, "unasked": 1}


@pytest.mark.slow
def test_an_open_loop_tries_again_and_gives_up_in_time() -> None:
    with answering(lambda nth, number: BUSY % number) as port:
        outcomes, _ = open_loop(port, 100, 0.2, lambda: echo(tries=3), patience_s=5)
    assert outcomes.count["503"] >= 40
    with answering(lambda nth, number: OK) as port:
        outcomes, _ = open_loop(port, 50, 0.2, echo, patience_s=0.2)
    assert set(outcomes.count) == {"gave up"}


def test_a_missing_server_is_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outcomes = closed_loop(port, 1, echo, for_s=0.05)
    assert set(outcomes.count) == {"refused"}
