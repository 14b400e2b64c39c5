"""Readers: functions that turn the text of an environment variable into a value.

A reader raises `ValueError` with the end of a sentence that says what is allowed: "must be one of: on, off".
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Callable

from app.settings.cores import allowed_cores

ORIGIN = re.compile(
    r"(?!http://.+:80$|https://.+:443$)[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?", re.IGNORECASE
)
HOST_NAME = re.compile(r"[A-Za-z0-9._-]+")
URL_PATH = re.compile(r"(/[A-Za-z0-9._~:@!$&'()*+,;=-]+)+")
"""A path of one or more segments, without a slash at its end."""
UNIX = "unix:"
REDIS = ("redis://", "rediss://", "unix://")
MAX_WORKERS = 256

# Kubernetes sets these for a Service named `retort` or `retort-…`, in every container of its namespace:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE = r"RETORT(_[A-Z0-9_]+)?"
_ENDPOINT = rf"{_SERVICE}_PORT_[0-9]+_(TCP|UDP|SCTP)"
_URL = re.compile(r"(tcp|udp|sctp)://(?P<address>[0-9a-fA-F:.\[\]]+):[0-9]{1,5}")


def count(minimum: int, maximum: int) -> Callable[[str], int]:
    """Make a reader of whole numbers from `minimum` to `maximum`."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if not minimum <= number <= maximum:
            raise ValueError(f"must be a whole number from {minimum} to {maximum}")
        return number

    return read


def share(text: str) -> float:
    """Read a number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= 1.0:
        raise ValueError("must be a number from 0 to 1")
    return number


def workers(text: str) -> int:
    """Read a number of processes; `auto` is the number of cores that this process may use."""
    if text.strip().lower() == "auto":
        return min(allowed_cores(), MAX_WORKERS)
    try:
        return count(1, MAX_WORKERS)(text)
    except ValueError as error:
        raise ValueError(f"{error}, or auto") from None


def one_of(*allowed: str) -> Callable[[str], str]:
    """Make a reader of one word out of `allowed`, in upper or lower case."""
    by_lower = {word.lower(): word for word in allowed}

    def read(text: str) -> str:
        if text.strip().lower() not in by_lower:
            raise ValueError("must be one of: " + ", ".join(allowed))
        return by_lower[text.strip().lower()]

    return read


def on_off(text: str) -> bool:
    """Read `on` or `off`."""
    return one_of("off", "on")(text) == "on"


def switch(text: str) -> bool:
    """Read `1` or `0`; `on` and `off` mean the same."""
    return one_of("0", "1", "off", "on")(text) in ("1", "on")


def words(text: str) -> tuple[str, ...]:
    """Read words that are separated by commas or white space."""
    return tuple(text.replace(",", " ").split())


def issuer(text: str) -> str:
    """Read the URL of an issuer or of its keys: https, or http of this machine."""
    url = text.strip()
    if not re.fullmatch(r"https://[^\s/?#]+\S*|http://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?(/\S*)?", url):
        raise ValueError("must be a URL with https, such as https://login.example.org/realms/main")
    return url


def host(text: str) -> str:
    """Read an address to bind: a host name, an IP address (IPv6 with or without brackets), or `unix:/path`."""
    text = text.strip()
    if text.startswith(UNIX) and text != UNIX:
        return text
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not (accepts(ipaddress.IPv6Address, bare) or HOST_NAME.fullmatch(text)):
        raise ValueError(
            "must be a host name, an IPv4 or IPv6 address, or unix:/path/to.sock; PORT has the port, not HOST"
        )
    return bare


def is_local(address: str) -> bool:
    """Return whether only this machine reaches an address: a loopback address, `localhost`, or a Unix socket."""
    bare = address.strip("[]").partition("%")[0].lower()
    if bare == "localhost" or address.startswith((UNIX, "/")):
        return True
    return accepts(ipaddress.ip_address, bare) and ipaddress.ip_address(bare).is_loopback


def host_names(text: str) -> tuple[str, ...]:
    """Read host names or IP addresses without ports, comma-separated; an IPv6 address is kept in brackets."""

    def is_host(name: str) -> bool:
        return bool(HOST_NAME.fullmatch(name)) or accepts(ipaddress.IPv6Address, name.strip("[]"))

    names = _accepted_words(text.lower(), is_host, "must be host names without ports, such as dev.example.org")
    return tuple(f"[{name}]" if ":" in name and not name.startswith("[") else name for name in names)


def route(text: str) -> str:
    """Read the path of a URL."""
    if text.strip() != "/" and not URL_PATH.fullmatch(text.strip()):
        raise ValueError("must be the path of a URL, such as /predict")
    return text.strip()


def prefix(text: str) -> str:
    """Read the path of a URL, and leave out a slash at its end."""
    path = text.strip().removesuffix("/")
    if path and not URL_PATH.fullmatch(path):
        raise ValueError("must be the path of a URL, such as /ml")
    return path


def origins(text: str) -> tuple[str, ...]:
    """Read origins as a browser sends them in `Origin`, without a path and without the default port; or `*`."""
    if _words(text) == ("*",):
        return ("*",)
    such_as = "https://app.example.org or http://localhost:5173"
    return _accepted_words(
        text, ORIGIN.fullmatch, f"must be * alone, or origins as browsers send them, such as {such_as}"
    )


def networks(text: str) -> tuple[str, ...]:
    """Read IP addresses and networks, comma-separated; or `*`."""

    def is_network(word: str) -> bool:
        return word == "*" or accepts(ipaddress.ip_network, word)

    return _accepted_words(text, is_network, "must be * or IP addresses and networks, such as 10.0.0.0/8")


def url_prefixes(text: str) -> tuple[str, ...]:
    """Read beginnings of URLs: a scheme, a host or bucket, and a path that ends with a slash."""
    prefixes = _words(text)
    for url in prefixes:
        match = re.fullmatch(r"(s3|gs|az|https?)://([^/@?#\\\s]+)/([^?#\\\s]*/)?", url)
        if match is None or re.search(r"(^|/)\.{1,2}/|%", match[3] or ""):
            raise ValueError(
                f"has {url!r}; write it as s3://bucket/folder/ or https://host/folder/, with a slash at its end"
            )
    return prefixes


def limits(text: str) -> str:
    """Read limits as the library `limits` writes them: `100/minute`, or several with `;` between them."""
    from limits import parse_many  # takes a tenth of a second, and most servers have no limits

    try:
        parsed = parse_many(text)
    except ValueError:
        parsed = []
    windows = [limit.get_expiry() for limit in parsed]
    if not parsed or any(limit.amount < 1 for limit in parsed):
        raise ValueError(
            "must be limits such as 100/minute or 5000 per 2 hours, with ; between several; a window is a number of"
            " seconds, minutes, hours, days, months or years"
        )
    if len(set(windows)) < len(windows):
        raise ValueError("must not have two limits for the same window")
    return text.strip()


def redis_url(text: str) -> str:
    """Read the URL of a Redis server."""
    if not text.strip().startswith(REDIS):
        raise ValueError("must be a URL that begins with " + ", ".join(REDIS))
    return text.strip()


def arguments(text: str) -> list[str]:
    """Read the arguments of a command, quoted as in a shell."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"must be arguments as in a shell ({str(error).lower()})") from None


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _accepted_words(text: str, is_allowed: Callable[[str], object], allowed: str) -> tuple[str, ...]:
    """Return the comma-separated words of a text. If one is not allowed, raise ValueError with `allowed`."""
    words = _words(text)
    if wrong := [word for word in words if not is_allowed(word)]:
        raise ValueError(f"{allowed}, not {', '.join(map(repr, wrong))}")
    return words


def accepts(parse: Callable[[str], object], text: str) -> bool:
    """Return whether `parse` accepts a text, which means that it does not raise `ValueError`."""
    try:
        parse(text)
    except ValueError:
        return False
    return True


def set_by_kubernetes(name: str, value: str) -> bool:
    """Return whether Kubernetes set this variable, by the form of its name and its value."""
    if re.fullmatch(rf"{_SERVICE}_SERVICE_HOST|{_ENDPOINT}_ADDR", name):
        return accepts(ipaddress.ip_address, value)
    if re.fullmatch(rf"{_SERVICE}_SERVICE_PORT(_[A-Z0-9_]+)?|{_ENDPOINT}_PORT", name):
        return re.fullmatch(r"[0-9]{1,5}", value) is not None
    if re.fullmatch(rf"{_ENDPOINT}_PROTO", name):
        return value in ("tcp", "udp", "sctp")
    if re.fullmatch(rf"{_SERVICE}_PORT|{_ENDPOINT}", name):
        url = _URL.fullmatch(value)
        return url is not None and accepts(ipaddress.ip_address, url["address"].strip("[]"))
    return False
