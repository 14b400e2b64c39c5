"""Choosing the version that answers: use, rollback, aliases, staged versions, history."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.errors import ChoiceRefused, InvalidRepository, ModelNotFound, VersionNotFound
from app.storage.choices import HISTORY, MAX_CHANGES, POINTERS, History, Pointers, author
from app.storage.repository import Repository
from tests.storage.versions import MANIFEST, publish


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Return a repository with three versions of one model, and one version of another."""
    made = Repository(tmp_path / "models")
    for _ in range(3):
        publish(made)
    publish(made, "trees")
    return made


def answers(repository: Repository, model: str = "flowers") -> int | None:
    return repository.pointers().chosen(model, repository.versions(model))


def stage(repository: Repository) -> int:
    with repository.staging() as folder:
        return repository.publish(folder, MANIFEST, answers=False).version


def test_the_newest_answers_until_another_is_chosen(repository: Repository) -> None:
    assert answers(repository) == 3
    repository.use("flowers", 1)
    publish(repository)
    assert (answers(repository), repository.pointers().use) == (1, {"flowers": 1})
    repository.use("flowers", None)
    assert (answers(repository), repository.pointers()) == (4, Pointers())


def test_a_missing_version_cannot_be_chosen(repository: Repository) -> None:
    with pytest.raises(VersionNotFound):
        repository.use("flowers", 9)
    with pytest.raises(VersionNotFound):
        repository.set_alias("flowers", "champion", 9)
    for choose in (repository.roll_back, repository.set_default, repository.history):
        with pytest.raises(ModelNotFound):
            choose("ferns")
    with pytest.raises(ModelNotFound):
        repository.use("ferns", None)
    assert not (repository.root / POINTERS).exists()


def test_a_rollback_goes_back_step_by_step(repository: Repository) -> None:
    repository.use("flowers", 1)
    repository.use("flowers", 3)
    assert [repository.roll_back("flowers") for _ in range(3)] == [1, 3, 2]
    assert answers(repository) == 2
    publish(repository)  # one version is in use, so this one does not answer
    assert repository.roll_back("flowers") == 1
    with pytest.raises(ChoiceRefused, match=r"^flowers has nothing to roll back to"):
        repository.roll_back("flowers")
    with pytest.raises(ChoiceRefused):
        repository.roll_back("trees")


def test_a_rollback_skips_removed_versions(repository: Repository) -> None:
    repository.remove("flowers", 2)
    assert repository.roll_back("flowers") == 1


def test_a_rollback_of_versions_without_a_history_takes_the_next_older(repository: Repository) -> None:
    (repository.root / HISTORY).unlink()
    assert repository.roll_back("flowers") == 2


def test_a_staged_version_answers_once_it_is_in_use(repository: Repository) -> None:
    assert (stage(repository), answers(repository)) == (4, 3)
    publish(repository)
    assert (answers(repository), repository.pointers().staged) == (5, {"flowers": (4,)})
    repository.use("flowers", 4)
    assert (answers(repository), repository.pointers().staged) == (4, {})
    assert repository.roll_back("flowers") == 5


def test_a_rollback_does_not_choose_a_staged_version(repository: Repository) -> None:
    stage(repository)
    publish(repository)
    (repository.root / HISTORY).unlink()
    assert repository.roll_back("flowers") == 3


def test_aliases_are_moved_and_removed(repository: Repository) -> None:
    repository.set_alias("flowers", "champion", 1)
    repository.set_alias("flowers", "champion", 2)
    repository.set_alias("flowers", "challenger", 3)
    assert repository.pointers().aliases == {"flowers": {"champion": 2, "challenger": 3}}
    repository.set_alias("flowers", "champion", None)
    assert repository.pointers().aliases == {"flowers": {"challenger": 3}}
    with pytest.raises(ChoiceRefused, match=r"^flowers has no alias 'champion'; there are: challenger$"):
        repository.set_alias("flowers", "champion", None)


@pytest.mark.parametrize("alias", ["", "7", "newest", "a b", "a/b", "é", "x" * 65])
def test_an_invalid_alias_is_refused(repository: Repository, alias: str) -> None:
    with pytest.raises(ChoiceRefused, match=r"^alias "):
        repository.set_alias("flowers", alias, 1)


def test_the_history_has_author_change_and_answering_version(repository: Repository) -> None:
    repository.use("flowers", 1)
    repository.set_default("flowers")
    repository.roll_back("flowers")
    repository.remove("flowers", 2)
    told = [(change.what, change.before, change.after) for change in repository.history("flowers")]
    assert told == [
        ("add 1", None, 1),
        ("add 2", 1, 2),
        ("add 3", 2, 3),
        ("use 1", 3, 1),
        ("default", 1, 1),
        ("rollback to 3", 1, 3),
        ("remove 2", 3, 3),
    ]
    assert {change.who for change in repository.history("flowers")} == {author()}
    assert all(change.when.endswith("+00:00") for change in repository.history("flowers"))


def test_the_history_of_a_removed_model_is_kept(repository: Repository) -> None:
    repository.remove("trees", 1)
    assert [change.what for change in repository.history("trees")] == ["add 1", "remove 1"]


def test_old_changes_are_dropped() -> None:
    history = History()
    for number in range(MAX_CHANGES + 5):
        history = history.with_change("flowers", f"use {number}", None, number)
    assert [change.after for change in history.changes["flowers"]] == [*range(5, MAX_CHANGES + 5)]


def test_a_number_is_never_given_again(repository: Repository) -> None:
    repository.remove("flowers", 3)
    assert publish(repository).version == 4
    shutil.rmtree(repository.root / "flowers" / "4")
    assert publish(repository).version == 5
    shutil.rmtree(repository.root / "flowers")
    assert publish(repository).version == 6
    repository.remove("trees", 1)
    assert publish(repository, "trees").version == 2


def test_a_number_is_not_given_again_where_there_was_no_history_yet(repository: Repository) -> None:
    (repository.root / HISTORY).unlink()
    repository.remove("flowers", 3)
    assert publish(repository).version == 4


def test_the_version_in_use_is_not_removed(repository: Repository) -> None:
    repository.use("flowers", 1)
    with pytest.raises(ChoiceRefused, match=r"flask models use flowers VERSION\|newest"):
        repository.remove("flowers", 1)
    assert repository.versions("flowers") == [1, 2, 3]
    repository.use("trees", 1)
    repository.remove("trees", 1)
    assert repository.pointers() == Pointers(use={"flowers": 1})


def test_a_history_that_cannot_be_read_gives_no_number(repository: Repository) -> None:
    (repository.root / HISTORY).write_text("{")
    with pytest.raises(InvalidRepository, match=r"history\.json cannot be read"):
        publish(repository)
    assert repository.versions("flowers") == [1, 2, 3]


def test_valid_pointers_have_no_problem(repository: Repository) -> None:
    assert repository.problems() == []
    repository.set_alias("flowers", "champion", 1)
    repository.set_default("trees")
    repository.use("flowers", 2)
    stage(repository)
    assert repository.problems() == []


@pytest.mark.parametrize(
    ("pointers", "message"),
    [
        ({"default": "ferns"}, "default: there is no model 'ferns'; there are: flowers, trees"),
        ({"aliases": {"ferns": {"a": 1}}}, "aliases: there is no model 'ferns'; there are: flowers, trees"),
        ({"use": {"ferns": 1}}, "use: there is no model 'ferns'; there are: flowers, trees"),
        ({"staged": {"ferns": [1]}}, "staged: there is no model 'ferns'; there are: flowers, trees"),
        ({"aliases": {"trees": {"a": 7}}}, "model 'trees': alias 'a' is 7, which is not there; there are: 1"),
        ({"use": {"trees": 7}}, "model 'trees': the version in use is 7, which is not there; there are: 1"),
        ({"staged": {"trees": [7]}}, "model 'trees': a staged version is 7, which is not there; there are: 1"),
        ({"aliases": {"trees": {"7": 1}}}, "model 'trees': alias '7' would be mistaken for a version"),
        ({"alias": {}}, "there is no key 'alias'; there are: default, aliases, use, staged"),
    ],
)
def test_each_missing_model_and_version_is_named(repository: Repository, pointers: object, message: str) -> None:
    (repository.root / POINTERS).write_text(json.dumps(pointers))
    assert repository.problems() == [f"{repository.root / POINTERS}: {message}"]


def test_an_unknown_key_is_not_overwritten(repository: Repository) -> None:
    (repository.root / POINTERS).write_text('{"of a later release": 1}')
    with pytest.raises(InvalidRepository, match="there is no key 'of a later release'"):
        repository.use("flowers", 1)
    assert (repository.root / POINTERS).read_text() == '{"of a later release": 1}'


def test_concurrent_changes_lose_nothing(repository: Repository) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: repository.set_alias("flowers", f"a{each}", 1), range(24)))
    assert repository.pointers().aliases["flowers"] == {f"a{each}": 1 for each in range(24)}
    assert len(repository.history("flowers")) == 3 + 24


def test_a_change_leaves_no_temporary_file(repository: Repository) -> None:
    repository.use("flowers", 1)
    names = {path.name for path in repository.root.iterdir()}
    assert names == {"flowers", "trees", POINTERS, HISTORY}
