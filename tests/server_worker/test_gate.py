"""Admission, told what time it is."""

from __future__ import annotations

import random
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
    client: Hashable = "one"


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


def crowd(gate: Gate[Request], *clients: str, **named: Hashable) -> list[Request]:
    """Requests of these clients, in this order, all of which wait."""
    requests = [Request(client=client, **named) for client in clients]
    assert [gate.enter(request) for request in requests] == [False] * len(clients)
    return requests


def busy_gate(queue_requests: int = 100) -> Gate[Request]:
    gate: Gate[Request] = Gate(places=1, queue_requests=queue_requests, queue_max_wait_s=0.3)
    assert gate.enter(Request(client="somebody")) is True
    return gate


def turns(gate: Gate[Request]) -> str:
    """The clients of those that run, one after the other, until nobody waits."""
    served = ""
    while group := gate.leave():
        served += "".join(str(request.client) for request in group)
    return served


def test_clients_take_turns() -> None:
    gate = busy_gate()
    waiting = crowd(gate, *"nnnnnabab")
    assert gate.leave() == [waiting[0]]
    crowd(gate, "c")
    assert turns(gate) == "abncabnnn"
    assert (gate.waiting, gate.next_expiry_s()) == (0, float("inf"))


def test_one_that_dropped_takes_no_turn() -> None:
    gate = busy_gate()
    waiting = crowd(gate, *"nanbna")
    for at in (0, 1, 3):
        gate.drop(waiting[at])
    assert gate.waiting == 3
    assert gate.next_expiry_s() == 0.3
    assert turns(gate) == "nan"


def test_a_client_whose_lane_is_busy_keeps_its_turn() -> None:
    gate: Gate[Request] = Gate(places=2, queue_requests=10, queue_max_wait_s=1)
    assert gate.enter(Request(client="a", lane="x")) is True
    assert gate.enter(Request(client="a")) is True
    (blocked,) = crowd(gate, "a", lane="x")
    free, after = crowd(gate, *"bb")
    assert gate.leave() == [free]
    assert gate.leave("x") == [blocked]
    assert gate.leave() == [after]


def test_a_lane_is_shared_by_all_clients_and_a_full_group_fairly() -> None:
    gate: Gate[Request] = Gate(places=1, queue_requests=1000, queue_max_wait_s=1)
    assert gate.enter(Request(lane="x")) is True
    crowd(gate, *"n" * 200, lane="x")
    crowd(gate, *"aab", lane="x")
    group = gate.leave("x")
    assert len(group) == GROUP_REQUESTS
    assert sorted(str(request.client) for request in group).count("n") == GROUP_REQUESTS - 3
    assert gate.waiting == 200 + 3 - GROUP_REQUESTS
    assert gate.leave("x")[0].client == "n"
    assert gate.waiting == 0


def test_in_a_full_queue_who_has_most_makes_room_for_who_has_less_than_a_share() -> None:
    gate = busy_gate(queue_requests=6)
    waiting = crowd(gate, *"nnnnna")
    late = Request(client="b")
    assert gate.enter(late) is None
    assert gate.share("b") == 2.0
    assert gate.make_room("b") is waiting[4]
    assert gate.enter(late) is False
    gate.drop(waiting[3])
    crowd(gate, "b")
    assert gate.make_room("a") is waiting[2]  # the last of those that still wait
    crowd(gate, "a")
    assert turns(gate) == "nabnab"


def test_in_a_full_queue_a_client_over_its_share_is_greedy_and_others_are_not() -> None:
    gate = busy_gate(queue_requests=4)
    crowd(gate, *"nnna")
    assert (gate.is_greedy("n"), gate.is_greedy("a"), gate.is_greedy("b")) == (True, False, False)
    assert gate.make_room("n") is None
    even = busy_gate(queue_requests=4)
    crowd(even, *"aabb")
    for client in "ab":
        assert (even.is_greedy(client), even.make_room(client)) == (False, None)
    assert even.make_room("c") is not None


def test_a_client_alone_is_never_greedy() -> None:
    gate = busy_gate(queue_requests=2)
    crowd(gate, *"nn")
    assert (gate.is_greedy("n"), gate.make_room("n")) == (False, None)


def test_of_more_clients_than_places_in_the_queue_none_makes_room() -> None:
    gate = busy_gate(queue_requests=3)
    crowd(gate, *"abc")
    assert gate.make_room("d") is None
    assert not gate.is_greedy("d")


def test_whoever_waited_too_long_is_told_whatever_line_it_is_in() -> None:
    gate = busy_gate()
    first, second = (Request(queued_s=at, client=client) for at, client in ((0.0, "a"), (0.1, "b")))
    hurried = Request(queued_s=0.1, deadline_s=0.35, client="a")
    for request in (first, second, hurried):
        assert gate.enter(request) is False
    assert gate.age_s(0.2) == pytest.approx(0.2)
    assert gate.expired(0.3) == ([first], [])
    assert gate.next_expiry_s() == 0.35
    assert gate.expired(0.35) == ([], [hurried])
    assert gate.next_expiry_s() == 0.4
    assert gate.expired(0.4) == ([second], [])
    assert (gate.waiting, gate.age_s(0.4), gate.next_expiry_s()) == (0, 0.0, float("inf"))


@pytest.mark.parametrize("seed", range(200))
def test_whatever_happens_nobody_is_lost_or_counted_twice(seed: int) -> None:
    """Beside the gate stands a plain list of those that wait."""
    chance = random.Random(seed)
    gate: Gate[Request] = Gate(chance.randint(1, 3), chance.randint(1, 8), 0.3)
    waiting: list[Request] = []
    running: list[Hashable] = []
    now_s = 0.0

    def enter() -> None:
        deadline_s = now_s + chance.choice((0.1, 9.0))
        request = Request(now_s, deadline_s, lane=chance.choice((None, None, "x", "y")), client=chance.choice("abc"))
        runs = gate.enter(request)
        if runs is None and (crowding := gate.make_room(request.client)) is not None:
            waiting.remove(crowding)
            runs = gate.enter(request)
            assert runs is False
        if runs:
            running.append(request.lane)
        elif runs is False:
            waiting.append(request)

    def drop() -> None:
        if waiting:
            gate.drop(waiting.pop(chance.randrange(len(waiting))))

    def leave() -> None:
        if running:
            group = gate.leave(running.pop(chance.randrange(len(running))))
            for request in group:
                waiting.remove(request)
            running.extend({request.lane for request in group})
            assert group or all(request.lane in running for request in waiting)

    def expire() -> None:
        overdue, late = gate.expired(now_s)
        for request in late:
            assert request.deadline_s <= now_s
            waiting.remove(request)
        for request in overdue:
            assert request.queued_s + 0.3 <= now_s < request.deadline_s
            waiting.remove(request)
        assert all(now_s < min(request.queued_s + 0.3, request.deadline_s) for request in waiting)

    for _ in range(120):
        now_s += 0.05 * chance.random()
        chance.choice((enter, enter, leave, drop, expire))()
        assert (gate.waiting, gate.running) == (len(waiting), len(running))
        assert gate.age_s(now_s) == max((now_s - request.queued_s for request in waiting), default=0.0)
        assert gate.next_expiry_s() <= min(
            (min(request.queued_s + 0.3, request.deadline_s) for request in waiting), default=float("inf")
        )
    assert sorted(map(id, gate.everyone())) == sorted(map(id, waiting))
