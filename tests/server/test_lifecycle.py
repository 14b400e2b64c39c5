"""Tests of the end of a worker with given times."""

from __future__ import annotations

from app.server.lifecycle import Lifecycle, Phase, Reason


def life(drain_delay_s: float = 0.0) -> Lifecycle:
    return Lifecycle(drain_delay_s, drain_timeout_s=20.0, idle_at_stop_s=2.0)


def test_a_worker_serves_until_it_is_stopped() -> None:
    one = life()
    assert one.step(1e9, 0, 0) is Phase.SERVING
    assert one.stop(Reason.TERMINATED, 5.0)
    assert not one.stop(Reason.RECYCLED, 6.0)
    assert one.reason is Reason.TERMINATED


def test_without_a_delay_the_listeners_close_at_once() -> None:
    one = life()
    one.stop(Reason.TERMINATED, 5.0)
    assert one.accepts_backlog
    assert one.step(5.0, 3, 1) is Phase.FINISHING
    assert one.step(5.1, 1, 1) is Phase.FINISHING
    assert one.idle_until_s == 7.0
    assert one.step(5.2, 0, 0) is Phase.OVER


def test_a_worker_waits_briefly_for_a_master_that_still_listens() -> None:
    one = life()
    assert not one.wait_for_master(4.0)
    one.stop(Reason.TERMINATED, 5.0)
    assert one.wait_for_master(5.0)
    one.accept_until_s = 5.2
    assert one.step(5.1, 1, 1) is Phase.ACCEPTING
    assert not one.wait_for_master(5.1)
    assert one.wait_for_master(5.3)
    assert not one.wait_for_master(5.5)
    other = life()
    other.stop(Reason.RECYCLED, 5.0)
    assert not other.wait_for_master(8.0)


def test_with_a_delay_a_worker_continues_to_accept() -> None:
    one = life(drain_delay_s=3.0)
    one.stop(Reason.TERMINATED, 5.0)
    assert one.step(7.9, 0, 0) is Phase.ACCEPTING
    assert one.step(8.0, 1, 0) is Phase.FINISHING
    assert one.idle_until_s == 8.0


def test_a_worker_is_over_at_the_end_of_its_time() -> None:
    one = life()
    one.stop(Reason.TERMINATED, 5.0)
    one.step(5.0, 3, 0)
    assert one.step(24.9, 3, 0) is Phase.FINISHING
    assert one.step(25.0, 3, 0) is Phase.OVER


def test_a_recycled_worker_accepts_while_it_has_to_stay_for_idle_connections() -> None:
    one = life()
    one.stop(Reason.RECYCLED, 5.0)
    assert not one.accepts_backlog
    assert one.step(5.5, 2, 1) is Phase.ACCEPTING
    assert one.step(5.6, 1, 0) is Phase.FINISHING
    other = life()
    other.stop(Reason.RECYCLED, 5.0)
    assert other.step(7.0, 2, 1) is Phase.FINISHING


def test_a_stuck_worker_stops_accepting_at_once() -> None:
    one = life(drain_delay_s=3.0)
    one.stop(Reason.STUCK, 5.0)
    assert one.step(5.0, 1, 0) is Phase.FINISHING
    assert not one.accepts_backlog


def test_if_the_server_ends_connections_that_have_begun_are_awaited_once() -> None:
    one = Lifecycle(0.0, drain_timeout_s=20.0, idle_at_stop_s=2.0, server_ends=lambda: True)
    assert not one.drops_new(4.0)
    one.stop(Reason.TERMINATED, 5.0)
    assert one.drops_new(5.0)
    assert not one.drops_new(5.2)
    assert one.step(5.05, 1, 1) is Phase.ACCEPTING
    assert one.step(5.1, 1, 1) is Phase.FINISHING


def test_connections_go_on_to_begin_if_others_serve_the_listeners() -> None:
    one = life()
    one.stop(Reason.TERMINATED, 5.0)
    assert not one.drops_new(5.0)
