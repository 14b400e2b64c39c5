"""Tests of every kind of input in every media type: the same response as in JSON, or a refusal.

docs/media-types.md has a table of media types and kinds, which is compared with these tests.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from tests.wire.codecs import bodies
from tests.wire.codecs.cases import CASES, MEDIA, REFUSED, UNTYPED, Record, as_numpy_would
from tests.wire.codecs.conftest import sent
from tests.wire.exchange import Answer

PAGE = Path(__file__).resolve().parents[3] / "docs" / "media-types.md"


def told(answer: Answer) -> Any:
    """Return a response without its id and without the values in it: bytes are shown differently from base64."""
    document = answer.document
    errors = [(error["pointer"], error["detail"]) for error in document.pop("errors", [])]
    return {name: value for name, value in document.items() if name != "request_id"}, errors


def same_as_json(service: Flask, media: str, model: str, records: list[Record], status: int) -> None:
    """Check the records together and, in a form, one by one."""
    for part in [[record] for record in records] if media == "form" else [records]:
        reference = ("application/json", json.dumps(part[0]).encode()) if media == "form" else bodies.as_json(part)
        answer, expected = sent(service, model, MEDIA[media](part)), sent(service, model, reference)
        assert (answer.status, expected.status) == (status, status), (answer.content, expected.content)
        assert told(answer) == told(expected)


TAKEN = [(kind, media) for kind in CASES for media in MEDIA if (kind, media) not in REFUSED]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "media"), TAKEN)
def test_good_values_get_the_same_answer(service: Flask, kind: str, media: str) -> None:
    case = CASES[kind]
    same_as_json(service, media, case.model, case.good, 200)


@pytest.mark.parametrize(("kind", "media"), [(kind, media) for kind, media in TAKEN if CASES[kind].bad])
def test_bad_values_get_the_same_422(service: Flask, kind: str, media: str) -> None:
    case = CASES[kind]
    for record in case.bad:
        same_as_json(service, media, case.model, [record], 422)


@pytest.mark.parametrize(
    ("kind", "media"), [(kind, media) for kind, media in TAKEN if CASES[kind].bad_types and media not in UNTYPED]
)
def test_values_of_another_type_get_the_same_422(service: Flask, kind: str, media: str) -> None:
    case = CASES[kind]
    for record in case.bad_types:
        same_as_json(service, media, case.model, [record], 422)


@pytest.mark.parametrize(("kind", "media"), REFUSED)
def test_a_value_that_a_media_type_cannot_hold_is_refused_with_a_reason(service: Flask, kind: str, media: str) -> None:
    case = CASES[kind]
    answer = sent(service, case.model, as_numpy_would(media, case.good))
    assert answer.status in {400, 422}
    assert REFUSED[kind, media] in answer.content.decode()


def test_the_table_of_the_docs_matches_these_tests() -> None:
    """Each cell of its table begins with yes or no."""
    lines = PAGE.read_text("utf-8").splitlines()
    begins = next(at for at, line in enumerate(lines) if line.startswith("| kind | JSON"))
    head, _, *rows = [
        [cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[begins : lines.index("", begins)]
    ]
    said = {
        (kind, media): cell
        for row in rows
        for names, cell in zip(head[1:], row[1:], strict=True)
        for media in names.split(", ")
        for kind in row[0].split(", ")
    }
    assert said.keys() == {(kind, media) for kind in CASES for media in MEDIA}
    assert {cell for cell in said if said[cell].startswith("no: ")} == REFUSED.keys()
    assert all(said[cell] == "yes" or said[cell].startswith("yes, ") for cell in TAKEN)
