"""The loop: waits for epoll, handles events, checks deadlines, and ends the worker."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from app.server.bodies import Store
from app.server.connection import IDLE, Connection, ConnectionState, Shared
from app.server.dispatcher import Dispatcher
from app.server.fairness import ClientTurns, evictable, is_evictable, over_share, take_waiting, work_until_s
from app.server.lifecycle import Lifecycle, Phase, drop_new_connections, holds_any
from app.server.parsing import HeadReader

log = logging.getLogger(__name__)

EVENTS_PER_TURN = 4096
SWEEP_S = 0.25
MASTER_LOOK_S = 0.01
ACCEPTS_PER_MS = 16
ACCEPTS_PER_MS_SHARED = 2
"""Accepted connections for each millisecond of the turn, if other workers accept too, so that they share each burst."""
BACKLOG_S = 1.0
"""Longest time for which a stopping worker accepts the connections in the kernel's queue."""
NO_DESCRIPTORS_PAUSE_S = 0.1
WATCHED = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
LONGEST_TURN_OVER_S = 10.0
COLLECT_S = 0.001
"""Pause before a turn while the event loop answers many awaited requests. Each turn takes the interpreter's lock from
the event loop. One turn for each answer would add a fifth to the time of an answer."""


class Loop:
    """The loop of one worker: all its connections, on one thread."""

    def __init__(
        self, listeners: list[socket.socket], signals_fd: int, dispatcher: Dispatcher, life: Lifecycle, cfg: Any
    ) -> None:
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._names = {fd: listener.getsockname() for fd, listener in self._listeners.items()}
        self._signals_fd = signals_fd
        self.dispatcher = dispatcher
        self.life = life
        self.ready: deque[Connection] = deque()
        """Connections with more to do than fits into one turn."""
        self._due: ClientTurns[Connection] = ClientTurns()
        """Connections with events from the poller."""
        self._overdue: deque[Connection] = deque()
        """Connections whose deadline had passed at the last check."""
        limits = self._limits = dispatcher.limits
        self.store = Store(
            limits.spool_bytes,
            limits.bodies_in_memory_bytes,
            max(limits.bodies_in_files_bytes, limits.upload_bytes),
            max(limits.body_bytes, limits.upload_bytes),
        )
        self._shared = Shared(
            dispatcher,
            HeadReader(cfg, limits.head_bytes),
            limits,
            self.store,
            dispatcher.stats,
            float(cfg.keepalive),
            on_unfinished=self.ready.append,
            on_closed=self._on_closed,
        )
        self._most = int(cfg.worker_connections)
        self._accepts = ACCEPTS_PER_MS_SHARED if cfg.workers > 1 else ACCEPTS_PER_MS
        self._own_queue = bool(cfg.reuse_port)
        self._backlog = int(cfg.backlog) + 1  # the most that fit into the kernel's queue
        self.connections: dict[int, Connection] = {}
        self._poller = select.epoll()
        self._poller.register(signals_fd, select.EPOLLIN)
        self._wake_fd = dispatcher.threads.pool.wake_fd
        self._poller.register(self._wake_fd, select.EPOLLIN)
        self._evictable: deque[Connection] = deque()
        """Connections to close next when there is no room."""
        self._accepting = False
        self._has_room = False  # a connection was closed since the last attempt to accept more
        self._accept_after_s = 0.0
        self._next_sweep_s = 0.0
        self._forget_longest_s = 0.0
        dispatcher.stats.connections_by_state = self.by_state

    def close_in_child(self) -> None:
        """Close the sockets in a child that a model has forked.

        Otherwise the child would keep the port open after the server has stopped, and connections after they were
        closed.
        """
        for listener in self._listeners.values():
            listener.close()
        for connection in self.connections.values():
            connection.sock.close()

    def by_state(self) -> dict[str, int]:
        """Return how many connections are in each state. Any thread may call this."""
        counts = Counter(connection.state for connection in list(self.connections.values()))
        return {state.name.lower(): counts[state] for state in ConnectionState if state is not ConnectionState.CLOSED}

    def turn(self, now_s: float) -> float:
        """Wait for events, handle them, and return the time afterwards."""
        dispatcher, threads, stats = self.dispatcher, self.dispatcher.threads, self.dispatcher.stats
        until_s = min(self._next_sweep_s, threads.next_check_s(), self.life.accept_until_s)
        is_behind = self.ready or self._due or self._overdue or dispatcher.has_inline
        wait_s = 0 if is_behind else max(0.0, until_s - now_s)
        if threads.awaits_many() and not is_behind:
            time.sleep(COLLECT_S)
        events = self._poller.poll(wait_s, EVENTS_PER_TURN)
        began_s = now_s = time.monotonic()
        dispatcher.common_headers.refresh(now_s)
        connections = self.connections
        accept: list[int] = []
        has_results = False
        for fd, mask in events:
            connection = connections.get(fd)
            if connection is not None:
                if not connection.events:
                    self._due.append(connection.client, connection)
                connection.events |= mask
            elif fd in self._listeners:
                accept.append(fd)
            elif fd == self._wake_fd:
                has_results = True
            elif fd == self._signals_fd:
                with contextlib.suppress(BlockingIOError):
                    os.read(fd, 4096)
        for connection in take_waiting(self._due):
            self._guard(connection, Connection.act, now_s)
        if has_results:
            threads.take(now_s)
        if self.ready:
            for connection in take_waiting(self.ready):
                self._guard(connection, Connection.resume, now_s)
        if dispatcher.has_inline:
            dispatcher.answer_inline(now_s)
        # Accept last: a new connection may get the number of a closed descriptor, and must not get its old events.
        for fd in accept:
            self._accept(fd, self._accepts * (1 + int(1000 * (time.monotonic() - began_s))), work_until_s(), now_s)
        if self._has_room and not self._accepting:
            self._accept_more(now_s)
        threads.start_coroutines()
        now_s = time.monotonic()
        if threads.next_check_s() <= now_s:
            threads.expire(now_s)
        if now_s >= self._next_sweep_s:
            self._sweep(now_s)
        if self._overdue:
            for connection in take_waiting(self._overdue):
                if connection.deadline_s <= now_s:
                    self._guard(connection, Connection.expire, now_s)
        turn_s = now_s - began_s
        if turn_s > stats.turn_max_s or now_s >= self._forget_longest_s:
            stats.turn_max_s, self._forget_longest_s = turn_s, now_s + LONGEST_TURN_OVER_S
        return now_s

    def _guard(self, connection: Connection, act: Callable[[Connection, float], None], now_s: float) -> None:
        try:
            act(connection, now_s)
        except Exception:  # noqa: BLE001 - the loop must continue after any error
            self.dispatcher.close_broken(connection)

    def _sweep(self, now_s: float) -> None:
        self._next_sweep_s = now_s + SWEEP_S
        self._overdue = deque(one for one in self.connections.values() if one.deadline_s <= now_s)
        for connection in over_share([*self.connections.values()], self._most, now_s):
            self._close_early(connection, now_s)
        self._accept_more(now_s)
        if self._accepting:
            # The kernel wakes only one worker for a new connection, and that worker may be stopped or stuck.
            for fd in list(self._listeners):
                self._accept(fd, self._accepts, work_until_s(), now_s)

    # --- accepting

    def accept_from(self, listening: bool) -> None:
        """Start or stop accepting connections."""
        if listening is self._accepting:
            return
        self._accepting = listening
        for fd in self._listeners:
            if listening:
                self._poller.register(fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)
            else:
                self._poller.unregister(fd)

    def _accept_more(self, now_s: float) -> None:
        """Accept connections again after a pause, if there is room."""
        self._has_room = False
        if self._accepting or not self._listeners or now_s < self._accept_after_s:
            return
        if self.life.phase in (Phase.SERVING, Phase.ACCEPTING) and self._make_room(now_s):
            self.accept_from(listening=True)

    def _accept(self, fd: int, at_most: int, until_s: float, now_s: float) -> None:
        """Accept waiting connections while there is room."""
        listener = self._listeners.get(fd)
        for number in range(at_most):
            if number and time.monotonic() >= until_s:
                return
            if listener is None or not self._make_room(now_s):
                self.accept_from(listening=False)
                return
            try:
                client, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                log.error("no new connection can be accepted: %s", error)
                self._accept_after_s = now_s + NO_DESCRIPTORS_PAUSE_S
                self._evict(now_s)
                self.accept_from(listening=False)
                return
            self.adopt(client, address, self._names[fd], now_s)

    def adopt(self, client: socket.socket, address: Any, name: Any, now_s: float) -> Connection:
        """Add a connection from `address` to the listener of that `name`."""
        client.setblocking(False)
        connection = Connection(client, self._shared.heads.peer(address, name), now_s, self._shared)
        self.dispatcher.stats.accepted += 1
        self.connections[connection.fd] = connection
        self._poller.register(connection.fd, WATCHED)
        return connection

    def _make_room(self, now_s: float) -> bool:
        return len(self.connections) < self._most or self._evict(now_s)

    def _evict(self, now_s: float) -> bool:
        """Close the least useful connection; return False if there is none."""
        if not self._evictable:
            self._evictable.extend(evictable(self.connections.values(), self._limits.evict_idle_s, now_s))
        while self._evictable:
            connection = self._evictable.popleft()
            if is_evictable(connection, self._limits.evict_idle_s, now_s):
                self._close_early(connection, now_s)
                return True
        return False

    def _close_early(self, connection: Connection, now_s: float) -> None:
        """Close an idle connection, or one that is receiving a request, at once to make room."""
        self.dispatcher.stats.evicted += 1
        connection.expire(now_s)
        connection.close()

    def _on_closed(self, connection: Connection) -> None:
        self.connections.pop(connection.fd, None)
        self._has_room = True

    # --- the end

    def step(self, now_s: float) -> Phase:
        """Advance this worker towards its end, once it has begun to stop; return its phase."""
        before = self.life.phase
        if before is Phase.SERVING:
            return before
        if self.life.wait_for_master(now_s) and holds_any(os.getppid(), self._listeners.values()):
            self.life.accept_until_s = min(now_s + MASTER_LOOK_S, self.life.master_until_s)
        elif self.life.drops_new(now_s):
            drop_new_connections(self._listeners.values())
        idle = [one for one in self.connections.values() if one.state is IDLE]
        phase = self.life.step(now_s, len(self.connections), len(idle))
        if phase is Phase.FINISHING and before is Phase.ACCEPTING:
            self._close_listeners(now_s)
        if now_s >= self.life.idle_until_s:
            for connection in idle:
                connection.close()
        if phase is Phase.OVER:
            self.dispatcher.threads.shut_down(now_s)
        return phase

    def _close_listeners(self, now_s: float) -> None:
        """Accept the connections in the kernel's queue and close at once, so that no client is reset."""
        takes_all = self.life.accepts_backlog or self._own_queue
        self._most = 2**31 if takes_all else self._most
        self.accept_from(listening=False)
        for fd, listener in self._listeners.items():
            if takes_all:
                self._accept(fd, self._backlog, time.monotonic() + BACKLOG_S, now_s)
            listener.close()
        self._listeners = {}
        self.life.accept_until_s = float("inf")

    def close(self) -> None:
        """Close everything that is open."""
        for connection in list(self.connections.values()):
            connection.close()
        for listener in self._listeners.values():
            listener.close()
        self._poller.close()
