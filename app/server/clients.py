"""Who a request is from, as far as fairness goes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from app.server.parsing import Peer


def client_of(environ: dict[str, Any], peer: Peer, is_proxy: Callable[[str], bool]) -> Hashable:
    """What the requests of one client have in common: its address.

    That is the peer's or, where the peer is a proxy that Gunicorn trusts (`forwarded_allow_ips`), the last address in
    `X-Forwarded-For` that is not such a proxy's too: what stands before it is the client's own word.
    """
    address: str = environ.get("REMOTE_ADDR", "")
    forwarded = environ.get("HTTP_X_FORWARDED_FOR")
    if forwarded and peer.trusted and peer.proxy is None:
        for entry in reversed(forwarded.split(",")):
            address = _without_port(entry.strip())
            if not is_proxy(address):
                break
    return address


def _without_port(entry: str) -> str:
    """Some proxies write `192.0.2.1:1234` and `[2001:db8::1]:1234`."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry
