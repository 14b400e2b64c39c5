"""Models and readiness as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from app.core.catalogue import Catalogue, describe
from app.errors import ModelNotFound, VersionNotFound
from app.storage.choices import POINTERS
from app.storage.manifest import Assumption
from app.storage.repository import Repository
from tests.runtime.estimators import add, registry
from tests.runtime.test_live import die_in, live
from tests.storage.versions import MANIFEST


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "models")


def test_an_empty_repository_is_ready(repository: Repository) -> None:
    catalogue = Catalogue(registry(repository))
    assert catalogue.models() == {"models": []}
    assert catalogue.readiness() == (True, {"status": "ready", "models": 0, "reasons": []})


def test_models_are_listed_with_versions_states_aliases_and_reasons(repository: Repository) -> None:
    add(repository)
    add(repository, content=b"triples")
    add(repository, "aster")
    (repository.root / POINTERS).write_text(
        '{"default": "flowers", "aliases": {"flowers": {"champion": 1, "best": 1, "challenger": 2}}}'
    )
    reason = "its prediction of recorded example 0 was 3.0, is 4.5; the library versions are those of packing time"
    assert Catalogue(registry(repository)).models() == {
        "models": [
            {
                "name": "aster",
                "default": False,
                "versions": [{"version": 1, "state": "AVAILABLE", "aliases": [], "runtime": "artifact"}],
            },
            {
                "name": "flowers",
                "default": True,
                "versions": [
                    {"version": 1, "state": "AVAILABLE", "aliases": ["best", "champion"], "runtime": "artifact"},
                    {
                        "version": 2,
                        "state": "FAILED",
                        "aliases": ["challenger"],
                        "runtime": "artifact",
                        "reason": reason,
                    },
                ],
            },
        ]
    }


def test_the_process_is_ready_if_all_versions_are_available(repository: Repository) -> None:
    add(repository)
    add(repository)
    assert Catalogue(registry(repository)).readiness() == (True, {"status": "ready", "models": 2, "reasons": []})


@pytest.mark.fault("P12")
def test_a_failed_version_makes_the_process_unready_with_a_reason(repository: Repository) -> None:
    add(repository)
    add(repository, content=b"nonsense")
    assert Catalogue(registry(repository)).readiness() == (
        False,
        {
            "status": "unready",
            "models": 2,
            "reasons": [
                {"model": "flowers", "version": 2, "state": "FAILED", "reason": "there is no estimator nonsense"}
            ],
        },
    )


def test_a_quarantined_version_leaves_the_process_ready_unless_a_setting_forbids_it(repository: Repository) -> None:
    add(repository)
    add(repository)
    served = live(repository)
    served.prove()
    assert Catalogue(served).readiness() == (True, {"status": "ready", "models": 2, "reasons": []})
    die_in(served, ("flowers", 2))
    ready, document = Catalogue(served).readiness()
    assert (ready, document["status"]) == (True, "ready")
    assert [(each["version"], each["state"]) for each in document["reasons"]] == [(2, "QUARANTINED")]
    strict, document = Catalogue(served, ready_in_quarantine=False).readiness()
    assert (strict, document["status"]) == (False, "unready")
    die_in(served, ("flowers", 1))
    assert not Catalogue(served).readiness()[0]  # nothing else is served


def test_a_model_is_described_by_its_current_version(repository: Repository) -> None:
    add(repository)
    add(repository)
    add(repository, content=b"nonsense")
    catalogue = Catalogue(registry(repository))
    described = catalogue.model("flowers")
    assert (described["name"], described["version"], described["default"]) == ("flowers", 2, True)
    assert [line["state"] for line in described["versions"]] == ["AVAILABLE", "AVAILABLE", "FAILED"]
    assert described["examples"][0] == {"instance": {"x": 1.5}, "prediction": 3.0}
    assert catalogue.model("flowers", "1")["version"] == 1


def test_a_failed_version_is_described_as_far_as_possible(repository: Repository) -> None:
    add(repository, content=b"nonsense")
    add(repository)
    (repository.root / "flowers" / "2" / "manifest.json").write_bytes(b"{")
    catalogue = Catalogue(registry(repository))
    known, unknown = catalogue.model("flowers", "1"), catalogue.model("flowers", "2")
    assert (known["state"], known["reason"]) == ("FAILED", "there is no estimator nonsense")
    assert known["inputs"][0]["name"] == "x"
    assert (unknown["state"], "inputs" in unknown) == ("FAILED", False)
    assert unknown["reason"].startswith("manifest.json is damaged or was replaced")


def test_missing_models_and_versions_are_not_found(repository: Repository) -> None:
    add(repository)
    catalogue = Catalogue(registry(repository))
    with pytest.raises(ModelNotFound):
        catalogue.model("trees")
    with pytest.raises(VersionNotFound):
        catalogue.model("flowers", "2")


def test_a_manifest_is_described_for_clients() -> None:
    described = describe(MANIFEST)
    assert described["inputs"] == described["signature"]["inputs"]
    assert described["runtime"] == MANIFEST.runtime
    assert described["inputs"] == [
        {"name": "length", "kind": "number", "nullable": False, "minimum": 0.5, "maximum": 9.5, "example": 1.5},
        {"name": "colour", "kind": "category", "nullable": True, "categories": ("red", "grün"), "unseen": "reject"},
    ]
    assert described["outputs"] == ["prediction", "probabilities"]
    assert described["classes"] == ("no", "yes")
    assert described["examples"][1] == {
        "instance": {"length": 2, "colour": None},
        "prediction": "no",
        "probabilities": [1.0, 0.0],
    }
    assert described["environment"] == {"python": "3.11.7", "scikit-learn": "1.9.1"}
    for known in ("task", "estimator", "created", "examples_made_up", "sha256", "proof"):
        assert known in described


def test_assumptions_of_packing_are_described_for_clients() -> None:
    assert describe(MANIFEST)["assumptions"] == []
    assumed = (
        Assumption("inputs", "input length: assumed to be float64", ("length",)),
        Assumption("sample", "read so"),
    )
    assert describe(replace(MANIFEST, assumptions=assumed))["assumptions"] == [
        {"about": "inputs", "text": "input length: assumed to be float64", "inputs": ["length"]},
        {"about": "sample", "text": "read so"},
    ]


def test_a_model_without_classes_has_no_such_key(repository: Repository) -> None:
    assert "classes" not in describe(add(repository))


def test_descriptions_are_plain_json(repository: Repository) -> None:
    add(repository)
    catalogue = Catalogue(registry(repository))
    for document in (catalogue.models(), catalogue.model("flowers"), catalogue.readiness(), describe(MANIFEST)):
        assert json.loads(msgspec.json.encode(document))
