"""The keys of a process: valid credentials, the lifetime of known keys, and the log."""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from app.errors import DatabaseUnavailable, NoKeys
from app.gateway import key_table
from app.gateway.credentials import CredentialsRefused
from app.gateway.key_table import KeysUnavailable, KeyTable
from app.storage.keys import KeySource, StoredKey, ended, make_key

KEY, STORED = make_key("ci", ["predict"], ["penguins"])
OTHER_KEY, OTHER = make_key("other", ["admin"])


class FakeSource(KeySource):
    """Keys that a test changes; or an error instead of them."""

    def __init__(self, *keys: StoredKey) -> None:
        super().__init__((), "", Path("nowhere"))
        self.found = list(keys)
        self.error: Exception | None = None
        self.reads = 0

    def read(self) -> list[StoredKey]:
        self.reads += 1
        if self.error is not None:
            raise self.error
        return self.found


@pytest.fixture
def source() -> FakeSource:
    return FakeSource(STORED, OTHER)


@pytest.fixture
def table(source: FakeSource) -> KeyTable:
    made = KeyTable(source, grace_s=60)
    made.refresh()
    return made


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that sets the clock, in seconds from now."""
    monotonic_s, now_s, late_s = time.monotonic(), time.time(), 0.0
    monkeypatch.setattr(key_table.time, "monotonic", lambda: monotonic_s + late_s)
    monkeypatch.setattr(key_table.time, "time", lambda: now_s + late_s)

    def set_to(seconds: float) -> None:
        nonlocal late_s
        late_s = seconds

    return set_to


def basic(password: str, name: str = "") -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


VALID = {
    "bearer": {"HTTP_AUTHORIZATION": f"Bearer {KEY}"},
    "bearer in any case": {"HTTP_AUTHORIZATION": f"bEARER   {KEY} "},
    "X-API-Key": {"HTTP_X_API_KEY": f" {KEY} "},
    "both alike": {"HTTP_AUTHORIZATION": f"Bearer {KEY}", "HTTP_X_API_KEY": KEY},
    "a password": {"HTTP_AUTHORIZATION": basic(KEY, "somebody")},
    "a password and X-API-Key": {"HTTP_AUTHORIZATION": basic(KEY), "HTTP_X_API_KEY": KEY},
}


@pytest.mark.parametrize("environ", VALID.values(), ids=VALID)
def test_a_valid_key_names_its_holder(table: KeyTable, environ: dict[str, str]) -> None:
    for _ in range(2):  # the second time from the cache
        principal, by_browser = table.find(environ)
        assert (principal.id, principal.name, principal.scopes) == (STORED.id, "ci", {"predict"})
        assert principal.models == {"penguins"}
        assert by_browser is environ.get("HTTP_AUTHORIZATION", "").startswith("Basic")
    assert table.caller(environ) == principal


CUT = KEY[:-1]
REFUSED = {
    "nothing": ({}, "key-required"),
    "in the query": ({"QUERY_STRING": f"key={KEY}&access_token={KEY}"}, "key-required"),
    "empty": ({"HTTP_X_API_KEY": ""}, "key-refused"),
    "cut short": ({"HTTP_X_API_KEY": CUT}, "key-refused"),
    "an unknown id": ({"HTTP_X_API_KEY": KEY.replace(STORED.id, "a" * 12)}, "key-refused"),
    "the secret of another": ({"HTTP_X_API_KEY": KEY.replace(STORED.id, OTHER.id)}, "key-refused"),
    "10 kB": ({"HTTP_AUTHORIZATION": "Bearer " + "a" * 10_000}, "key-refused"),
    "not ASCII": ({"HTTP_AUTHORIZATION": f"Bearer {CUT}\xe9"}, "key-refused"),
    "another scheme": ({"HTTP_AUTHORIZATION": f"Digest {KEY}"}, "key-refused"),
    "no scheme": ({"HTTP_AUTHORIZATION": KEY}, "key-refused"),
    "two headers": ({"HTTP_AUTHORIZATION": f"Bearer {KEY}", "HTTP_X_API_KEY": OTHER_KEY}, "key-refused"),
    "two values": ({"HTTP_X_API_KEY": f"{KEY},{KEY}"}, "key-refused"),
    "another scheme beside a key": ({"HTTP_AUTHORIZATION": "Digest a", "HTTP_X_API_KEY": KEY}, "key-refused"),
    "a password that is no base64": ({"HTTP_AUTHORIZATION": "Basic !"}, "key-refused"),
    "a user without a password": ({"HTTP_AUTHORIZATION": basic("")}, "key-refused"),
}


@pytest.mark.parametrize(("environ", "name"), REFUSED.values(), ids=REFUSED)
@pytest.mark.fault("X07")
def test_anything_else_is_refused_and_not_repeated(table: KeyTable, environ: dict[str, str], name: str) -> None:
    for _ in range(2):
        with pytest.raises(CredentialsRefused) as raised:
            table.find(environ)
        assert raised.value.name == name
        assert not any(key in raised.value.detail for key in (KEY, OTHER_KEY, CUT))
        assert table.caller(environ) is None


def test_a_revocation_holds_after_the_next_reading(table: KeyTable, source: FakeSource) -> None:
    environ = VALID["bearer"]
    table.find(environ)
    source.found = [ended(STORED), OTHER]
    table.refresh()
    with pytest.raises(CredentialsRefused, match=f"^the key {STORED.id} was revoked$"):
        table.find(environ)


def test_a_key_ends_at_its_time_without_a_reading(
    table: KeyTable, source: FakeSource, at: Callable[[float], None]
) -> None:
    source.found = [replace(STORED, expires_at=int(time.time()) + 20)]
    table.refresh()
    assert table.find(VALID["bearer"])
    at(25)
    with pytest.raises(CredentialsRefused, match=f"^the key {STORED.id} has expired$"):
        table.find(VALID["bearer"])


def test_a_new_key_holds_after_the_next_reading(table: KeyTable, source: FakeSource) -> None:
    key, stored = make_key("new", ["predict"])
    with pytest.raises(CredentialsRefused):
        table.find({"HTTP_X_API_KEY": key})
    source.found.append(stored)
    table.refresh()
    assert table.find({"HTTP_X_API_KEY": key})[0].id == stored.id


@pytest.mark.fault("S05")
def test_known_keys_hold_for_the_grace_time_without_the_database(
    table: KeyTable, source: FakeSource, at: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    source.error = DatabaseUnavailable("postgresql://db/shop", "connection refused")
    for late_s in (2, 30, 59):
        at(late_s)
        table.refresh()
        assert table.find(VALID["bearer"])
    at(61)
    for environ in (VALID["bearer"], VALID["X-API-Key"], REFUSED["cut short"][0]):
        with pytest.raises(KeysUnavailable):
            table.find(environ)
    assert table.required
    source.error = None
    table.refresh()
    assert table.find(VALID["bearer"])
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert messages[0].startswith("the API keys cannot be read, and the last known ones hold: the database postgresql:")
    assert messages[1] == "the API keys can be read again"


def test_without_any_key_none_is_required(source: FakeSource) -> None:
    source.found = []
    table = KeyTable(source)
    table.refresh()
    assert not table.required
    assert table.caller(VALID["bearer"]) is None


def test_after_the_first_key_one_is_always_required(table: KeyTable, source: FakeSource) -> None:
    source.found = []
    table.refresh()
    assert table.required
    with pytest.raises(CredentialsRefused):
        table.find(VALID["bearer"])


def test_a_key_is_required_until_the_keys_can_be_read(source: FakeSource) -> None:
    source.found, source.error = [], DatabaseUnavailable("db", "gone")
    table = KeyTable(source)
    table.refresh()
    assert table.required
    with pytest.raises(KeysUnavailable):
        table.find(VALID["bearer"])
    source.error = None
    table.refresh()
    assert not table.required


def test_memory_of_credentials_is_bounded(table: KeyTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_table, "MOST_VERDICTS", 10)
    monkeypatch.setattr(key_table, "MOST_REFUSED", 10)
    for spaces in range(50):
        assert table.find({"HTTP_AUTHORIZATION": f"Bearer {' ' * spaces}{KEY}"})
        assert table.caller({"HTTP_AUTHORIZATION": f"Bearer {' ' * spaces}{CUT}"}) is None
    assert len(table._state.verdicts) <= 10
    assert len(table._state.refused) <= 10


def test_without_a_thread_a_look_up_reads_the_keys_when_they_are_old(
    source: FakeSource, at: Callable[[float], None]
) -> None:
    table = KeyTable(source)
    assert table.caller(VALID["bearer"]) is not None
    table.caller(VALID["bearer"])
    assert source.reads == 1
    at(3)
    table.caller(VALID["bearer"])
    assert source.reads == 2


def test_a_thread_reads_the_keys_after_begin(source: FakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_table, "REFRESH_S", 0.005)
    table = KeyTable(source)
    table.begin()
    assert table.find(VALID["bearer"])
    source.found = [OTHER]
    deadline_s = time.monotonic() + 10
    while table.caller(VALID["bearer"]) is not None and time.monotonic() < deadline_s:
        time.sleep(0.005)
    table.close()
    assert table.caller(VALID["bearer"]) is None


def test_the_connection_is_closed_after_the_last_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_table, "REFRESH_S", 0.0)
    begun, ended = threading.Event(), threading.Event()
    closed_after: list[bool] = []

    class SlowSource(FakeSource):
        def read(self) -> list[StoredKey]:
            if threading.current_thread().name == "retort-keys":
                begun.set()
                table._stop.wait(10)
                ended.set()
            return super().read()

        def close(self) -> None:
            closed_after.append(ended.is_set())

    table = KeyTable(SlowSource(STORED))
    table.begin()
    assert begun.wait(60)
    table.close()
    assert closed_after == [True]


def test_keys_of_the_environment_need_no_database(source: FakeSource) -> None:
    source.given, source.error = [STORED], DatabaseUnavailable("db", "gone")
    table = KeyTable(source)
    table.prepare(["192.0.2.1"])
    assert table.find(VALID["bearer"])
    with pytest.raises(KeysUnavailable):
        table.find({"HTTP_X_API_KEY": OTHER_KEY})


# --- at the start


def test_a_public_server_does_not_start_without_a_key(source: FakeSource) -> None:
    source.found = []
    with pytest.raises(NoKeys, match=r"other machines may reach 192\.0\.2\.1"):
        KeyTable(source).prepare(["192.0.2.1"])
    KeyTable(source).prepare([])
    source.found = [STORED]
    KeyTable(source).prepare(["192.0.2.1"])


def test_a_public_server_does_not_start_without_the_database_of_its_keys(source: FakeSource) -> None:
    source.error = DatabaseUnavailable("db", "gone")
    with pytest.raises(DatabaseUnavailable):
        KeyTable(source).prepare(["192.0.2.1"])
    table = KeyTable(source)
    table.prepare([])
    assert table.required


def test_the_start_says_whether_keys_are_needed(source: FakeSource, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    KeyTable(source).prepare()
    source.found = []
    KeyTable(source).prepare()
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["requests need an API key", "there is no API key, so requests need none"]


def test_the_reason_for_a_database_without_keys_is_logged(source: FakeSource) -> None:
    source.found, source.unusable = [], "the database db cannot be used: No module named 'psycopg2'"
    with pytest.raises(NoKeys, match="No module named 'psycopg2'"):
        KeyTable(source).prepare(["192.0.2.1"])
