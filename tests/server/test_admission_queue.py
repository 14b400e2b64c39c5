"""Tests of the admission queue with given times."""

from __future__ import annotations

import random
from collections.abc import Hashable
from dataclasses import dataclass

import pytest

from app.server.fairness import GROUP_REQUESTS, AdmissionQueue


@dataclass(eq=False)
class Request:
    arrived_s: float = 0.0
    deadline_s: float = 100.0
    batch_key: Hashable = None
    client: Hashable = "one"
    began_s: float = 0.0


def full_queue(waiting: int = 0) -> tuple[AdmissionQueue, list[Request]]:
    admission: AdmissionQueue = AdmissionQueue(places=1, queue_requests=2, queue_max_wait_s=0.3)
    assert admission.enter(Request()) is True
    queue = [Request(arrived_s=float(number) / 10) for number in range(waiting)]
    for request in queue:
        assert admission.enter(request) is False
    return admission, queue


def test_the_queue_is_bounded_by_count() -> None:
    admission, _ = full_queue(waiting=2)
    assert admission.enter(Request()) is None


def test_a_place_goes_to_the_first_that_waits() -> None:
    admission, queue = full_queue(waiting=2)
    assert admission.leave() == [queue[0]]
    assert admission.leave() == [queue[1]]
    assert admission.leave() == []
    assert admission.enter(Request()) is True


def test_no_request_waits_longer_than_allowed() -> None:
    admission, queue = full_queue(waiting=2)
    assert admission.next_expiry_s == 0.3
    assert [*admission.take_expired(0.29)] == []
    assert [*admission.take_expired(0.3)] == [queue[0]]
    assert admission.next_expiry_s == 0.4
    assert admission.age_s(0.35) == pytest.approx(0.25)


@pytest.mark.fault("O04")
def test_a_deadline_shorter_than_the_queue_counts_first() -> None:
    admission, queue = full_queue(waiting=1)
    hurried = Request(arrived_s=0.0, deadline_s=0.05)
    assert admission.enter(hurried) is False
    assert admission.next_expiry_s == 0.05
    assert [*admission.take_expired(0.05)] == [hurried]
    assert admission.waiting == 1
    assert admission.leave() == [queue[0]]


def test_a_request_that_left_frees_its_room_at_once() -> None:
    admission, queue = full_queue(waiting=2)
    admission.remove(queue[0])
    assert admission.waiting == 1
    last = Request()
    assert admission.enter(last) is False
    assert admission.leave() == [queue[1]]
    assert admission.leave() == [last]
    assert admission.waiting == 0
    assert admission.next_expiry_s == float("inf")


def test_all_waiting_requests_are_returned_at_the_end() -> None:
    admission, queue = full_queue(waiting=2)
    admission.remove(queue[1])
    assert admission.clear() == [queue[0]]
    assert admission.waiting == 0


def test_a_request_that_waits_for_its_batch_key_runs_with_all_that_wait_for_it() -> None:
    admission: AdmissionQueue = AdmissionQueue(places=2, queue_requests=10, queue_max_wait_s=1)
    assert admission.enter(Request(batch_key="a")) is True
    waiting = [Request(batch_key=batch_key) for batch_key in ("a", "a", "b", "a")]
    assert [admission.enter(request) for request in waiting] == [False, False, True, False]
    admission.remove(waiting[1])
    assert admission.waiting == 2
    assert admission.leave("a") == [waiting[0], waiting[3]]
    assert (admission.running, admission.waiting) == (2, 0)
    assert admission.leave("b") == admission.leave("a") == []
    assert admission.running == 0


def test_a_busy_batch_key_holds_no_other_request_up() -> None:
    admission: AdmissionQueue = AdmissionQueue(places=2, queue_requests=10, queue_max_wait_s=1)
    assert admission.enter(Request(batch_key="a")) is True
    blocked, other, next_one = Request(batch_key="a"), Request(), Request()
    assert [admission.enter(request) for request in (blocked, other, next_one)] == [False, True, False]
    assert admission.leave() == [next_one]
    assert admission.leave() == []
    assert admission.leave("a") == [blocked]


def test_a_group_has_an_end() -> None:
    admission: AdmissionQueue = AdmissionQueue(places=1, queue_requests=1000, queue_max_wait_s=1)
    assert admission.enter(Request(batch_key="a")) is True
    for _ in range(GROUP_REQUESTS + 1):
        assert admission.enter(Request(batch_key="a")) is False
    assert len(admission.leave("a")) == GROUP_REQUESTS
    assert len(admission.leave("a")) == 1


def crowd(admission: AdmissionQueue, *clients: str, **named: Hashable) -> list[Request]:
    """Add waiting requests of these clients, in this order."""
    requests = [Request(client=client, **named) for client in clients]
    assert [admission.enter(request) for request in requests] == [False] * len(clients)
    return requests


def busy_queue(queue_requests: int = 100) -> AdmissionQueue:
    admission: AdmissionQueue = AdmissionQueue(places=1, queue_requests=queue_requests, queue_max_wait_s=0.3)
    assert admission.enter(Request(client="somebody")) is True
    return admission


def turns(admission: AdmissionQueue) -> str:
    """Return the clients of the running requests, one after the other, until none waits."""
    served = ""
    while group := admission.leave():
        served += "".join(str(request.client) for request in group)
    return served


def test_clients_take_turns() -> None:
    admission = busy_queue()
    waiting = crowd(admission, *"nnnnnabab")
    assert admission.leave() == [waiting[0]]
    crowd(admission, "c")
    assert turns(admission) == "abncabnnn"
    assert (admission.waiting, admission.next_expiry_s) == (0, float("inf"))


def test_a_client_that_left_takes_no_turn() -> None:
    admission = busy_queue()
    waiting = crowd(admission, *"nanbna")
    for at in (0, 1, 3):
        admission.remove(waiting[at])
    assert admission.waiting == 3
    assert admission.next_expiry_s == 0.3
    assert turns(admission) == "nan"


def test_a_client_whose_batch_key_is_busy_keeps_its_turn() -> None:
    admission: AdmissionQueue = AdmissionQueue(places=2, queue_requests=10, queue_max_wait_s=1)
    assert admission.enter(Request(client="a", batch_key="x")) is True
    assert admission.enter(Request(client="a")) is True
    (blocked,) = crowd(admission, "a", batch_key="x")
    free, after = crowd(admission, *"bb")
    assert admission.leave() == [free]
    assert admission.leave("x") == [blocked]
    assert admission.leave() == [after]


def test_a_full_group_is_shared_fairly_by_clients() -> None:
    admission: AdmissionQueue = AdmissionQueue(places=1, queue_requests=1000, queue_max_wait_s=1)
    assert admission.enter(Request(batch_key="x")) is True
    crowd(admission, *"n" * 200, batch_key="x")
    crowd(admission, *"aab", batch_key="x")
    group = admission.leave("x")
    assert len(group) == GROUP_REQUESTS
    assert sorted(str(request.client) for request in group).count("n") == GROUP_REQUESTS - 3
    assert admission.waiting == 200 + 3 - GROUP_REQUESTS
    assert admission.leave("x")[0].client == "n"
    assert admission.waiting == 0


def test_in_a_full_queue_the_client_with_most_requests_makes_room() -> None:
    admission = busy_queue(queue_requests=6)
    waiting = crowd(admission, *"nnnnna")
    late = Request(client="b")
    assert admission.enter(late) is None
    assert admission.fair_share("b") == 2.0
    assert admission.make_room("b") is waiting[4]
    assert admission.enter(late) is False
    admission.remove(waiting[3])
    crowd(admission, "b")
    assert admission.make_room("a") is waiting[2]  # the last of the waiting ones
    crowd(admission, "a")
    assert turns(admission) == "nabnab"


def test_in_a_full_queue_only_clients_over_their_share_are_over_fair_share() -> None:
    admission = busy_queue(queue_requests=4)
    crowd(admission, *"nnna")
    assert (admission.over_fair_share("n"), admission.over_fair_share("a"), admission.over_fair_share("b")) == (
        True,
        False,
        False,
    )
    assert admission.make_room("n") is None
    even = busy_queue(queue_requests=4)
    crowd(even, *"aabb")
    for client in "ab":
        assert (even.over_fair_share(client), even.make_room(client)) == (False, None)
    assert even.make_room("c") is not None


def test_a_single_client_is_never_over_its_share() -> None:
    admission = busy_queue(queue_requests=2)
    crowd(admission, *"nn")
    assert (admission.over_fair_share("n"), admission.make_room("n")) == (False, None)


def test_with_more_clients_than_places_none_makes_room() -> None:
    admission = busy_queue(queue_requests=3)
    crowd(admission, *"abc")
    assert admission.make_room("d") is None
    assert not admission.over_fair_share("d")


def test_requests_of_all_clients_expire() -> None:
    admission = busy_queue()
    first, second = (Request(arrived_s=at, client=client) for at, client in ((0.0, "a"), (0.1, "b")))
    hurried = Request(arrived_s=0.1, deadline_s=0.35, client="a")
    for request in (first, second, hurried):
        assert admission.enter(request) is False
    assert admission.age_s(0.2) == pytest.approx(0.2)
    assert [*admission.take_expired(0.3)] == [first]
    assert admission.next_expiry_s == 0.35
    assert [*admission.take_expired(0.35)] == [hurried]
    assert admission.next_expiry_s == 0.4
    assert [*admission.take_expired(0.4)] == [second]
    assert (admission.waiting, admission.age_s(0.4), admission.next_expiry_s) == (0, 0.0, float("inf"))


def test_expired_requests_that_are_not_taken_out_expire_at_the_next_call() -> None:
    admission, queue = full_queue(waiting=2)
    assert next(admission.take_expired(9.0)) is queue[0]
    assert admission.waiting == 1
    assert admission.next_expiry_s <= 9.0
    assert [*admission.take_expired(9.0)] == [queue[1]]


@pytest.mark.parametrize("seed", range(200))
def test_no_request_is_lost_or_counted_twice(seed: int) -> None:
    """Compare the queue with a plain list of waiting requests."""
    chance = random.Random(seed)
    admission: AdmissionQueue = AdmissionQueue(chance.randint(1, 3), chance.randint(1, 8), 0.3)
    waiting: list[Request] = []
    running: list[Hashable] = []
    now_s = 0.0

    def enter() -> None:
        deadline_s = now_s + chance.choice((0.1, 9.0))
        request = Request(
            now_s, deadline_s, batch_key=chance.choice((None, None, "x", "y")), client=chance.choice("abc")
        )
        runs = admission.enter(request)
        if runs is None and (crowding := admission.make_room(request.client)) is not None:
            waiting.remove(crowding)
            runs = admission.enter(request)
            assert runs is False
        if runs:
            running.append(request.batch_key)
        elif runs is False:
            waiting.append(request)

    def drop() -> None:
        if waiting:
            admission.remove(waiting.pop(chance.randrange(len(waiting))))

    def leave() -> None:
        if running:
            group = admission.leave(running.pop(chance.randrange(len(running))))
            for request in group:
                waiting.remove(request)
            running.extend({request.batch_key for request in group})
            assert group or all(request.batch_key in running for request in waiting)

    def expire() -> None:
        for request in admission.take_expired(now_s):
            assert min(request.arrived_s + 0.3, request.deadline_s) <= now_s
            waiting.remove(request)
        assert all(now_s < min(request.arrived_s + 0.3, request.deadline_s) for request in waiting)

    for _ in range(120):
        now_s += 0.05 * chance.random()
        chance.choice((enter, enter, leave, drop, expire))()
        assert (admission.waiting, admission.running) == (len(waiting), len(running))
        assert admission.age_s(now_s) == max((now_s - request.arrived_s for request in waiting), default=0.0)
        assert admission.next_expiry_s <= min(
            (min(request.arrived_s + 0.3, request.deadline_s) for request in waiting), default=float("inf")
        )
    assert sorted(map(id, admission.clear())) == sorted(map(id, waiting))
