"""Build the application from the packages. Only this module knows all of them."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from flask_smorest import Api

from app import cli, web, wire
from app.cli.adding import stray_packer
from app.core.catalogue import Catalogue
from app.core.models import Models
from app.core.service import PredictService
from app.core.steps.model_steps import plan_steps
from app.core.steps.services import Services
from app.gateway.access_log import AccessLog
from app.gateway.browsers import AllowedHosts, Cors, SameOrigin
from app.gateway.errors import ErrorRenderer
from app.gateway.forwarded import Forwarding
from app.gateway.gateway import Gateway
from app.gateway.interceptors import Interceptor
from app.gateway.key_table import KeyTable, key_table
from app.gateway.keys import ApiKeys
from app.gateway.standard import CommonHeaders, RequestMetrics, limits, tracing
from app.jobs.service import missing_library
from app.runtime.batching import batching
from app.runtime.loaders import LOADERS
from app.runtime.quarantine import record_runs
from app.runtime.registry import Registry
from app.runtime.version_loader import VersionLoader
from app.server.contract import PlainApp, ServingApp, WSGIApplication
from app.settings import Settings
from app.signature.validator import Validator
from app.storage.repository import Repository
from app.telemetry.log_lines import configure_logging
from app.telemetry.metrics import SharedMetrics
from app.wire import openapi, problems
from app.wire.application import Application, FlaskRouter
from app.wire.backend import Backend
from app.wire.reached import name_of

_applications: list[weakref.ref[Application]] = []


def create_app(
    settings: Settings | None = None,
    interceptors: Sequence[Interceptor] = (),
    services: Mapping[Any, object] | None = None,
) -> Application:
    """Return the service as a WSGI application. No model is loaded until the registry is used.

    Args:
        settings: the settings; by default they are read from the environment.
        interceptors: further interceptors, which run inside of Retort's own, in this order.
        services: objects by type that replace the services of factories, for example in tests.

    Raises:
        InvalidSettings: the environment has settings that are unknown or cannot be read.
    """
    settings = settings or Settings.from_environ(os.environ)
    configure_logging(settings.log_level, readable=settings.development)
    repository, metrics, keys = Repository(settings.models_dir), SharedMetrics(), key_table(settings)
    registry, step_services = _registry(settings, repository, metrics)
    service = PredictService(registry, step_services.loop)
    catalogue = Catalogue(registry, step_services.failing, settings.ready_in_quarantine)
    step_services.complete({Models: Models(service, metrics), Registry: registry}, services or {})
    errors = ErrorRenderer(wire.ERRORS, problems.PROBLEM_FORMAT)
    backend = Backend(service, registry, catalogue, settings, errors, metrics)

    app = Application("app", static_folder=None)
    app.config.update(openapi.CONFIG)
    app.extensions.update(retort=registry, retort_metrics=metrics, retort_services=step_services, retort_keys=keys)
    app.offer(step_services)
    api = Api(app)
    for protocol in wire.PROTOCOLS:
        api.register_blueprint(protocol.blueprint(backend))
    openapi.register(app, api, registry, errors, wire.REQUESTS, keys, wire.OPEN)
    problems.register(app, errors)
    web.register(app, catalogue, errors, has_jobs=not missing_library())
    cli.register(app, repository, settings, keys.source)
    router = FlaskRouter(app, backend.routes, wire.BLOCKING, wire.SCOPES, wire.UNLIMITED)
    chain = [*_interceptors(settings, metrics, keys, registry), *interceptors]
    forwarding = Forwarding(settings.trusted_proxies, settings.script_name)
    around = (metrics, catalogue.drain, step_services.loop, keys.caller)
    app.gateway = Gateway(router, chain, errors, forwarding, *around)
    _applications.append(weakref.ref(app, _applications.remove))
    return app


def serving_app(application: WSGIApplication) -> ServingApp:
    """Return a WSGI application in the form that the worker serves. It may be the service, or wrap the service."""
    created = applications()
    if not created:
        return PlainApp(application)
    # By identity, because a tracer's proxy claims the class of the object inside.
    inner = next((app for app in created if app is application), created[-1])
    around = "" if application is inner else f"{name_of(application)} around the application"
    return inner.gateway.serve(application, around)


def applications() -> list[Application]:
    """Return the applications that this process has made. Gunicorn's hooks load and stop their models."""
    return [app for reference in _applications if (app := reference()) is not None]


def _registry(settings: Settings, repository: Repository, metrics: SharedMetrics) -> tuple[Registry, Services]:
    validator_for = partial(
        Validator,
        max_instances=settings.max_instances,
        out_of_range=settings.out_of_range,
        pixel_limit=settings.image_pixel_limit,
        max_values=settings.max_values,
        max_text_chars=settings.max_text_chars,
    )
    pack = stray_packer(repository, settings) if settings.development else None
    compose = record_runs(metrics, batching(settings.batching, settings.max_batch_rows, settings.request_timeout_s))
    services, plan = plan_steps(settings, validator_for)
    loader = VersionLoader(repository, LOADERS, validator_for, settings.runtime == "auto", compose, plan, pack, metrics)
    return Registry(repository, loader, settings.default_model), services


def _interceptors(settings: Settings, metrics: SharedMetrics, keys: KeyTable, registry: Registry) -> list[Interceptor]:
    """Return Retort's own interceptors, the outermost first."""
    chain: list[Interceptor] = [CommonHeaders(), RequestMetrics(metrics)]
    if settings.access_log:
        chain.append(AccessLog(settings.access_log_sample))
    chain += tracing(settings)  # inside of the access log, so that it can log the id of each trace
    chain.append(Cors(settings.cors_origins, settings.cors_credentials, settings.cors_max_age_s))
    if settings.development:
        chain.append(AllowedHosts([settings.host, *settings.allowed_hosts]))
    same_origin = SameOrigin(settings.cors_origins)
    return [*chain, ApiKeys(keys, same_origin, registry), same_origin, *limits(settings, metrics)]
