"""API keys: their random parts, their stored form, and the entries of RETORT_API_KEYS."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest

from app.storage.keys import KEY, StoredKey, ended, make_key, read_entries, remade


def test_a_key_has_an_id_that_may_be_known_and_a_secret_of_256_bits() -> None:
    key, stored = make_key("ci", ["predict"])
    match = KEY.fullmatch(key)
    assert match is not None
    assert match[1] == stored.id
    assert len(key.rpartition(stored.id + "_")[2]) * 6 >= 256
    assert make_key("ci", ["predict"])[0] != key


@pytest.mark.fault("X08")
def test_nothing_of_the_secret_is_stored() -> None:
    key, stored = make_key("ci", ["predict"])
    secret = key[len("retort_") + 13 :]
    assert secret not in repr(stored)
    assert secret not in stored.entry()


@pytest.mark.fault("X08")
def test_a_key_matches_its_stored_form_and_no_other() -> None:
    key, stored = make_key("ci", ["predict"])
    assert stored.matches(key, "")
    assert not stored.matches(key[:-1] + ("a" if key[-1] != "a" else "b"), "")
    assert not make_key("ci", ["predict"])[1].matches(key, "")


def test_the_secret_of_the_operator_goes_into_the_hash() -> None:
    key, stored = make_key("ci", ["predict"], key_secret="pepper")
    assert stored.matches(key, "pepper")
    assert not stored.matches(key, "")
    assert not stored.matches(key, "salt")


@pytest.mark.parametrize(
    ("expires_at", "revoked_at", "state"),
    [(None, None, "valid"), (100, None, "expired"), (101, None, "valid"), (100, 50, "revoked"), (None, 50, "revoked")],
)
def test_a_key_ends_when_it_expires_or_is_revoked(expires_at: int | None, revoked_at: int | None, state: str) -> None:
    stored = replace(make_key("ci", ["predict"])[1], expires_at=expires_at, revoked_at=revoked_at)
    assert stored.state(100) == state


ENTRIES = {
    "all models": make_key("ci server, Köln", ["predict", "admin"])[1],
    "some models": make_key("a&b=c", ["metrics"], ["iris-two", "penguins"], 3600)[1],
}


@pytest.mark.parametrize("stored", ENTRIES.values(), ids=ENTRIES)
def test_an_entry_is_one_word_with_all_facts(stored: StoredKey) -> None:
    assert re.fullmatch(r"[^\s,]+", stored.entry())
    assert read_entries([stored.entry()]) == [stored]


@pytest.mark.parametrize(
    "wrong",
    [
        "hello",
        "id=a",
        ENTRIES["all models"].entry().replace("predict", "everything"),
        ENTRIES["all models"].entry()[:-2],
        ENTRIES["all models"].entry().replace("hash=", "hash=zz"),
        ENTRIES["all models"].entry() + "&revoked=1",
    ],
)
def test_an_entry_that_cannot_be_read_is_named_by_its_number_alone(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"^entry 2 is not one that `flask keys create --print-hash` printed$"):
        read_entries([ENTRIES["some models"].entry(), wrong])


def test_a_rotated_key_has_the_same_rights_and_lifetime() -> None:
    old = replace(make_key("ci", ["predict"], ["penguins"], 3600)[1], created_at=50, expires_at=3650)
    key, new = remade(old, "")
    assert new.matches(key, "")
    assert (new.name, new.scopes, new.models) == (old.name, old.scopes, old.models)
    assert new.expires_at == new.created_at + 3600
    assert new.id != old.id
    assert remade(replace(old, expires_at=None), "")[1].expires_at is None


def test_an_ended_key_is_revoked_or_expires_after_an_overlap() -> None:
    stored, now_s = make_key("ci", ["predict"])[1], time.time()
    assert ended(stored).state(now_s) == "revoked"
    overlapping = ended(stored, 60)
    assert (overlapping.state(now_s), overlapping.state(now_s + 61)) == ("valid", "expired")
    assert ended(replace(stored, expires_at=1), 60).expires_at == 1
