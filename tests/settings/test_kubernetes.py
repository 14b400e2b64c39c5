"""A Kubernetes Service with our name sets variables that look like settings."""

from __future__ import annotations

import pytest

from app.errors import InvalidSettings
from app.settings import Settings
from tests.settings.services import injected


@pytest.mark.parametrize("service", ["RETORT", "RETORT_SOMETHING", "RETORT_2_ML", "RETORT_PORT", "RETORT_ENV"])
@pytest.mark.parametrize(
    ("address", "protocol"), [("10.43.7.1", "tcp"), ("fd00::1", "tcp"), ("10.43.7.1", "udp"), ("10.43.7.1", "sctp")]
)
def test_the_variables_of_a_service_are_left_alone(service: str, address: str, protocol: str) -> None:
    assert Settings.from_environ(injected(service, address, protocol=protocol)) == Settings()


@pytest.mark.parametrize(
    ("name", "value", "near"),
    [
        ("RETORT_PORT", "8000", " (did you mean PORT?)"),
        ("RETORT_PORT", "http://10.0.0.1:80", " (did you mean PORT?)"),
        ("RETORT_PORT", "tcp://host:80", " (did you mean PORT?)"),
        ("RETORT_SERVICE_HOST", "some.host", ""),
        ("RETORT_SERVICE_PORT", "http", ""),
        ("RETORT_SERVICES_PORT", "80", None),
        ("RETORT_PORT_8000_TCP_PROTO", "http", None),
        ("RETORT_PORT_HTTP_TCP", "tcp://10.0.0.1:80", None),
        ("RETORT_THREDS", "10.0.0.1", " (did you mean RETORT_THREADS?)"),
    ],
)
def test_other_names_and_values_are_unknown_settings(name: str, value: str, near: str | None) -> None:
    with pytest.raises(InvalidSettings) as refused:
        Settings.from_environ({name: value})
    [problem] = refused.value.problems
    assert problem.startswith(f"{name} is not a setting")
    assert near is None or problem == f"{name} is not a setting{near}"
