"""API keys in a database: SQLite here, PostgreSQL if it is installed."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import make_url

from app.errors import DatabaseUnavailable, KeyNotFound
from app.jobs.job_store import JOBS
from app.storage.database import MIGRATIONS, NEWEST, TABLES, VERSION_TABLE, blocking_url, database_url, make_engine
from app.storage.key_store import KEYS, KeyStore
from app.storage.keys import KeySource, ended, make_key, remade
from tests.storage.postgresql import postgresql

KEY = make_key("ci", ["predict", "admin"], ["penguins"], 3600)[1]
OTHER = make_key("other", ["metrics"])[1]


@contextlib.contextmanager
def opened(url: str) -> Iterator[KeyStore]:
    store = KeyStore(blocking_url(url))
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[KeyStore]:
    with opened(f"sqlite:///{tmp_path}/instance/retort.db") as made:
        yield made


def check_all(store: KeyStore) -> None:
    """Store, change and replace keys."""
    assert store.read() == []
    store.add(KEY)
    assert store.read() == [KEY]
    store.change(ended(KEY))
    assert store.key(KEY.id).state(0) == "revoked"
    store.add(OTHER)
    new = remade(OTHER, "")[1]
    store.add(new, instead_of=ended(OTHER))
    assert {key.id: key.state(0) for key in store.read()} == {KEY.id: "revoked", OTHER.id: "revoked", new.id: "valid"}
    with pytest.raises(KeyNotFound, match="there is no key with the id 'nobody'"):
        store.key("nobody")


def test_keys_are_stored_changed_and_replaced(store: KeyStore) -> None:
    check_all(store)


def test_the_file_is_for_its_owner_alone(store: KeyStore, tmp_path: Path) -> None:
    store.add(KEY)
    assert stat.S_IMODE((tmp_path / "instance" / "retort.db").stat().st_mode) == 0o600


def test_a_file_that_replaces_another_is_read(store: KeyStore, tmp_path: Path) -> None:
    store.add(KEY)
    assert store.read() == [KEY]
    with opened(f"sqlite:///{tmp_path}/restored.db") as other:
        other.add(OTHER)
    (tmp_path / "restored.db").replace(tmp_path / "instance" / "retort.db")
    assert store.read() == [OTHER]


def test_reading_makes_no_file(store: KeyStore, tmp_path: Path) -> None:
    store.bring_up_to_date()
    assert store.read() == []
    assert not list(tmp_path.iterdir())


def test_reading_makes_no_table_in_another_database(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("create table alembic_version (version_num text)")
    with opened(f"sqlite:///{path}") as store:
        store.bring_up_to_date()
        assert store.read() == []
        store.add(KEY)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
        assert tables == {"alembic_version", "retort_api_keys", "retort_jobs", VERSION_TABLE}
        assert connection.execute("select * from alembic_version").fetchall() == []


def test_a_table_that_was_there_and_is_gone_is_an_error(store: KeyStore, tmp_path: Path) -> None:
    store.add(KEY)
    store.read()
    (tmp_path / "instance" / "retort.db").unlink()
    with pytest.raises(DatabaseUnavailable, match="the file is gone"):
        store.read()


@pytest.mark.fault("S05")
def test_a_file_that_is_no_database_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "retort.db").write_text("hello " * 1000)
    with opened(f"sqlite:///{tmp_path}/retort.db") as store, pytest.raises(DatabaseUnavailable) as raised:
        store.read()
    assert raised.value.detail.endswith("retort.db cannot be used: file is not a database")


def test_keys_are_not_stored_in_memory() -> None:
    with opened("sqlite://") as store, pytest.raises(DatabaseUnavailable, match="in memory, where keys would be lost"):
        store.add(KEY)


def test_the_migrations_make_the_table_that_is_used(store: KeyStore) -> None:
    store.migrate()
    with store._engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "include_name": lambda name, *_: name != VERSION_TABLE}
        )
        assert compare_metadata(context, TABLES) == []
        assert {KEYS.name, JOBS.name} == {*TABLES.tables}
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [NEWEST]


def test_a_table_of_a_newer_release_is_used_as_it_is(
    store: KeyStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.add(KEY)
    path = tmp_path / "instance" / "retort.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"update {VERSION_TABLE} set version_num = '9999'")
        connection.commit()
    store.bring_up_to_date()
    assert "could not be brought up to date" in caplog.text
    assert "9999" in caplog.text
    assert store.read() == [KEY]


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        ("postgres://u:p@h/d", "postgresql+psycopg"),
        ("postgresql://u:p@h/d?sslmode=require", "postgresql+psycopg"),
        ("postgresql+psycopg2://u:p@h/d", "postgresql+psycopg2"),
        ("sqlite:///a.db", "sqlite"),
    ],
)
def test_the_urls_of_platforms_get_the_driver_that_is_installed(text: str, driver: str) -> None:
    assert database_url(text).drivername == driver
    assert database_url(text).render_as_string(hide_password=False).partition("://")[2] == text.partition("://")[2]


def test_a_url_for_an_event_loop_gets_a_driver_that_blocks() -> None:
    assert blocking_url("sqlite+aiosqlite:///a.db").drivername == "sqlite"
    assert blocking_url("postgresql+psycopg://u:p@h/d").drivername == "postgresql+psycopg"


def test_a_driver_that_is_missing_is_an_error_without_the_password() -> None:
    with pytest.raises(DatabaseUnavailable) as raised:
        make_engine(make_url("mysql+pymysql://me:secret@db/shop"))
    assert raised.value.detail == "the database mysql+pymysql://db/shop cannot be used: No module named 'pymysql'"


@pytest.mark.fault("S05")
def test_a_database_that_does_not_answer_is_an_error_without_the_password() -> None:
    with opened("postgresql://me:secret@127.0.0.1:1/shop") as store, pytest.raises(DatabaseUnavailable) as raised:
        store.read()
    assert "secret" not in raised.value.detail
    assert raised.value.detail.startswith("the database postgresql+psycopg://127.0.0.1:1/shop cannot be used: ")


# --- the place of a server's keys


def test_keys_come_from_the_environment_and_from_the_file(tmp_path: Path, store: KeyStore) -> None:
    source = KeySource([OTHER], f"sqlite:///{tmp_path}/instance/retort.db", tmp_path)
    assert source.read() == [OTHER]
    store.add(KEY)
    assert source.read() == [KEY, OTHER]
    source.prepare()
    source.close()


def test_a_database_that_no_key_can_be_in_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = KeySource([OTHER], "mysql2://me:secret@db/shop", tmp_path)
    assert (source.read(), source.read()) == ([OTHER], [OTHER])
    assert caplog.text.count("no API key is read from DATABASE_URL") == 1
    assert "secret" not in caplog.text + source.unusable


def test_a_file_of_keys_without_sqlalchemy_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = KeySource([], "", tmp_path)
    assert source.read() == []
    source._file.touch()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DatabaseUnavailable, match=r"pip install sqlalchemy alembic"):
        source.read()


# --- PostgreSQL


@pytest.mark.slow
@pytest.mark.needs_program("pg_ctlcluster")
def test_keys_are_stored_in_postgresql_too() -> None:
    with postgresql() as url, opened(url) as store:
        check_all(store)
        store.bring_up_to_date()


def test_a_missing_driver_of_postgresql_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(DatabaseUnavailable) as raised:
        make_engine(make_url("postgresql+psycopg://me:secret@db/shop"))
    assert raised.value.detail.endswith("cannot be used: its driver is not installed: pip install 'psycopg[binary]'")
