"""Models are loaded and unloaded while processes run, in all processes with the same desired states."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from app.errors import ModelNotFound, ModelQuarantined, ModelUnavailable
from app.runtime import desired_states
from app.runtime.policy import State
from app.runtime.registry import Registry
from app.runtime.servable import Servable
from app.signature import Signature
from app.signature.batch import Batch, Outputs
from app.storage.choices import POINTERS
from app.storage.manifest import Manifest
from app.storage.repository import Repository
from tests.runtime.estimators import WordLoader, add, version_loader
from tests.storage.versions import edit

pytestmark = pytest.mark.slow


class GatedLoader(WordLoader):
    """A loader that waits at a gate while the gate is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.reached = threading.Event(), threading.Event()
        self.open.set()

    def __call__(self, stream: BinaryIO, signature: Signature) -> Servable:
        self.reached.set()
        assert self.open.wait(60)
        return super().__call__(stream, signature)


class GatedRuns:
    """Compose servables that wait at a gate after each run while the gate is closed."""

    def __init__(self) -> None:
        self.open, self.reached = threading.Event(), threading.Event()
        self.open.set()

    def __call__(self, servable: Servable, runtime: str, manifest: Manifest) -> Servable:
        return GatedServable(self, servable)


class GatedServable:
    """A servable of `GatedRuns`."""

    def __init__(self, gate: GatedRuns, servable: Servable) -> None:
        self.gate, self.servable = gate, servable

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        found = self.servable.run(batch, outputs)
        self.gate.reached.set()
        assert self.gate.open.wait(60)
        return found


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "models")
    add(made)
    add(made, "trees")
    return made


def live(
    repository: Repository,
    loader: WordLoader | None = None,
    default_model: str = "",
    beside: Registry | None = None,
    compose: GatedRuns | None = None,
) -> Registry:
    """Return a registry. With `beside`, it has the same desired states as that registry of another worker."""
    desired = None if beside is None else beside._desired
    return Registry(repository, version_loader(repository, loader, compose=compose), default_model, desired)


def beside(one: Registry, default_model: str = "") -> Registry:
    """Return the registry of another worker, after its start."""
    other = live(one._repository, default_model=default_model, beside=one)
    other.prove()
    return other


def predict(of: Registry, model: str | None = None, version: str | None = None) -> tuple[int, list[float]]:
    with of.lease(model, version) as lease:
        outputs = lease.servable.run(lease.validator.validate([{"x": 5}]), ["prediction"])
        return lease.manifest.version, outputs["prediction"].tolist()


def states(of: Registry, model: str = "flowers") -> list[State]:
    return [entry.state for entry in of.entries()[model]]


def test_an_unloaded_model_is_out_of_service_and_others_are_not(repository: Repository) -> None:
    served = live(repository)
    served.unload_model("flowers")
    for version in (None, "1"):
        with pytest.raises(ModelUnavailable):
            served.lease("flowers", version)
    assert predict(served, "trees") == (1, [10.0])
    (entry,) = served.entries()["flowers"]
    assert (entry.state, entry.lease) == (State.RETIRED, None)
    assert "out of service by hand" in str(entry.reason)


@pytest.mark.fault("M07")
def test_an_unloaded_version_is_retired_when_its_last_lease_is_released(repository: Repository) -> None:
    served = live(repository)
    with served.lease("flowers") as lease:
        with served.lease("flowers", "1"):
            served.unload_model("flowers")
            assert states(served) == [State.UNLOADING]
            with pytest.raises(ModelUnavailable):
                served.lease("flowers")
        assert states(served) == [State.UNLOADING]
        assert lease.servable.run(lease.validator.validate([{"x": 5}]), ["prediction"])["prediction"].tolist() == [10.0]
    assert states(served) == [State.RETIRED]


def test_the_end_of_an_old_lease_does_not_retire_a_version_that_is_loaded_again(repository: Repository) -> None:
    served = live(repository)
    with served.lease("flowers"):
        served.unload_model("flowers")
        served.load_model("flowers")
        with served.lease("flowers"):
            served.unload_model("flowers")
            assert states(served) == [State.UNLOADING]
            served._table._retire(served._table.entries["trees"][1])  # an entry that is not being unloaded
        assert states(served) == [State.RETIRED]
        served.load_model("flowers")
    assert states(served) == [State.AVAILABLE]


@pytest.mark.fault("M07")
def test_a_version_that_many_threads_use_is_retired_after_its_unloading(repository: Repository) -> None:
    served = live(repository)
    assert predict(served, "flowers") == (1, [10.0])

    def use_it(_: int) -> int:
        for used in range(1000):
            try:
                with served.lease("flowers"):
                    pass
            except ModelUnavailable:
                return used
        return 1000

    with ThreadPoolExecutor(8) as pool:
        uses = pool.map(use_it, range(8))
        served.unload_model("flowers")
        assert all(0 <= used <= 1000 for used in uses)
    assert states(served) == [State.RETIRED]


def test_a_lease_that_is_withdrawn_while_it_is_requested_is_refused(repository: Repository) -> None:
    served = live(repository)
    served.prove()
    served._table.current["flowers"].withdraw(lambda: None)  # as another thread does after the look-up
    with pytest.raises(ModelUnavailable):
        served.lease("flowers")


def test_a_loaded_model_is_served_again(repository: Repository) -> None:
    loader = WordLoader()
    served = live(repository, loader)
    served.unload_model("flowers")
    served.unload_model("flowers")
    served.load_model("flowers")
    assert predict(served, "flowers") == (1, [10.0])
    assert states(served) == [State.AVAILABLE]
    assert len(loader.made) == 3


def test_loading_a_served_model_loads_new_versions_only(repository: Repository) -> None:
    loader = WordLoader()
    served = live(repository, loader)
    served.prove()
    served.load_model("flowers")
    assert len(loader.made) == 2
    add(repository, content=b"doubles")
    assert predict(served, "flowers")[0] == 1
    served.load_model("flowers")
    assert (len(loader.made), predict(served, "flowers")[0], predict(served, "flowers", "1")[0]) == (3, 2, 1)


def test_a_model_that_was_added_after_the_start_can_be_loaded(repository: Repository) -> None:
    served = live(repository)
    with pytest.raises(ModelNotFound):
        served.lease("late")
    add(repository, "late")
    served.load_model("late")
    assert predict(served, "late") == (1, [10.0])


def test_removed_versions_are_gone_after_loading(repository: Repository) -> None:
    add(repository)
    served = live(repository)
    shutil.rmtree(repository.root / "flowers" / "2")
    served.load_model("flowers")
    assert (predict(served, "flowers")[0], states(served)) == (1, [State.AVAILABLE])


def test_a_model_that_cannot_be_loaded_is_reported(repository: Repository) -> None:
    served = live(repository)
    add(repository, "late", content=b"raises")
    with pytest.raises(ModelUnavailable) as caught:
        served.load_model("late")
    assert "fails on its recorded examples" in caught.value.reason
    for call in (served.load_model, served.unload_model):
        with pytest.raises(ModelNotFound):
            call("nope")


def test_the_default_model_can_be_unloaded_and_loaded(repository: Repository) -> None:
    served = live(repository, default_model="flowers")
    assert predict(served) == (1, [10.0])
    served.unload_model("flowers")
    with pytest.raises(ModelUnavailable):
        served.lease(None)
    served.load_model("flowers")
    assert predict(served) == (1, [10.0])


def test_damaged_pointers_refuse_a_load_and_served_models_stay(
    repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    here = live(repository)
    there = beside(here)
    assert predict(here, "flowers") == (1, [10.0])
    add(repository)
    pointers = repository.root / POINTERS
    pointers.write_text("{")
    with pytest.raises(ModelUnavailable, match="flowers") as caught:
        here.load_model("flowers")
    assert POINTERS in caught.value.reason
    assert f"model flowers is not loaded: {pointers} cannot be read" in caplog.text
    assert predict(here, "flowers") == predict(there, "flowers") == (1, [10.0])
    pointers.unlink()
    here.load_model("flowers")
    assert predict(here, "flowers")[0] == predict(there, "flowers")[0] == 2


def test_pointers_that_are_damaged_after_a_load_stay_as_they_were(
    repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    repository.set_default("trees")
    here = live(repository)
    there = beside(here)
    add(repository)
    here.load_model("flowers")
    (repository.root / POINTERS).write_text("{")
    assert predict(there, "flowers")[0] == 2
    assert (there.default(), predict(there)) == ("trees", (1, [10.0]))
    assert states(there) == [State.AVAILABLE, State.AVAILABLE]
    assert "the default model and the aliases stay as they were" in caplog.text


@pytest.mark.parametrize("wanted", ["", "late"])
def test_a_model_loaded_by_another_worker_becomes_the_default_if_there_was_none(tmp_path: Path, wanted: str) -> None:
    repository = Repository(tmp_path / "empty")
    here = live(repository, default_model=wanted)
    told, asked = (beside(here, default_model=wanted) for _ in range(2))
    with pytest.raises(ModelNotFound):
        asked.lease(None)
    add(repository, "late")
    here.load_model("late")
    assert predict(asked) == predict(here) == (1, [10.0])
    assert told.default() == "late"


def die_in(master: Registry, *ran: tuple[str, int], times: int = 3) -> None:
    """Let as many workers crash in these versions as a quarantine requires."""
    for _ in range(times):
        master.worker_crashed(dict.fromkeys(ran, 1.0))


def test_a_version_that_crashes_workers_is_quarantined_everywhere_and_others_are_not(
    repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    master = live(repository)
    there = beside(master)
    die_in(master, ("flowers", 1), times=2)
    assert predict(there, "flowers") == (1, [10.0])
    die_in(master, ("flowers", 1), times=1)
    for version in (None, "1"):
        with pytest.raises(ModelQuarantined, match="loading it again"):
            there.lease("flowers", version)
    (entry,) = there.entries()["flowers"]
    assert (entry.state, entry.lease) == (State.QUARANTINED, None)
    assert predict(there, "trees") == (1, [10.0])
    assert "model flowers version 1 is quarantined: 3 workers died" in caplog.text


def test_full_memory_does_not_end_the_master(
    repository: Repository, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    master = live(repository)
    monkeypatch.setattr(desired_states, "BUFFER_BYTES", 1)
    die_in(master, ("flowers", 1))
    assert "model flowers version 1 is not quarantined" in caplog.text
    assert predict(master, "flowers") == (1, [10.0])


def test_a_worker_that_is_forked_later_does_not_run_a_quarantined_version(repository: Repository) -> None:
    master, loader = live(repository), WordLoader()
    die_in(master, ("flowers", 1))
    late = live(repository, loader, beside=master)
    late.prove()
    assert states(late) == [State.QUARANTINED]
    assert len(loader.runs) == 1  # the examples of the other model
    with pytest.raises(ModelQuarantined):
        late.lease("flowers")


def test_loading_ends_a_quarantine_and_unloading_a_quarantined_model_retires_it(repository: Repository) -> None:
    master = live(repository)
    there = beside(master)
    for _ in range(2):
        die_in(master, ("flowers", 1))
        with pytest.raises(ModelQuarantined):
            there.lease("flowers")
        there.load_model("flowers")
        assert predict(there, "flowers") == predict(master, "flowers") == (1, [10.0])
    die_in(master, ("flowers", 1))
    there.unload_model("flowers")
    assert states(there) == states(master) == [State.RETIRED]


def test_another_version_answers_if_one_is_quarantined(repository: Repository) -> None:
    add(repository)
    master = live(repository)
    there = beside(master)
    assert predict(there, "flowers")[0] == 2
    die_in(master, ("flowers", 2))
    assert predict(there, "flowers")[0] == 1
    with pytest.raises(ModelQuarantined):
        there.lease("flowers", "2")
    die_in(master, ("flowers", 1))
    with pytest.raises(ModelQuarantined):
        there.lease("flowers")
    add(repository)
    there.load_model("flowers")
    assert predict(there, "flowers")[0] == 3


def test_a_version_that_is_quarantined_after_it_was_loaded_again_is_not_run(repository: Repository) -> None:
    master = live(repository)
    there = beside(master)
    die_in(master, ("flowers", 1))
    with pytest.raises(ModelQuarantined):
        there.lease("flowers")
    master.load_model("flowers")
    die_in(master, ("flowers", 1))
    with pytest.raises(ModelQuarantined):  # both in one check
        there.lease("flowers")


@pytest.mark.parametrize(("culprit", "other"), [(1, 2), (2, 1)])
def test_a_version_that_is_quarantined_while_its_model_is_loaded_again_stays_quarantined(
    repository: Repository, culprit: int, other: int
) -> None:
    master, gate = live(repository), GatedRuns()
    there = live(repository, beside=master, compose=gate)
    there.prove()
    add(repository)
    master.load_model("flowers")
    gate.open.clear()
    gate.reached.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(predict, there, "flowers")
        try:
            assert gate.reached.wait(60)  # it has run the examples of the new version 2
            die_in(master, ("flowers", culprit))
            there.lease("trees")  # another request makes this worker check the desired states
        finally:
            gate.open.set()
        assert first.result(10)[0] == other
    with pytest.raises(ModelQuarantined):
        there.lease("flowers", str(culprit))
    assert sorted(states(there), key=str) == [State.AVAILABLE, State.QUARANTINED]


def test_other_workers_follow_at_their_next_request(repository: Repository) -> None:
    here = live(repository)
    there = beside(here)
    here.unload_model("flowers")
    with pytest.raises(ModelUnavailable):
        there.lease("flowers")
    add(repository)
    here.load_model("flowers")
    assert predict(there, "flowers")[0] == predict(here, "flowers")[0] == 2
    assert states(there) == [State.AVAILABLE, State.AVAILABLE]


def test_a_model_that_another_worker_loaded_and_unloaded_is_not_found(repository: Repository) -> None:
    here = live(repository)
    there = beside(here)
    add(repository, "late")
    here.load_model("late")
    here.unload_model("late")
    for ask in (there.lease, there.entry):
        with pytest.raises(ModelNotFound, match="there are: flowers, trees"):
            ask("late")
    die_in(here, ("late", 1))
    assert list(there.entries()) == ["flowers", "trees"]
    there.load_model("late")
    assert predict(there, "late") == predict(here, "late") == (1, [10.0])


def test_a_model_that_only_another_worker_has_loaded_can_be_unloaded(repository: Repository) -> None:
    here = live(repository)
    there = beside(here)
    add(repository, "late")
    here.load_model("late")
    there.unload_model("late")
    with pytest.raises(ModelUnavailable):
        here.lease("late")


def test_a_worker_that_is_forked_later_follows_earlier_changes(repository: Repository) -> None:
    here = live(repository)
    here.unload_model("flowers")
    late = beside(here)
    with pytest.raises(ModelUnavailable):
        late.lease("flowers")
    assert [entry.state for entry in late.entries()["trees"]] == [State.AVAILABLE]


def test_requests_for_other_models_do_not_wait_for_a_model_that_is_loading(repository: Repository) -> None:
    here, loader = live(repository), GatedLoader()
    there = live(repository, loader, beside=here)
    there.prove()
    add(repository)
    here.load_model("flowers")
    loader.open.clear()
    loader.reached.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(predict, there, "flowers")
        try:
            assert loader.reached.wait(60)
            assert predict(there, "trees") == (1, [10.0])
            assert predict(there, "flowers")[0] == 1  # the served version continues until the new one is ready
        finally:
            loader.open.set()
        assert first.result(10)[0] == 2
    assert predict(there, "flowers")[0] == 2


def test_a_model_that_is_requested_again_while_it_loads_is_loaded(repository: Repository) -> None:
    loader = GatedLoader()
    served = live(repository, loader)
    served.unload_model("flowers")
    loader.open.clear()
    loader.reached.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(served.load_model, "flowers")
        try:
            assert loader.reached.wait(60)
            served._desired.set_served("flowers", served=True)  # another worker got the same request
            served.lease("trees")  # another request makes this worker check the desired states
        finally:
            loader.open.set()
        first.result(10)
    assert predict(served, "flowers") == (1, [10.0])


def test_a_model_that_is_to_be_loaded_is_known_before_its_next_lease(repository: Repository) -> None:
    here = live(repository)
    there = beside(here)
    here.load_model("flowers")
    assert there.may_load("flowers")
    assert there.may_load("trees")  # no request has checked the desired states yet
    predict(there, "trees")
    assert not there.may_load("trees")
    assert there.may_load("flowers")


def test_loading_applies_the_version_in_use_in_all_workers(repository: Repository) -> None:
    add(repository)
    here = live(repository)
    there = beside(here)
    assert predict(here, "flowers")[0] == 2
    repository.use("flowers", 1)
    repository.set_alias("trees", "champion", 1)
    here.load_model("flowers")
    assert predict(here, "flowers")[0] == predict(there, "flowers")[0] == 1
    assert here.aliases("trees") == there.aliases("trees") == {}
    repository.roll_back("flowers")
    there.load_model("flowers")
    assert predict(here, "flowers")[0] == predict(there, "flowers")[0] == 2


def test_loading_compares_the_content_of_versions_and_not_their_numbers(repository: Repository) -> None:
    loader = WordLoader()
    served = live(repository, loader)
    served.prove()
    shutil.rmtree(repository.root / "flowers")
    add(repository, content=b"triples", examples=())
    (repository.root / "flowers" / "2").rename(repository.root / "flowers" / "1")
    edit(repository.root / "flowers" / "1", version=1)
    served.load_model("flowers")
    assert predict(served, "flowers") == (1, [15.0])


def test_missing_versions_in_repository_json_are_logged_when_a_model_is_loaded(
    repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    served = live(repository)
    served.prove()
    (repository.root / POINTERS).write_text('{"aliases": {"flowers": {"champion": 7}}}')
    served.load_model("flowers")
    assert "model 'flowers': alias 'champion' is 7, which is not there; there are: 1" in caplog.text
    assert predict(served, "flowers")[0] == 1
