"""Tests of the check that the server can listen where its settings say."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from pathlib import Path

import pytest

from app.server import addresses
from app.server.addresses import require_free


@pytest.fixture(autouse=True)
def nothing_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in addresses.HANDED_OVER:
        monkeypatch.delenv(name, raising=False)


def refusal(address: object) -> str:
    with pytest.raises(SystemExit) as refused:
        require_free([address], reuse_port=False, within_s=0)
    return str(refused.value)


def test_free_addresses_pass_and_are_not_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    for _ in range(2):
        require_free([("127.0.0.1", port), str(tmp_path / "retort.sock"), 3], reuse_port=False, within_s=0)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_a_port_in_use_is_named_with_another(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert refusal((host, port)).startswith(f"retort: port {port} of {host} is in use; ")


def test_a_port_that_becomes_free_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    closing = threading.Timer(0.05, taken.close)
    closing.start()
    try:
        require_free([("127.0.0.1", port)], reuse_port=False, within_s=30)
    finally:
        closing.join()
    assert caplog.text.count("waiting up to") == 1


def test_a_port_that_servers_share_is_free() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        require_free([taken.getsockname()], reuse_port=True, within_s=0)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (("192.0.2.1", 8000), "this machine has no address 192.0.2.1; set HOST"),
        (("name.invalid", 8000), "the name name.invalid is not known; set HOST"),
        ("/nowhere/retort.sock", "the folder of the Unix socket /nowhere/retort.sock does not exist"),
        ("/dev/null", "/dev/null is there and is not a Unix socket"),
    ],
)
def test_an_address_that_cannot_be_is_refused_in_a_sentence(address: object, words: str) -> None:
    assert refusal(address).startswith(f"retort: {words}")


def test_a_port_for_root_alone_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_error", lambda *_: PermissionError(13, "Permission denied"))
    assert refusal(("0.0.0.0", 80)).startswith("retort: only root may listen at port 80")


@pytest.mark.parametrize("name", addresses.HANDED_OVER)
def test_sockets_that_were_handed_over_are_not_checked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        require_free([taken.getsockname()], reuse_port=False, within_s=0)
