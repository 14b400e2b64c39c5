"""The service without its interceptors. The difference in cost is theirs."""

from collections.abc import Sequence

from app import application_factory
from app.gateway import Interceptor


def none(*_: object) -> Sequence[Interceptor]:
    return ()


application_factory._interceptors = none  # type: ignore[assignment]
app = application_factory.create_app()
