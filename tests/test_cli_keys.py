"""The commands `flask keys …`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import Result

from app.settings import Settings
from app.storage.keys import KEY, KeySource, read_entries
from tests.command_runner import runner

HEAD = ["id", "name", "scopes", "models", "created", "expires", "state", "from"]


class Terminal:
    """A command line with its own database."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.runner = runner(Settings(models_dir=folder / "models", instance_dir=folder / "instance", **settings))  # type: ignore[arg-type]

    def __call__(self, *words: str) -> Result:
        return self.runner.invoke(args=["keys", *words])

    def create(self, *words: str) -> str:
        """Make a key and return it: the last word of the output."""
        made = self("create", *words)
        assert made.exit_code == 0, made.output
        return made.stdout.split()[-1]

    def rows(self) -> list[list[str]]:
        head, *rows = [re.split(r"  +", line) for line in self("list").stdout.splitlines()]
        assert head == HEAD
        return rows


@pytest.fixture
def keys(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def test_the_new_key_is_the_last_word_and_is_listed_without_its_secret(keys: Terminal) -> None:
    key = keys.create("--name", "ci server", "--scope", "predict,metrics", "--expires", "90d")
    match = KEY.fullmatch(key)
    assert match is not None
    [row] = keys.rows()
    assert [*row[:4], *row[6:]] == [match[1], "ci server", "metrics,predict", "all", "valid", "database"]
    assert row[4] < row[5]
    assert key[-43:] not in keys("list").output


def test_a_key_may_predict_with_all_models_and_stays_valid_unless_the_options_say_otherwise(keys: Terminal) -> None:
    keys.create("--name", "a")
    keys.create("--name", "b", "--model", "iris-two", "--model", "penguins", "--scope", "admin", "--scope", "predict")
    rows = sorted(row[1:4] for row in keys.rows())
    assert rows == [["a", "predict", "all"], ["b", "admin,predict", "iris-two,penguins"]]
    assert {row[5] for row in keys.rows()} == {"-"}


def test_a_model_that_is_not_there_yet_is_a_warning(keys: Terminal) -> None:
    made = keys("create", "--name", "a", "--model", "later")
    assert made.exit_code == 0
    assert "Warning: there is no model 'later' yet" in made.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--name", "a", "--scope", "predicts"], "must be of: predict, admin, metrics; not predicts"),
        (["--name", "a", "--scope", ","], "must be of: predict, admin, metrics"),
        (["--name", "a", "--expires", "90"], "'90' is no duration: write it as 90d, 12h, 30m or 45s"),
        (["--name", "a", "--expires", "0d"], "'0d' is no duration"),
        (["--name", "a", "--expires", "999999999d"], "is no duration"),
        (["--name", "a\nb"], "must be one line of 1 to 200 characters"),
        (["--name", " "], "must be one line of 1 to 200 characters"),
        (["--name", "a", "--model", "a b"], "'a b' cannot be the name of a model"),
        ([], "Missing option '--name'"),
    ],
)
def test_wrong_options_are_refused(keys: Terminal, words: list[str], message: str) -> None:
    made = keys("create", *words)
    assert made.exit_code == 2
    assert message in made.stderr
    assert keys.rows() == []


def test_a_revoked_key_is_listed_as_such(keys: Terminal) -> None:
    key_id = keys.create("--name", "a").split("_")[1]
    assert keys("revoke", key_id).stdout == f"{key_id} (a) is revoked\n"
    assert [row[6] for row in keys.rows()] == ["revoked"]
    assert keys("rotate", key_id).stderr == f"Error: {key_id} is revoked: make a new key with flask keys create\n"


def test_a_rotated_key_ends_at_once_or_after_an_overlap(keys: Terminal) -> None:
    old = keys.create("--name", "a", "--model", "penguins").split("_")[1]
    first = keys("rotate", old, "--overlap", "1h")
    new = first.stdout.split()[-1].split("_")[1]
    assert f"{old} holds until " in first.stdout
    listed = sorted((row[0], row[1], row[3], row[6]) for row in keys.rows())
    assert listed == sorted((each, "a", "penguins", "valid") for each in (old, new))
    assert f"{new} is revoked" in keys("rotate", new).stdout
    assert sorted(row[6] for row in keys.rows()) == ["revoked", "valid", "valid"]


@pytest.mark.parametrize("command", ["revoke", "rotate"])
def test_an_unknown_key_is_an_error_in_one_sentence(keys: Terminal, command: str) -> None:
    done = keys(command, "nobody")
    said = "Error: there is no key with the id 'nobody' in the database; see flask keys list\n"
    assert (done.exit_code, done.stderr) == (1, said)


def test_a_printed_entry_is_a_key_of_the_environment(keys: Terminal, tmp_path: Path) -> None:
    made = keys("create", "--name", "a", "--print-hash")
    entry, key = made.stdout.splitlines()[1], made.stdout.split()[-1]
    assert keys.rows() == []
    assert read_entries([entry])[0].matches(key, "")
    other = Terminal(tmp_path, api_keys=(entry,))
    assert [row[-1] for row in other.rows()] == ["RETORT_API_KEYS"]
    done = other("revoke", key.split("_")[1])
    assert done.exit_code == 1
    assert "is in RETORT_API_KEYS: remove its entry there, and restart the servers" in done.stderr


def test_the_secret_of_the_operator_goes_into_the_hash(tmp_path: Path) -> None:
    keys = Terminal(tmp_path, key_secret="pepper")
    key = keys.create("--name", "a")
    source = KeySource([], "", tmp_path / "instance")
    [stored] = source.read()
    source.close()
    assert stored.matches(key, "pepper")


def test_a_database_that_cannot_be_used_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    keys = Terminal(tmp_path, database_url="postgresql://me:secret@127.0.0.1:1/shop")
    done = keys("create", "--name", "a")
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: the database postgresql+psycopg://127.0.0.1:1/shop cannot be used: ")
    assert "secret" not in done.output


def test_a_database_that_no_key_can_be_in_is_a_warning(tmp_path: Path) -> None:
    listed = Terminal(tmp_path, database_url="mysql2://me:secret@db/shop")("list")
    assert listed.exit_code == 0
    assert "Warning: no key is read from DATABASE_URL" in listed.stderr
