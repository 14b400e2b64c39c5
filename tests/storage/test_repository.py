"""The repository: listing, publishing and removing versions, aliases, stray artifacts."""

from __future__ import annotations

import errno
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidRepository, ModelNotFound, VersionNotFound
from app.storage import choices
from app.storage.choices import HISTORY, POINTERS, Pointers
from app.storage.manifest import read
from app.storage.repository import STAGING_PREFIX, Repository, is_slug, slug_of, strays
from app.storage.verification import sha256_of, verify_files
from tests.storage.versions import ARTIFACT, MANIFEST, publish

PUBLISHERS = 8


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "models")


def leftovers(repository: Repository) -> list[str]:
    return [path.name for path in repository.root.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["a", "A1", "iris-two", "v1.2_beta-3", "0", "a" * 64])
def test_a_text_of_letters_digits_and_dots_is_a_model_name(name: str) -> None:
    assert is_slug(name)
    assert slug_of(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "-a", "a-", ".hidden", "a b", "a/b", "../a", "é", "a\n", "a" * 65, "a\x00", "a%", "_"]
)
def test_a_text_that_cannot_be_part_of_a_url_is_no_model_name(name: str) -> None:
    assert not is_slug(name)


@given(st.text())
def test_every_text_gives_a_model_name(text: str) -> None:
    assert is_slug(slug_of(text))


@pytest.mark.parametrize(
    ("text", "slug"), [("My model (final)", "My-model-final"), ("...", "model"), ("é", "model"), ("a" * 70, "a" * 64)]
)
def test_the_model_name_of_a_text_is_near_to_it(text: str, slug: str) -> None:
    assert slug_of(text) == slug


def test_a_missing_repository_is_empty(repository: Repository) -> None:
    assert repository.models() == []
    assert repository.versions("flowers") == []
    assert repository.pointers() == Pointers()
    assert strays(repository) == []
    with pytest.raises(ModelNotFound) as caught:
        repository.folder("flowers", 1)
    assert caught.value.known == ()


def test_versions_are_numbered_from_one(repository: Repository) -> None:
    assert [publish(repository).version for _ in range(3)] == [1, 2, 3]
    assert publish(repository, "trees").version == 1
    assert repository.models() == ["flowers", "trees"]
    assert repository.versions("flowers") == [1, 2, 3]


@pytest.mark.fault("M02")
def test_a_published_version_is_whole(repository: Repository) -> None:
    published = publish(repository, content=b"bytes of the artifact")
    folder = repository.folder("flowers", 1)
    assert (folder / ARTIFACT).read_bytes() == b"bytes of the artifact"
    assert repository.manifest("flowers", 1) == read(folder) == published
    verify_files(folder, published)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert leftovers(repository) == []


def test_a_gap_is_not_filled(repository: Repository) -> None:
    for _ in range(3):
        publish(repository)
    repository.remove("flowers", 2)
    assert publish(repository).version == 4
    assert repository.versions("flowers") == [1, 3, 4]


def test_a_folder_without_a_manifest_keeps_its_number(repository: Repository) -> None:
    (repository.root / "flowers" / "7").mkdir(parents=True)
    assert publish(repository).version == 8
    assert repository.versions("flowers") == [8]


def test_concurrent_publishers_get_different_numbers(repository: Repository) -> None:
    gate = threading.Barrier(PUBLISHERS)

    def publish_at_the_gate(number: int) -> tuple[int, bytes]:
        content = b"artifact %d" % number
        gate.wait()
        return publish(repository, content=content).version, content

    with ThreadPoolExecutor(PUBLISHERS) as pool:
        published = dict(pool.map(publish_at_the_gate, range(PUBLISHERS)))
    assert sorted(published) == repository.versions("flowers") == [*range(1, PUBLISHERS + 1)]
    for version, content in published.items():
        folder = repository.folder("flowers", version)
        assert (folder / ARTIFACT).read_bytes() == content
        verify_files(folder, repository.manifest("flowers", version))
    assert leftovers(repository) == []


def test_nothing_is_left_of_a_version_that_was_not_published(repository: Repository) -> None:
    def fail() -> None:
        with repository.staging() as folder:
            (folder / ARTIFACT).write_bytes(b"half a model")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(repository.root.iterdir()) == []


@pytest.mark.fault("M02")
def test_a_version_being_put_together_is_hidden(repository: Repository) -> None:
    with repository.staging() as folder:
        (folder / ARTIFACT).write_bytes(b"")
        (folder / "manifest.json").write_bytes(b"{}")
        assert repository.models() == []
        assert strays(repository) == []


def test_an_error_in_publishing_leaves_nothing(repository: Repository) -> None:
    repository.root.mkdir()
    (repository.root / "flowers").write_bytes(b"a file where the model's folder should be")
    with pytest.raises(OSError, match="flowers"):
        publish(repository)
    assert leftovers(repository) == []


@pytest.mark.fault("S03")
def test_a_full_disk_is_named_and_leaves_nothing(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(choices, "write", refuse)
    with pytest.raises(OSError, match=f"No space left on device: '{repository.root}'"):
        publish(repository)
    assert list(repository.root.iterdir()) == []


def test_other_files_and_folders_are_ignored(repository: Repository) -> None:
    publish(repository)
    root = repository.root
    (root / "README.md").write_text("about these models")
    (root / "not a slug" / "1").mkdir(parents=True)
    (root / "not a slug" / "1" / "manifest.json").write_bytes(b"{}")
    (root / "empty").mkdir()
    for name in ("0", "01", "-1", "1.0", "latest", "1" * 10, "\uff12"):
        (root / "flowers" / name).mkdir()
        (root / "flowers" / name / "manifest.json").write_bytes(b"{}")
    (root / "flowers" / "9").mkdir()
    (root / "linked").symlink_to(root / "flowers")
    (root / "flowers" / "5").symlink_to(root / "flowers" / "1")
    assert repository.models() == ["flowers"]
    assert repository.versions("flowers") == [1]


@pytest.mark.parametrize("name", ["..", "../models", "flowers/1", "", "flowers/../flowers"])
@pytest.mark.fault("X04")
def test_a_path_is_not_a_model_name(repository: Repository, name: str) -> None:
    publish(repository)
    assert repository.versions(name) == []
    with pytest.raises(ModelNotFound):
        repository.folder(name, 1)


def test_a_missing_version_is_refused_with_the_existing_ones(repository: Repository) -> None:
    publish(repository)
    publish(repository)
    with pytest.raises(VersionNotFound) as version:
        repository.folder("flowers", 3)
    assert version.value.known == ("1", "2")
    with pytest.raises(ModelNotFound) as model:
        repository.manifest("trees", 1)
    assert model.value.known == ("flowers",)


def test_a_manifest_in_another_versions_folder_is_refused(repository: Repository) -> None:
    publish(repository)
    (repository.root / "flowers" / "1").rename(repository.root / "flowers" / "2")
    with pytest.raises(InvalidRepository, match="that of flowers version 1"):
        repository.manifest("flowers", 2)


def test_removing_a_version_removes_its_aliases(repository: Repository) -> None:
    publish(repository)
    publish(repository)
    (repository.root / POINTERS).write_text(
        '{"default": "flowers", "aliases": {"flowers": {"champion": 1, "challenger": 2}, "trees": {"champion": 1}}}'
    )
    repository.remove("flowers", 1)
    assert repository.versions("flowers") == [2]
    assert repository.pointers() == Pointers("flowers", {"flowers": {"challenger": 2}, "trees": {"champion": 1}})
    assert leftovers(repository) == []


def test_removing_the_last_version_removes_the_model(repository: Repository) -> None:
    publish(repository)
    publish(repository, "trees")
    repository.set_default("flowers")
    repository.remove("flowers", 1)
    assert repository.models() == ["trees"]
    assert repository.pointers() == Pointers()
    assert not (repository.root / "flowers").exists()


def test_removing_the_last_version_of_another_model_keeps_the_default(repository: Repository) -> None:
    publish(repository)
    publish(repository, "trees")
    repository.set_default("flowers")
    repository.remove("trees", 1)
    assert repository.pointers() == Pointers("flowers")


def test_removing_the_last_version_keeps_files_that_were_not_packed(repository: Repository) -> None:
    publish(repository)
    mine = repository.root / "flowers" / "my-only-copy.joblib"
    mine.write_bytes(b"weeks of training")
    repository.remove("flowers", 1)
    assert repository.models() == []
    assert mine.read_bytes() == b"weeks of training"


def test_removing_a_missing_version_changes_nothing(repository: Repository) -> None:
    publish(repository)
    with pytest.raises(VersionNotFound):
        repository.remove("flowers", 2)
    with pytest.raises(ModelNotFound):
        repository.remove("trees", 1)
    assert repository.versions("flowers") == [1]


def test_setting_the_default_model_keeps_the_aliases(repository: Repository) -> None:
    publish(repository)
    (repository.root / POINTERS).write_text('{"aliases": {"flowers": {"champion": 1}}}')
    repository.set_default("flowers")
    assert repository.pointers() == Pointers("flowers", {"flowers": {"champion": 1}})
    assert {path.name for path in repository.root.iterdir()} == {"flowers", POINTERS, HISTORY}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"default": 1}', b'{"aliases": {"a": {"b": "1"}}}', b'{"default": "\xff"}']
)
def test_invalid_pointers_are_refused(repository: Repository, content: bytes) -> None:
    repository.root.mkdir()
    (repository.root / POINTERS).write_bytes(content)
    with pytest.raises(InvalidRepository, match=r"repository\.json cannot be read"):
        repository.pointers()


def test_strays_are_found_with_the_names_that_they_would_get(repository: Repository) -> None:
    root = repository.root
    for place in (
        "top model.joblib",
        "flowers/model.pkl",
        "trees/3/model.skops",
        "a/b/c/too-deep.joblib",
        ".staging-x/model.joblib",
        "notes.txt",
        "model.onnx",
    ):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(place.encode())
    (root / "folder.joblib").mkdir()
    assert strays(repository) == [
        (root / "flowers/model.pkl", "flowers"),
        (root / "top model.joblib", "top-model"),
        (root / "trees/3/model.skops", "trees"),
    ]


def test_a_copy_of_a_packed_artifact_is_not_a_stray(repository: Repository) -> None:
    publish(repository, content=b"packed")
    (repository.root / "flowers" / "flowers.joblib").write_bytes(b"packed")
    (repository.root / "flowers.joblib").write_bytes(b"packed")
    assert strays(repository) == []
    (repository.root / "flowers.joblib").write_bytes(b"trained again")
    (repository.root / "trees.joblib").write_bytes(b"packed")
    assert [path.name for path, _ in strays(repository)] == ["flowers.joblib", "trees.joblib"]


def test_strays_are_found_beside_a_manifest_that_cannot_be_read(repository: Repository) -> None:
    publish(repository)
    (repository.root / "flowers" / "1" / "manifest.json").write_bytes(b"{")
    (repository.root / "flowers.joblib").write_bytes(b"artifact")
    assert strays(repository) == [(repository.root / "flowers.joblib", "flowers")]


def test_a_path_is_shown_without_the_folders_of_this_machine(repository: Repository) -> None:
    assert repository.shown(repository.root / "flowers" / "a.joblib") == "$RETORT_MODELS_DIR/flowers/a.joblib"
    assert Repository(Path("models")).shown(Path("models/a.joblib")) == "models/a.joblib"


def test_staging_makes_the_repository(repository: Repository) -> None:
    with repository.staging() as folder:
        assert folder.parent == repository.root
        assert folder.name.startswith(STAGING_PREFIX)
        (folder / ARTIFACT).write_bytes(b"")
        repository.publish(folder, MANIFEST)
        assert not folder.exists()
    assert sha256_of(repository.root / "flowers" / "1" / ARTIFACT).size_bytes == 0
