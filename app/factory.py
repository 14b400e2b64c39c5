"""The one place that knows everybody: puts the rooms together into an application."""

from __future__ import annotations

import os

from flask import Flask
from flask_smorest import Api

from app import cli, web, wire
from app.core.catalogue import Catalogue
from app.core.models import Models
from app.core.planning import pipelines
from app.core.service import PredictService
from app.runtime.batching import batching
from app.runtime.live import LiveRegistry
from app.runtime.loaders import LOADERS
from app.runtime.quarantine import noting
from app.settings import Settings
from app.signature.schema import validators
from app.storage.repository import Repository
from app.telemetry import configure_logging
from app.telemetry.metrics import SharedMetrics
from app.wire import cors, openapi, problems
from app.wire.application import Application
from app.wire.predict import Predictor
from app.wire.straight import StraightWay


def create_app(settings: Settings | None = None) -> Flask:
    """The service as a WSGI application; nothing is loaded until the registry is asked to.

    Raises:
        InvalidSettings: the environment holds settings that are unknown or cannot be read.
    """
    settings = settings or Settings.from_environ(os.environ)
    configure_logging(settings.log_level, readable=settings.development)
    repository, metrics = Repository(settings.models_dir), SharedMetrics()
    validator_for = validators(settings.max_instances, settings.out_of_range, settings.image_pixel_limit)
    pack_stray = cli.stray_packer(repository, settings) if settings.development else None
    graphs, default = settings.runtime == "auto", settings.default_model
    compose = noting(metrics, batching(settings.batching, settings.max_batch_rows, settings.request_timeout_s))
    services, plan = pipelines(settings, validator_for)
    registry = LiveRegistry(repository, LOADERS, validator_for, default, pack_stray, graphs, compose, plan)
    service, catalogue = PredictService(registry, metrics), Catalogue(registry, services.unwell)
    Models(service).complete(services, registry)
    app = Application("app", static_folder=None)
    app.config.update(openapi.CONFIG)
    app.extensions.update(retort=registry, retort_metrics=metrics)
    app.offer(services)
    api = Api(app)
    for protocol in wire.PROTOCOLS:
        api.register_blueprint(protocol.blueprint(service, catalogue, settings))
    openapi.register(app, api, registry, wire.ERRORS, wire.REQUESTS)
    problems.register(app, wire.ERRORS)
    cors.register(app, settings)
    app.register_blueprint(web.blueprint(catalogue))
    app.straight = StraightWay(registry, Predictor(service, settings))
    cli.register(app, repository, settings)
    return app
