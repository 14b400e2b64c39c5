"""Admission, told what time it is."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import pytest

from app.server.gate import GROUP_REQUESTS, Gate


@dataclass(eq=False)
class Request:
    queued_s: float = 0.0
    deadline_s: float = 100.0
    dropped: bool = False
    lane: Hashable = None


def full_gate(waiting: int = 0) -> tuple[Gate[Request], list[Request]]:
    gate: Gate[Request] = Gate(places=1, queue_requests=2, queue_max_wait_s=0.3)
    assert gate.enter(Request()) is True
    queue = [Request(queued_s=float(number) / 10) for number in range(waiting)]
    for request in queue:
        assert gate.enter(request) is False
    return gate, queue


def test_the_queue_is_bounded_by_count() -> None:
    gate, _ = full_gate(waiting=2)
    assert gate.enter(Request()) is None


def test_a_place_goes_to_the_first_that_waits() -> None:
    gate, queue = full_gate(waiting=2)
    assert gate.leave() == [queue[0]]
    assert gate.leave() == [queue[1]]
    assert gate.leave() == []
    assert gate.enter(Request()) is True


def test_nobody_waits_longer_than_allowed() -> None:
    gate, queue = full_gate(waiting=2)
    assert gate.next_expiry_s() == 0.3
    assert gate.expired(0.29) == ([], [])
    assert gate.expired(0.3) == ([queue[0]], [])
    assert gate.next_expiry_s() == 0.4
    assert gate.age_s(0.35) == pytest.approx(0.25)


def test_a_deadline_shorter_than_the_queue_counts_first() -> None:
    gate, queue = full_gate(waiting=1)
    hurried = Request(queued_s=0.0, deadline_s=0.05)
    assert gate.enter(hurried) is False
    assert gate.next_expiry_s() == 0.05
    assert gate.expired(0.05) == ([], [hurried])
    assert gate.waiting == 1
    assert gate.leave() == [queue[0]]


def test_one_that_left_frees_its_room_at_once() -> None:
    gate, queue = full_gate(waiting=2)
    gate.drop(queue[0])
    gate.drop(queue[0])
    assert gate.waiting == 1
    last = Request()
    assert gate.enter(last) is False
    assert gate.leave() == [queue[1]]
    assert gate.leave() == [last]
    assert gate.waiting == 0
    assert gate.next_expiry_s() == float("inf")


def test_everyone_is_told_at_the_end() -> None:
    gate, queue = full_gate(waiting=2)
    gate.drop(queue[1])
    assert gate.everyone() == [queue[0]]
    assert gate.waiting == 0


def test_who_waits_for_a_lane_runs_with_all_that_wait_for_it() -> None:
    gate: Gate[Request] = Gate(places=2, queue_requests=10, queue_max_wait_s=1)
    assert gate.enter(Request(lane="a")) is True
    waiting = [Request(lane=lane) for lane in ("a", "a", "b", "a")]
    assert [gate.enter(request) for request in waiting] == [False, False, True, False]
    gate.drop(waiting[1])
    assert gate.waiting == 2
    assert gate.leave("a") == [waiting[0], waiting[3]]
    assert (gate.running, gate.waiting) == (2, 0)
    assert gate.leave("b") == gate.leave("a") == []
    assert gate.running == 0


def test_a_lane_that_is_busy_holds_nobody_else_up() -> None:
    gate: Gate[Request] = Gate(places=2, queue_requests=10, queue_max_wait_s=1)
    assert gate.enter(Request(lane="a")) is True
    blocked, other, next_one = Request(lane="a"), Request(), Request()
    assert [gate.enter(request) for request in (blocked, other, next_one)] == [False, True, False]
    assert gate.leave() == [next_one]
    assert gate.leave() == []
    assert gate.leave("a") == [blocked]


def test_a_group_has_an_end() -> None:
    gate: Gate[Request] = Gate(places=1, queue_requests=1000, queue_max_wait_s=1)
    assert gate.enter(Request(lane="a")) is True
    for _ in range(GROUP_REQUESTS + 1):
        assert gate.enter(Request(lane="a")) is False
    assert len(gate.leave("a")) == GROUP_REQUESTS
    assert len(gate.leave("a")) == 1
