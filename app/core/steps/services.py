"""The services that steps request by type: built-in ones, optional ones, and the services of the user's factories.

There are two registries of svcs. A service per process is made on its first use (so after the fork) and kept in one
container. Each request makes all other services in a container of its own, and cleans them up at its end.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.core.steps import optional_services
from app.core.steps.definitions import Factory, StepModule, as_context_manager, shown
from app.core.steps.event_loop import EventLoop, StepRunner, ThreadRunner, completed
from app.core.steps.injection import svcs
from app.errors import InvalidSettings
from app.settings import Settings
from app.telemetry import check_deadline, current_request

log = logging.getLogger(__name__)

CHECK_TIMEOUT_S = 5.0
"""Longest time for a check, and for a clean-up on the event loop while a request thread waits."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The client of one request.

    After `deadline_s`, a monotonic time, the client no longer waits for the answer.
    """

    address: str = ""
    request_id: str = ""
    deadline_s: float = math.inf

    def check_deadline(self) -> None:
        """Raise DeadlineExceeded if the deadline has passed. Call it from time to time in a slow step.

        Otherwise the server may take the thread for stuck and replace the worker.

        Raises:
            DeadlineExceeded: the deadline has passed. The step need not catch it.
        """
        check_deadline()


def caller() -> Caller:
    """Return the caller of the current request."""
    request = current_request.get()
    return Caller(request.address, request.id, request.deadline_s)


class Services:
    """The services of this process. Lives as long as the process; safe to call from many threads."""

    def __init__(self, module: StepModule, settings: Settings) -> None:
        self.module = module
        self.loop = EventLoop(settings.threads, settings.waiting_threads)
        self.registry = svcs.Registry()
        self.timeouts = optional_services.timeouts() if module.steps else (TimeoutError,)
        """Exceptions that a step raises if another service does not answer in time."""
        self._lasting = svcs.Registry()
        self._process = svcs.Container(self._lasting)
        self._lock = threading.RLock()
        self._awaited: set[Any] = set()
        """Types that only async steps can request: their factory is async, or requests such a type."""
        self._awaits_in_requests = self._awaits_in_process = False
        """Whether requests may make such a service, and whether the process has made one."""
        self._factories = [*(optional_services.factories(settings) if module.steps else ()), *module.factories]
        self.offer(Settings, settings)
        self.registry.register_factory(Caller, caller)
        for factory in self._factories:
            self._register(factory)

    def offer(self, type_: Any, value: object) -> None:
        """Offer one object to every request."""
        self.registry.register_value(type_, value)
        self._lasting.register_value(type_, value)

    def complete(self, more: Mapping[Any, object], replaced: Mapping[Any, object]) -> None:
        """Offer more objects, and objects that replace factories. Call it once, after the last `offer`.

        Raises:
            InvalidSettings: factories request types that no factory provides; the error names all of them.
        """
        self._factories = [factory for factory in self._factories if factory.type not in replaced]
        self._awaited.difference_update(replaced)
        for type_, value in {**more, **replaced}.items():
            self.offer(type_, value)
        wrong = []
        for factory in self._factories:
            offered = self._lasting if factory.per == "process" else self.registry
            wrong += [
                f"the factory of {shown(factory.type)} asks for {shown(type_)}, "
                f"but no factory with per={factory.per!r} provides it"
                for type_ in factory.services.values()
                if type_ not in offered
            ]
        if wrong:
            raise InvalidSettings(wrong)

    def container(self) -> svcs.Container:
        """Return a container for one request, which makes services on demand. The caller must call `clean_up`."""
        return svcs.Container(self.registry)

    async def clean_up(self, container: svcs.Container, runner: StepRunner, what: str = "after a request") -> None:
        """Clean up the services of a container. Abandon and log a clean-up that takes too long."""
        awaits = self._awaits_in_process if container is self._process else self._awaits_in_requests
        if awaits and self.loop.runs:
            try:
                await runner.wait(container.aclose(), time.monotonic() + CHECK_TIMEOUT_S)
                return
            except TimeoutError:
                log.error("the clean-up %s was given up: it took longer than %g s", what, CHECK_TIMEOUT_S)
        container.close()  # blocking clean-ups only

    def failing(self) -> list[str]:
        """Return the type names of services whose check fails. The log has the causes."""
        failed: list[str] = []
        container = self.container()
        try:
            for ping in container.get_pings():
                try:
                    if ping.is_async or any(shown(type_) == ping.name for type_ in self._awaited):
                        self.loop.run(ping.aping(), CHECK_TIMEOUT_S)
                    else:
                        ping.ping()
                except Exception:  # a service may raise anything
                    log.exception("the check of %s failed", ping.name)
                    failed.append(ping.name)
        finally:
            completed(self.clean_up(container, ThreadRunner(self.loop)))
        return failed

    def close(self) -> None:
        """Clean up the services per process, and end the event loop."""
        with self._lock:
            completed(self.clean_up(self._process, ThreadRunner(self.loop), "at the end"))
        self.loop.close()

    def awaited(self, type_: Any) -> bool:
        """Return whether only an async step can request this type."""
        return type_ in self._awaited

    def _register(self, factory: Factory) -> None:
        is_async = factory.is_async or not self._awaited.isdisjoint(factory.services.values())
        if is_async:
            self._awaited.add(factory.type)
        if factory.per == "request":
            self._awaits_in_requests = self._awaits_in_requests or is_async
            self.registry.register_factory(factory.type, _svcs_factory(factory, is_async), ping=factory.check)
            return
        self._lasting.register_factory(factory.type, _svcs_factory(factory, is_async))
        getter = self._make_async_getter(factory.type) if is_async else self._make_getter(factory.type)
        self.registry.register_factory(factory.type, getter, enter=False, ping=factory.check)

    def _make_getter(self, type_: Any) -> Callable[[], Any]:
        """Return a function that returns the process's service of a type, and makes it the first time."""

        def get() -> Any:
            with self._lock:
                return self._process.get(type_)

        return get

    def _make_async_getter(self, type_: Any) -> Callable[[], Any]:
        """Like `_make_getter`, for a service that is made on the event loop."""
        lock = asyncio.Lock()
        service: list[Any] = []

        async def get() -> Any:
            if not service:
                async with lock:  # the first request makes the service while others wait
                    self._awaits_in_process = True
                    service[:] = [await self._process.aget(type_)]
            return service[0]

        return get


def arguments(container: svcs.Container, types: Mapping[str, Any]) -> dict[str, Any]:
    """Return the services of these types, by parameter."""
    return {name: container.get(type_) for name, type_ in types.items()}


async def arguments_async(container: svcs.Container, types: Mapping[str, Any]) -> dict[str, Any]:
    """Like `arguments`, on the event loop."""
    return {name: await container.aget(type_) for name, type_ in types.items()}


def _svcs_factory(factory: Factory, is_async: bool) -> Callable[..., Any]:
    """Return a factory in the form that svcs calls. The factory's own parameters are services too."""
    make = as_context_manager(factory.function)
    if is_async:

        async def make_async(svcs_container: svcs.Container) -> Any:
            service = make(**await arguments_async(svcs_container, factory.services))
            return await service if isinstance(service, Awaitable) else service

        return make_async

    def make_now(svcs_container: svcs.Container) -> Any:
        return make(**arguments(svcs_container, factory.services))

    return make_now
