"""The service with one registration, named by `KIND` in the environment."""

from __future__ import annotations

import os

from app import create_app
from tests.end_to_end.registrations import FAILING, INTERCEPTORS, OBSERVING, REFUSING, SEEN, WRAPPED, Marking, Refusing

KIND = os.environ["KIND"]

service = create_app(interceptors=[Marking(), *([Refusing(INTERCEPTORS[KIND])] if KIND in INTERCEPTORS else [])])
service.add_url_rule("/seen", "seen", lambda: dict(SEEN))
register = {**REFUSING, **OBSERVING, **WRAPPED, **FAILING}.get(KIND, lambda service: None)
app = register(service) or service
