"""Each error has facts as attributes, and a message of one sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from app import errors
from app.errors import ABSENT, FieldError, InvalidInstances, RetortError

SAID = [
    (
        errors.DatabaseUnavailable("postgresql://db/shop", "it does not answer"),
        "the database postgresql://db/shop cannot be used: it does not answer",
        {},
    ),
    (
        errors.KeyNotFound("abc"),
        "there is no key with the id 'abc' in the database; see flask keys list",
        {},
    ),
    (
        errors.NoKeys("0.0.0.0"),
        "other machines may reach 0.0.0.0, and there is no API key: make one with `flask keys create --name NAME"
        " --scope predict`, or set HOST=127.0.0.1 to serve this machine alone, or RETORT_PUBLIC=1 to let everybody in",
        {},
    ),
    (
        errors.ModelNotFound("", ["iris", "penguins"]),
        "no model is named, and none is the default one; there are: iris, penguins",
        {"model": "", "known": ("iris", "penguins")},
    ),
    (
        errors.ColumnsMissing("rows.csv lacks a", ["a"], ["b"], "c"),
        "rows.csv lacks a",
        {"features": ("a",), "kept": ("b",), "there": "c"},
    ),
    (
        errors.ModelNotPermitted("b", {"c", "a"}),
        "the request asks for the model 'b'; this key may use: a, c",
        {"model": "b", "permitted": ("a", "c")},
    ),
    (
        errors.InvalidJson("it is empty", 2, 7),
        "the body is not valid JSON: it is empty (line 2, column 7)",
        {"line": 2, "column": 7},
    ),
    (
        errors.InvalidBody("CSV", "a quote is opened and never closed"),
        "the body is not valid CSV: a quote is opened and never closed",
        {"reason": "a quote is opened and never closed"},
    ),
    (InvalidInstances([FieldError("#/x", "is bad")], 1), "1 value is not acceptable", {"total": 1, "more": 0}),
    (
        errors.MalformedRequest("#/inputs/0/shape", "has 0 dimensions"),
        "#/inputs/0/shape has 0 dimensions",
        {},
    ),
    (
        errors.BodyTooLarge(1024),
        "the body is longer than 1024 bytes, the most this server reads;"
        " the server's operator can raise RETORT_BODY_LIMIT_BYTES",
        {},
    ),
    (
        errors.TooManyInstances(11, 10),
        "the request has 11 instances; at most 10 are taken at once: send it in parts;"
        " the server's operator can raise RETORT_MAX_INSTANCES",
        {"rows": 11, "limit_rows": 10},
    ),
    (
        errors.TooManyCharacters(11, 10),
        "the texts of the request have 11 characters; at most 10 are read at once, or as many as the body has bytes"
        " before it is decompressed: send the instances in parts, or without compression; the server's operator can"
        " raise RETORT_MAX_TEXT_CHARS",
        {},
    ),
    (
        errors.TooManyExplanations(11, 10),
        "the request asks for 11 explanations; at most 10 of this model are made at once: send the instances in parts",
        {},
    ),
    (
        errors.TooManyValues(11, 10),
        "the body has 11 values; at most 10 are read at once: send it in parts;"
        " the server's operator can raise RETORT_MAX_VALUES",
        {},
    ),
    (
        errors.UnsupportedMediaType("text/csv", ["application/json"]),
        "Content-Type 'text/csv' is not supported; supported: application/json",
        {"allowed": ("application/json",)},
    ),
    (
        errors.UnsupportedMediaType("br", ["identity"], header="Content-Encoding"),
        "Content-Encoding 'br' is not supported; supported: identity",
        {},
    ),
    (
        errors.UnsupportedMediaType("text/csv", ["application/json"], because="a library is missing"),
        "Content-Type 'text/csv' is not supported (a library is missing); supported: application/json",
        {},
    ),
    (
        errors.NotAcceptable("identity;q=0", ["gzip"], "Accept-Encoding"),
        "Accept-Encoding 'identity;q=0' allows none of the codings that are offered: gzip",
        {},
    ),
    (errors.IncompleteBody(), "the body ended before its declared length", {}),
    (
        errors.NotAcceptable("text/csv", ["application/json", "text/html"]),
        "Accept 'text/csv' allows none of the types that are offered: application/json, text/html",
        {},
    ),
    (
        errors.ModelNotFound("pingu", ["iris", "penguins"]),
        "there is no model 'pingu'; there are: iris, penguins",
        {"model": "pingu", "known": ("iris", "penguins")},
    ),
    (errors.ModelNotFound("pingu", []), "there is no model 'pingu'; the repository is empty", {"known": ()}),
    (
        errors.ModelNotFound(None, ["iris", "penguins"]),
        "no model is the default one; name one in the URL, /models/<name>/predict; there are: iris, penguins",
        {"model": None},
    ),
    (
        errors.VersionNotFound("iris", "9", ["1", "2", "champion"]),
        "model 'iris' has no version or alias '9'; there are: 1, 2, champion",
        {"model": "iris", "version": "9", "known": ("1", "2", "champion")},
    ),
    (
        errors.ModelUnavailable("iris", 3, "it is damaged"),
        "model 'iris' version 3 is not available; GET /models says why",
        {"model": "iris", "version": 3, "reason": "it is damaged"},
    ),
    (
        errors.ModelUnavailable("iris", None, "it is gone"),
        "model 'iris' is not available; GET /models says why",
        {"reason": "it is gone"},
    ),
    (
        errors.ModelFailed("iris", 3, "KeyError: /secret/path"),
        "model 'iris' version 3 could not answer this request",
        {"cause": "KeyError: /secret/path"},
    ),
    (
        errors.DeadlineExceeded(2.5),
        "the request waited 2.5 seconds for the model, the longest it may; send it again later",
        {},
    ),
    (
        errors.DeadlineExceeded(),
        "the request's time ran out while its body was read; send it in parts",
        {},
    ),
    (
        errors.ModelQuarantined("iris", 3, "3 workers died"),
        "model 'iris' version 3 is quarantined: 3 workers died",
        {},
    ),
    (
        errors.StepFailed("enrich", "iris", 3, "KeyError: /secret/path"),
        "step 'enrich' of model 'iris' version 3 could not answer this request",
        {"cause": "KeyError: /secret/path"},
    ),
    (
        errors.StepTimedOut("enrich", "iris", 3),
        "step 'enrich' of model 'iris' version 3 was not done in time; try again later",
        {},
    ),
    (
        errors.InvalidSettings(["A is bad", "B is worse"]),
        "the settings are not usable: A is bad; B is worse",
        {"problems": ("A is bad", "B is worse")},
    ),
    (errors.ChoiceRefused("flowers has nothing to roll back to"), "flowers has nothing to roll back to", {}),
    (errors.InvalidRepository("there is no manifest.json"), "there is no manifest.json", {}),
    (errors.PackingRefused("it is a dict"), "it is a dict", {}),
    (errors.LoadingFailed("it is damaged"), "it is damaged", {}),
    (errors.ScoringRefused("it is no CSV"), "it is no CSV", {}),
    (
        errors.TooManyRejects(11, 10, "out.csv.rejects.ndjson"),
        "11 rows were rejected, more than the limit of 10; out.csv.rejects.ndjson has what is wrong",
        {"rejected": 11, "limit": 10, "rejects": "out.csv.rejects.ndjson"},
    ),
    (
        errors.ScoringCancelled(),
        "the run was stopped; its finished parts are kept, and the same command with --resume goes on",
        {},
    ),
    (errors.NotResumable("the input changed"), "the input changed", {}),
    (
        errors.UploadTooLarge(10),
        "the file for the job is longer than 10 bytes, the most this server stores;"
        " the server's operator can raise RETORT_JOBS_UPLOAD_BYTES",
        {},
    ),
    (errors.JobNotFound("abc"), "you have no job with the id 'abc'; GET /jobs lists yours", {}),
    (
        errors.JobUnfinished("abc", "queued"),
        "the job is queued: its result is there when GET /jobs/abc says done",
        {},
    ),
    (errors.JobFileMissing("no row was rejected"), "no row was rejected", {}),
    (errors.JobsUnavailable("no worker runs"), "no worker runs", {}),
    (
        errors.JobsFull(10),
        "there is no room: the files of all jobs may take 10 bytes; delete jobs with DELETE /jobs/<id>, or the operator"
        " can raise RETORT_JOBS_BYTES",
        {},
    ),
    (
        errors.JobsNotInstalled("huey"),
        "jobs need huey: the operator installs it with pip install huey sqlalchemy alembic",
        {},
    ),
    (
        errors.TooManyJobs(10),
        "10 of your jobs wait or run, the most at once; wait for one to end, or cancel one with DELETE /jobs/<id>",
        {},
    ),
    (
        errors.UrlNotPermitted("input", "https://a/b", ["s3://c/"]),
        "input: jobs may not use the URL 'https://a/b'; those may that begin with: s3://c/ (RETORT_JOBS_URLS)",
        {},
    ),
    (
        errors.IdempotencyKeyReused("abc"),
        "Idempotency-Key: an earlier request with this key asked for something else, and made /jobs/abc; use a new key"
        " for a new job",
        {},
    ),
]


def family(root: type[RetortError] = RetortError) -> Iterator[type[RetortError]]:
    for child in root.__subclasses__():
        if child.__module__.startswith("app."):  # and no error of a test
            yield child
        yield from family(child)


@pytest.mark.parametrize(("error", "sentence", "facts"), SAID, ids=lambda value: type(value).__name__)
def test_errors_have_facts_and_a_message(error: RetortError, sentence: str, facts: dict[str, object]) -> None:
    assert error.detail == str(error) == sentence
    assert {name: getattr(error, name) for name in facts} == facts


def test_every_error_is_tested_here() -> None:
    assert {type(error) for error, *_ in SAID} == set(family())


def test_each_code_belongs_to_one_error_and_its_special_cases() -> None:
    owners = Counter(error.code for error in family())
    assert {code: count for code, count in owners.items() if count > 1} == {"scoring-refused": 2}
    assert errors.ColumnsMissing.code == errors.ScoringRefused.code


@pytest.mark.parametrize("code", {error.code: None for error in family()})
def test_a_code_can_stand_in_a_url(code: str) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)


def test_causes_of_model_failures_are_not_in_the_message() -> None:
    assert "secret" not in errors.ModelFailed("iris", 3, "/secret/path").detail
    assert "secret" not in errors.ModelUnavailable("iris", 3, "/secret/path").detail


@pytest.mark.parametrize(
    ("listed", "total", "sentence"),
    [
        (1, 1, "1 value is not acceptable"),
        (2, 2, "2 values are not acceptable"),
        (100, 100, "100 values are not acceptable"),
        (100, 101, "101 values are not acceptable; the first 100 are listed, 1 more are not"),
        (100, 5000, "5000 values are not acceptable; the first 100 are listed, 4900 more are not"),
    ],
)
def test_the_message_counts_listed_and_further_values(listed: int, total: int, sentence: str) -> None:
    error = InvalidInstances([FieldError(f"#/{position}", "is bad") for position in range(listed)], total)
    assert error.detail == sentence
    assert (len(error.errors), error.total, error.more) == (listed, total, total - listed)


def test_absent_is_not_null() -> None:
    assert FieldError("#/x", "is missing").value is ABSENT
    assert FieldError("#/x", "must not be null", None).value is None
    assert repr(ABSENT) == "ABSENT"
