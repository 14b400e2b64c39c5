"""The states of versions in a process: loaded, proven and leased, or failed with a reason."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from app.errors import InvalidRepository, ModelNotFound, ModelUnavailable, PackingRefused, VersionNotFound
from app.runtime.entry import Entry
from app.runtime.policy import MOVES, State
from app.runtime.registry import Registry
from app.runtime.servable import Servable
from app.signature import Signature
from app.storage.choices import POINTERS
from app.storage.manifest import Example
from app.storage.repository import Repository
from tests.runtime.estimators import SIGNATURE, Packer, WordLoader, add, registry, version_loader, with_libraries
from tests.storage.versions import ARTIFACT, edit

ASKERS = 6


class OddLoader(WordLoader):
    """Raise an exception that is not a RetortError."""

    def __call__(self, stream: BinaryIO, signature: Signature) -> Servable:
        if stream.read() == b"odd":
            raise KeyError("petal")
        stream.seek(0)
        return super().__call__(stream, signature)


class Vanishing(Repository):
    """A repository whose model is removed right after it was listed."""

    def models(self) -> list[str]:
        return [*super().models(), "vanished"]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "models")


def states(of: Registry) -> dict[str, list[str]]:
    return {model: [entry.state.value for entry in entries] for model, entries in of.entries().items()}


def reason(of: Registry, model: str = "flowers", version: int = 1) -> str:
    entry = of.entry(model, str(version))
    assert entry.state is State.FAILED
    assert entry.lease is None
    assert entry.reason
    return entry.reason


def predict(of: Registry, model: str | None = None, version: str | None = None) -> tuple[str, int, list[float]]:
    with of.lease(model, version) as lease:
        outputs = lease.servable.run(lease.validator.validate([{"x": 5}]), ["prediction"])
        return lease.manifest.model, lease.manifest.version, outputs["prediction"].tolist()


def place(repository: Repository, path: str, content: bytes = b"doubles") -> Path:
    stray = repository.root / path
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(content)
    return stray


def test_an_empty_repository_has_no_models(repository: Repository) -> None:
    served = registry(repository)
    assert served.entries() == {}
    assert served.default() is None
    with pytest.raises(ModelNotFound) as caught:
        served.lease(None)
    assert caught.value.known == ()


def test_a_model_that_is_removed_while_it_is_loaded_is_not_found(repository: Repository) -> None:
    add(repository)
    served = registry(Vanishing(repository.root))
    assert states(served) == {"flowers": ["AVAILABLE"]}
    with pytest.raises(ModelNotFound):
        served.entry("vanished")


def test_a_sound_version_is_available_and_answers(repository: Repository) -> None:
    add(repository)
    served = registry(repository)
    assert states(served) == {"flowers": ["AVAILABLE"]}
    assert predict(served, "flowers", "1") == predict(served, "flowers") == predict(served) == ("flowers", 1, [10.0])


@pytest.mark.slow
@pytest.mark.fault("P09")
def test_loading_runs_no_model_and_proving_runs_each_once(repository: Repository) -> None:
    add(repository)
    add(repository, content=b"raises")
    loader = WordLoader()
    served = registry(repository, loader)
    served.load()
    assert (len(loader.made), loader.runs) == (2, [])
    served.prove()
    assert loader.runs == [2, 2]


def test_loading_and_proving_again_does_nothing(repository: Repository) -> None:
    add(repository)
    loader = WordLoader()
    served = registry(repository, loader)
    for _ in range(2):
        served.load()
        served.prove()
    served.entries()
    served.lease("flowers")
    assert (len(loader.made), loader.runs) == (1, [2])


def test_versions_that_were_loaded_before_a_fork_are_not_loaded_again(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(repository)
    loader = WordLoader()
    served = registry(repository, loader)
    served.load()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert predict(served) == ("flowers", 1, [10.0])
    assert (len(loader.made), loader.runs) == (1, [2, 1])


def test_any_exception_of_a_loader_leaves_the_other_models_served(
    repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    add(repository, content=b"odd")
    add(repository, "trees")
    served = registry(repository, OddLoader())
    assert states(served) == {"flowers": ["FAILED"], "trees": ["AVAILABLE"]}
    assert reason(served) == "it cannot be loaded (KeyError); the log has the cause"
    assert 'raise KeyError("petal")' in caplog.text


def test_concurrent_first_requests_share_one_loading(repository: Repository) -> None:
    add(repository)
    loader, gate = WordLoader(), threading.Barrier(ASKERS)
    served = registry(repository, loader)

    def ask(_: int) -> tuple[str, int, list[float]]:
        gate.wait()
        return predict(served)

    with ThreadPoolExecutor(ASKERS) as pool:
        assert set(map(repr, pool.map(ask, range(ASKERS)))) == {repr(("flowers", 1, [10.0]))}
    assert len(loader.made) == 1


def test_a_version_without_examples_is_available_without_having_run(repository: Repository) -> None:
    add(repository, content=b"raises", examples=())
    assert states(registry(repository)) == {"flowers": ["AVAILABLE"]}


@pytest.mark.slow
@pytest.mark.fault("M01")
def test_a_damaged_file_fails_only_its_version(repository: Repository) -> None:
    add(repository)
    add(repository, "trees")
    path = repository.folder("flowers", 1) / ARTIFACT
    path.write_bytes(b"Doubles")
    served = registry(repository)
    assert reason(served).startswith(f"{ARTIFACT} is damaged or was replaced")
    assert states(served) == {"flowers": ["FAILED"], "trees": ["AVAILABLE"]}
    assert predict(served, "trees") == ("trees", 1, [10.0])


@pytest.mark.fault("M01", "M04")
def test_a_damaged_file_never_reaches_a_loader(repository: Repository) -> None:
    add(repository)
    (repository.folder("flowers", 1) / ARTIFACT).write_bytes(b"triples")
    loader = WordLoader()
    registry(repository, loader).prove()
    assert loader.made == []


@pytest.mark.fault("M03")
def test_other_predictions_fail_with_the_changed_versions(repository: Repository) -> None:
    add(repository, content=b"triples", environment=with_libraries(scikit_learn="0.1", numpy="1.0"))
    said = reason(registry(repository))
    assert said.startswith("its prediction of recorded example 0 was 3.0, is 4.5; since packing, ")
    assert "scikit-learn was 0.1, is " in said
    assert "numpy was 1.0, is " in said
    assert "pandas" not in said


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"format": "pmml"}, "no loader for the format 'pmml'"),
        ({"content": b"nonsense"}, "there is no estimator nonsense"),
        ({"content": b"raises"}, "it fails on its recorded examples (ValueError: this is not for clients); the "),
        ({"examples": (Example({"y": 1}, {"prediction": 1.0}),)}, "its recorded examples are not accepted: 2 values"),
        ({"artifact": "../flowers.joblib"}, "the manifest lists no hash for "),
    ],
)
def test_a_version_that_cannot_be_served_has_a_reason(
    repository: Repository, facts: dict[str, object], message: str
) -> None:
    add(repository, **facts)  # type: ignore[arg-type]
    assert reason(registry(repository)).startswith(message)


def test_an_input_of_a_kind_that_this_release_does_not_know_fails_only_its_version(repository: Repository) -> None:
    image = replace(SIGNATURE, inputs=(replace(SIGNATURE.inputs[0], kind="image"),))
    add(repository, "pictures", signature=image)
    add(repository)
    served = registry(repository)
    assert "image" in reason(served, "pictures")
    assert predict(served, "flowers") == ("flowers", 1, [10.0])


@pytest.mark.slow
@pytest.mark.fault("M01")
def test_a_manifest_with_any_byte_changed_fails_only_its_version(repository: Repository) -> None:
    add(repository, "trees")
    add(repository)
    path = repository.folder("flowers", 1) / "manifest.json"
    sound = path.read_bytes()
    ends = set()
    for position in range(0, len(sound), 4):
        flipped = sound[position] ^ (0x81 if position % 8 else 0x01)
        path.write_bytes(sound[:position] + bytes([flipped]) + sound[position + 1 :])
        ends.add(version_loader(repository).tried("flowers", 1).state)
    assert ends == {State.FAILED}


@pytest.mark.slow
def test_the_newest_available_version_is_current_and_others_can_be_leased(repository: Repository) -> None:
    add(repository)
    add(repository)
    add(repository, content=b"triples")
    served = registry(repository)
    assert states(served) == {"flowers": ["AVAILABLE", "AVAILABLE", "FAILED"]}
    assert predict(served) == ("flowers", 2, [10.0])
    assert predict(served, "flowers", "1") == ("flowers", 1, [10.0])
    assert served.entry("flowers").version == 2
    with pytest.raises(ModelUnavailable) as caught:
        served.lease("flowers", "3")
    assert (caught.value.version, caught.value.reason) == (3, reason(served, version=3))


@pytest.mark.slow
def test_the_newest_version_gives_the_reason_if_none_is_available(repository: Repository) -> None:
    add(repository, content=b"raises")
    add(repository, content=b"triples")
    served = registry(repository)
    assert served.entry("flowers").version == 2
    with pytest.raises(ModelUnavailable) as caught:
        served.lease(None)
    assert (caught.value.version, caught.value.reason) == (2, reason(served, version=2))


@pytest.mark.slow
def test_versions_are_listed_by_number(repository: Repository) -> None:
    for _ in range(11):
        add(repository)
    add(repository, "aster")
    entries = registry(repository).entries()
    assert list(entries) == ["aster", "flowers"]
    assert [entry.version for entry in entries["flowers"]] == [*range(1, 12)]


def test_aliases_name_versions(repository: Repository) -> None:
    add(repository)
    add(repository)
    place(repository, POINTERS, b'{"aliases": {"flowers": {"champion": 1, "gone": 7}}}')
    served = registry(repository)
    assert predict(served, "flowers", "champion") == ("flowers", 1, [10.0])
    assert predict(served, "flowers") == ("flowers", 2, [10.0])
    assert served.aliases("trees") == {}
    for missing in ("gone", "7", "challenger", "01x", ""):
        with pytest.raises(VersionNotFound) as caught:
            served.lease("flowers", missing)
        assert caught.value.known == ("1", "2", "champion")


@pytest.mark.parametrize(
    ("models", "setting", "pointers", "default"),
    [
        (["flowers"], "", b"{}", "flowers"),
        (["flowers", "trees"], "", b"{}", None),
        (["flowers", "trees"], "", b'{"default": "trees"}', "trees"),
        (["flowers", "trees"], "flowers", b'{"default": "trees"}', "flowers"),
        (["flowers", "trees"], "ferns", b'{"default": "trees"}', None),
    ],
)
def test_the_default_model_is_the_setting_or_the_marked_or_the_only_one(
    repository: Repository, models: list[str], setting: str, pointers: bytes, default: str | None
) -> None:
    for model in models:
        add(repository, model)
    place(repository, POINTERS, pointers)
    served = registry(repository, default_model=setting)
    served.prove()
    assert served.default() == default
    if default:
        assert predict(served) == (default, 1, [10.0])
        return
    with pytest.raises(ModelNotFound) as caught:
        served.lease(None)
    assert caught.value.model == (setting or None)
    assert caught.value.known == tuple(models)


def test_an_unknown_model_is_refused_with_the_known_ones(repository: Repository) -> None:
    add(repository)
    with pytest.raises(ModelNotFound) as caught:
        registry(repository).lease("trees", "1")
    assert (caught.value.model, caught.value.known) == ("trees", ("flowers",))


def test_a_stray_has_no_version_in_the_log(repository: Repository, caplog: pytest.LogCaptureFixture) -> None:
    place(repository, "trees.joblib")
    registry(repository).load()
    assert "model trees failed: " in caplog.text


def test_a_stray_in_production_is_refused_with_the_command_that_packs_it(repository: Repository) -> None:
    add(repository)
    stray = repository.shown(place(repository, "my trees.joblib"))
    served = registry(repository)
    assert reason(served, "my-trees") == f"{stray} is not packed; to pack it: flask models add {stray} --name my-trees"
    assert predict(served, "flowers") == ("flowers", 1, [10.0])


def test_a_stray_in_production_leaves_the_only_model_the_default(repository: Repository) -> None:
    add(repository)
    place(repository, "trees.joblib")
    assert predict(registry(repository)) == ("flowers", 1, [10.0])


def test_a_stray_beside_a_packed_version_does_not_take_its_place(repository: Repository) -> None:
    add(repository)
    place(repository, "flowers/retrained.joblib", b"triples")
    served = registry(repository)
    assert states(served) == {"flowers": ["AVAILABLE", "FAILED"]}
    assert predict(served) == ("flowers", 1, [10.0])
    assert "retrained.joblib" in reason(served, version=2)


def test_every_stray_is_reported(repository: Repository) -> None:
    strays = [place(repository, name, name.encode()) for name in ("trees.joblib", "trees.pkl", "trees/a.joblib")]
    reasons = [entry.reason or "" for entry in registry(repository).entries()["trees"]]
    for stray in strays:
        assert any(repository.shown(stray) in told for told in reasons), stray


def test_a_stray_in_development_is_packed_and_served(repository: Repository) -> None:
    stray = place(repository, "trees.joblib")
    packer = Packer(repository)
    served = registry(repository, pack_stray=packer)
    assert predict(served) == ("trees", 1, [10.0])
    assert packer.asked == [(stray, "trees")]
    again = registry(repository, pack_stray=packer)
    assert states(again) == {"trees": ["AVAILABLE"]}
    assert len(packer.asked) == 1


def test_a_stray_that_cannot_be_packed_has_a_reason(repository: Repository) -> None:
    add(repository)
    stray = place(repository, "trees.joblib")
    served = registry(repository, pack_stray=Packer(repository, PackingRefused("it is a dict")))
    assert reason(served, "trees") == f"{repository.shown(stray)} could not be packed: it is a dict"
    assert predict(served, "flowers") == ("flowers", 1, [10.0])


def test_one_version_is_tried_alone(repository: Repository) -> None:
    add(repository)
    add(repository, content=b"triples")
    loader = version_loader(repository)
    assert loader.tried("flowers", 1).state is State.AVAILABLE
    assert loader.tried("flowers", 2).state is State.FAILED
    missing = loader.tried("flowers", 3)
    assert (missing.state, missing.reason) == (
        State.FAILED,
        "model 'flowers' has no version or alias '3'; there are: 1, 2",
    )


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_only_legal_moves_are_made(before: State, after: State) -> None:
    entry = Entry("flowers", 1, before)
    move: Callable[[], Entry] = lambda: entry.moved(after, "a reason")  # noqa: E731
    if after in MOVES[before]:
        assert move().state is after
        assert move().reason == "a reason"
    else:
        with pytest.raises(AssertionError, match="is not a legal move"):
            move()


def test_the_version_in_use_answers_and_the_newest_answers_by_its_number(repository: Repository) -> None:
    for _ in range(2):
        add(repository)
    repository.use("flowers", 1)
    served = registry(repository)
    assert predict(served) == predict(served, "flowers") == ("flowers", 1, [10.0])
    assert predict(served, "flowers", "2") == ("flowers", 2, [10.0])
    assert served.entry("flowers").version == 1


def test_no_other_version_replaces_a_failed_version_in_use(repository: Repository) -> None:
    add(repository)
    add(repository, content=b"raises")
    repository.use("flowers", 2)
    served = registry(repository)
    with pytest.raises(ModelUnavailable) as caught:
        served.lease("flowers")
    assert caught.value.version == 2
    assert predict(served, "flowers", "1") == ("flowers", 1, [10.0])


def test_a_missing_version_in_use_is_named(repository: Repository, caplog: pytest.LogCaptureFixture) -> None:
    add(repository)
    place(repository, POINTERS, b'{"use": {"flowers": 9}}')
    served = registry(repository)
    assert states(served) == {"flowers": ["AVAILABLE", "FAILED"]}
    assert reason(served, version=9).startswith(
        "repository.json has it in use, but it is not there; to choose another: "
    )
    assert "model 'flowers': the version in use is 9, which is not there; there are: 1" in caplog.text
    with pytest.raises(ModelUnavailable):
        served.lease("flowers")


def test_a_staged_version_answers_by_its_number_only(repository: Repository) -> None:
    add(repository)
    place(repository, POINTERS, b'{"staged": {"flowers": [1]}}')
    served = registry(repository)
    for model in (None, "flowers"):
        with pytest.raises(ModelUnavailable, match="flowers"):
            served.lease(model)
    assert predict(served, "flowers", "1") == ("flowers", 1, [10.0])
    add(repository)
    assert predict(registry(repository)) == ("flowers", 2, [10.0])


def test_an_alias_of_a_missing_version_is_named(repository: Repository) -> None:
    add(repository)
    place(repository, POINTERS, b'{"aliases": {"flowers": {"champion": 7}}}')
    with pytest.raises(VersionNotFound, match=r"no version 7, which 'champion' names; there are: 1$"):
        registry(repository).lease("flowers", "champion")


def test_a_reload_keeps_unchanged_versions(repository: Repository) -> None:
    add(repository)
    add(repository, "trees")
    add(repository, "ferns")
    loader = WordLoader()
    served = registry(repository, loader)
    served.load()
    repository.remove("ferns", 1)
    add(repository)
    repository.use("flowers", 1)
    shutil.rmtree(repository.root / "trees" / "1")
    add(repository, "trees", examples=())
    (repository.root / "trees" / "2").rename(repository.root / "trees" / "1")
    edit(repository.root / "trees" / "1", version=1)
    served.reload()
    assert (len(loader.made), loader.runs) == (5, [])
    assert states(served) == {"flowers": ["AVAILABLE", "AVAILABLE"], "trees": ["AVAILABLE"]}
    assert served.entry("trees").manifest == repository.manifest("trees", 1)
    assert predict(served, "flowers") == ("flowers", 1, [10.0])


def test_a_reload_of_pointers_that_cannot_be_read_changes_nothing(repository: Repository) -> None:
    add(repository)
    served = registry(repository)
    served.load()
    add(repository)
    place(repository, POINTERS, b"{")
    with pytest.raises(InvalidRepository):
        served.reload()
    assert predict(served) == ("flowers", 1, [10.0])
    assert states(served) == {"flowers": ["AVAILABLE"]}
