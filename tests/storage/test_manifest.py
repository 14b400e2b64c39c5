"""A manifest is written and read; invalid ones are refused in one sentence."""

from __future__ import annotations

import dataclasses
import json
import random
import string
import subprocess
from dataclasses import MISSING, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidRepository
from app.signature import Layout
from app.storage.manifest import (
    FORMAT_VERSION,
    Assumption,
    DirectCall,
    Example,
    FileRecord,
    Manifest,
    digest,
    encode,
    read,
    write,
)
from tests.signature.specs import inputs, signature
from tests.storage.versions import MANIFEST

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.one_of(st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=5,
)
MANIFESTS = st.builds(
    Manifest,
    model=TEXTS,
    version=st.integers(1, 10**9),
    created=TEXTS,
    task=TEXTS,
    estimator=TEXTS,
    format=TEXTS,
    artifact=TEXTS,
    files=st.dictionaries(
        TEXTS, st.builds(FileRecord, st.text(string.hexdigits, max_size=64), st.integers(0, 2**40)), max_size=2
    ),
    signature=st.builds(
        lambda specs, layout, classes: replace(signature(*specs), layout=layout, classes=classes),
        st.lists(st.one_of(inputs("number", "a"), inputs("category", "b"), inputs("text", "c")), max_size=3),
        st.sampled_from(Layout),
        st.one_of(st.none(), st.lists(st.one_of(TEXTS, st.integers(0, 9)), max_size=3).map(tuple)),
    ),
    examples=st.lists(
        st.builds(Example, st.dictionaries(TEXTS, JSON, max_size=2), st.dictionaries(TEXTS, JSON, max_size=2)),
        max_size=2,
    ).map(tuple),
    examples_made_up=st.booleans(),
    environment=st.dictionaries(TEXTS, TEXTS, max_size=2),
    proof=st.dictionaries(TEXTS, JSON, max_size=2),
    lean=st.one_of(st.none(), st.builds(DirectCall, st.booleans(), st.booleans())),
    assumptions=st.lists(
        st.builds(Assumption, st.sampled_from(["inputs", "sample", "training environment"]), TEXTS), max_size=2
    ).map(tuple),
)
REQUIRED = [f.name for f in dataclasses.fields(Manifest) if (f.default, f.default_factory) == (MISSING, MISSING)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("version")


def written(folder: Path, document: Any) -> Path:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    (folder / "manifest.sha256").unlink(missing_ok=True)
    (folder / "manifest.json").write_bytes(content)
    return folder


def document(**changes: Any) -> dict[str, Any]:
    return {**json.loads(encode(MANIFEST)), **changes}


@pytest.mark.slow
@given(manifest=MANIFESTS)
def test_a_written_manifest_is_read_back(folder: Path, manifest: Manifest) -> None:
    assert read(written(folder, encode(manifest))) == manifest


def test_the_manifest_is_indented_json() -> None:
    content = encode(MANIFEST)
    assert content.endswith(b"}\n")
    assert len(content.splitlines()) > 50
    assert "grün" in content.decode()


def test_the_manifest_has_its_form() -> None:
    assert document()["manifest_version"] == FORMAT_VERSION == 1


def test_a_direct_call_has_the_key_lean_as_in_older_releases(folder: Path) -> None:
    stored = document(lean={"matrix": True, "unchecked": False})
    manifest = read(written(folder, stored))
    assert manifest.lean == DirectCall(matrix=True, unchecked=False)
    assert json.loads(encode(manifest)) == stored


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRepository, match=r"^there is no manifest.json$"):
        read(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        encode(MANIFEST)[:-40],
        encode(MANIFEST).replace(b"flowers", b"\xff\xfe"),
        b"[" * 100_000,
        document(version="1"),
        document(signature=None),
        document(signature={**document()["signature"], "layout": "cube"}),
        document(files={"model.joblib": {"sha256": "00"}}),
        document(examples=[{"instance": 1, "outputs": {}}]),
    ],
    ids=range(13),
)
def test_json_that_is_not_a_manifest_is_refused(folder: Path, content: Any) -> None:
    with pytest.raises(InvalidRepository, match=r"^manifest.json cannot be read: "):
        read(written(folder, content))


@pytest.mark.parametrize("field", REQUIRED)
def test_a_manifest_without_a_required_field_is_refused(folder: Path, field: str) -> None:
    lacking = {name: value for name, value in document().items() if name != field}
    with pytest.raises(InvalidRepository, match=field):
        read(written(folder, lacking))


def test_fields_of_a_later_release_are_ignored(folder: Path) -> None:
    assert read(written(folder, document(steps=["clip"], signed_by="me"))) == MANIFEST


def test_a_manifest_of_an_earlier_release_has_no_assumptions(folder: Path) -> None:
    earlier = {name: value for name, value in document().items() if name != "assumptions"}
    assert read(written(folder, earlier)).assumptions == ()


@pytest.mark.parametrize("other", [document(manifest_version=2), {"manifest_version": 2, "name": "flowers"}])
def test_another_form_is_refused_with_its_number(folder: Path, other: dict[str, Any]) -> None:
    with pytest.raises(InvalidRepository, match=r"has form 2; this release of Retort reads form 1$"):
        read(written(folder, other))


def test_a_folder_in_place_of_the_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(InvalidRepository, match="cannot be read"):
        read(tmp_path)


def damaged(sound: bytes, seed: int) -> bytes:
    """Draw the manifest with a byte flipped, a part cut out, a field dropped, or a number or a type changed."""
    drawn = random.Random(seed)
    place = drawn.randrange(len(sound))
    document = json.loads(sound)
    field = drawn.choice(sorted(document))
    match seed % 5:
        case 0:
            return sound[:place] + bytes([sound[place] ^ (1 << drawn.randrange(8))]) + sound[place + 1 :]
        case 1:
            return sound[:place] + sound[place + drawn.randrange(1, 40) :]
        case 2:
            del document[field]
        case 3:
            digits = [position for position, byte in enumerate(sound) if chr(byte).isdigit()]
            place = drawn.choice(digits)
            return sound[:place] + b"%d" % ((sound[place] - 47) % 10) + sound[place + 1 :]
        case _:
            document[field] = drawn.choice([None, 7, "other", [], {}, 1.5, True])
    return json.dumps(document, indent=1).encode()


@pytest.mark.parametrize("seed", range(150))
def test_a_damaged_manifest_is_refused(folder: Path, seed: int) -> None:
    write(folder, MANIFEST)
    (folder / "manifest.json").write_bytes(damaged((folder / "manifest.json").read_bytes(), seed))
    with pytest.raises(InvalidRepository, match=r"^manifest.json is damaged or was replaced: its SHA-256 is "):
        read(folder)


def test_sha256sum_can_check_the_hash(folder: Path) -> None:
    write(folder, MANIFEST)
    subprocess.run(["sha256sum", "--check", "--status", "manifest.sha256"], cwd=folder, check=True)
    assert (folder / "manifest.sha256").read_text().split()[0] == digest(folder)


@pytest.mark.parametrize("recorded", [b"", b"\xff\xfe", b"0" * 64])
def test_a_damaged_hash_is_refused(tmp_path: Path, recorded: bytes) -> None:
    write(tmp_path, MANIFEST)
    (tmp_path / "manifest.sha256").write_bytes(recorded)
    with pytest.raises(InvalidRepository, match="damaged or was replaced"):
        read(tmp_path)


def test_a_manifest_of_an_older_release_has_no_hash(tmp_path: Path) -> None:
    assert read(written(tmp_path, encode(MANIFEST))) == MANIFEST
