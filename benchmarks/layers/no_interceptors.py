"""The service without its interceptors. The difference in cost is theirs."""

from collections.abc import Sequence

from app import factory
from app.gateway import Interceptor


def none(*_: object) -> Sequence[Interceptor]:
    return ()


factory._interceptors = none  # type: ignore[assignment]
app = factory.create_app()
