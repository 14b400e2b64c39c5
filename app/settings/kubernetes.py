"""Detect environment variables with our prefix that a platform sets."""

from __future__ import annotations

import re
from ipaddress import ip_address

from app.settings.readers import accepts

# Kubernetes sets these for a Service named `retort` or `retort-…`, in every container of its namespace:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE = r"RETORT(_[A-Z0-9_]+)?"
_ENDPOINT = rf"{_SERVICE}_PORT_[0-9]+_(TCP|UDP|SCTP)"
_URL = re.compile(r"(tcp|udp|sctp)://(?P<address>[0-9a-fA-F:.\[\]]+):[0-9]{1,5}")


def set_by_kubernetes(name: str, value: str) -> bool:
    """Return whether Kubernetes set this variable, by the form of its name and its value."""
    if re.fullmatch(rf"{_SERVICE}_SERVICE_HOST|{_ENDPOINT}_ADDR", name):
        return accepts(ip_address, value)
    if re.fullmatch(rf"{_SERVICE}_SERVICE_PORT(_[A-Z0-9_]+)?|{_ENDPOINT}_PORT", name):
        return re.fullmatch(r"[0-9]{1,5}", value) is not None
    if re.fullmatch(rf"{_ENDPOINT}_PROTO", name):
        return value in ("tcp", "udp", "sctp")
    if re.fullmatch(rf"{_SERVICE}_PORT|{_ENDPOINT}", name):
        url = _URL.fullmatch(value)
        return url is not None and accepts(ip_address, url["address"].strip("[]"))
    return False
