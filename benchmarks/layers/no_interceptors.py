"""The service without its interceptors. The difference in cost is theirs."""

from collections.abc import Sequence
from importlib import import_module

from app import Interceptor, create_app


def none(*_: object) -> Sequence[Interceptor]:
    return ()


import_module("app.factory")._interceptors = none  # type: ignore[attr-defined]
app = create_app()
