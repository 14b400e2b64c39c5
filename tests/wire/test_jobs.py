"""Jobs over HTTP: made, looked up, downloaded, cancelled, refused. A worker in this process does them."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flask.testing import FlaskClient
from werkzeug.test import Client, TestResponse

from app import create_app
from app.jobs import service
from app.jobs.job_folders import JobFolders
from app.settings import Settings
from app.storage.keys import make_key
from tests.jobs.stage import NAMES, RECORDS, penguins, settings, work

KEYS = {
    "one": make_key("one", ["predict"]),
    "two": make_key("two", ["predict"]),
    "iris": make_key("iris", ["predict"], ["iris-two"]),
    "metrics": make_key("metrics", ["metrics"]),
}
GOOD = penguins(50)
LINES = "".join(f"{json.dumps(each)}\n" for each in RECORDS).encode()


class WholeAnswers(FlaskClient):
    """Read each answer to its end, and so close its file."""

    def open(self, *args: Any, **options: Any) -> TestResponse:
        return super().open(*args, buffered=True, **options)


def service_of(at: Settings) -> Client:
    app = create_app(at)
    app.test_client_class = WholeAnswers
    return app.test_client()


@pytest.fixture
def at(tmp_path: Path) -> Settings:
    return settings(tmp_path)


@pytest.fixture
def client(at: Settings) -> Iterator[Client]:
    """Return the service, with a heartbeat of a worker."""
    with JobFolders(at.jobs_folder).working():
        yield service_of(at)


@pytest.fixture
def keyed(at: Settings) -> Iterator[Client]:
    """Return the same service for callers with keys."""
    with JobFolders(at.jobs_folder).working():
        yield service_of(replace(at, api_keys=tuple(stored.entry() for _, stored in KEYS.values())))


def by(key: str) -> dict[str, str]:
    return {"X-API-Key": KEYS[key][0]}


def upload(client: Client, content: bytes = GOOD, name: str = "rows.csv", **options: Any) -> TestResponse:
    """Send a form with a file."""
    headers = options.pop("headers", {})
    return client.post("/jobs", data={"file": (io.BytesIO(content), name), **options}, headers=headers)


def send(client: Client, content: bytes, media_type: str, query: str = "", **headers: str) -> TestResponse:
    """Send a file as the body."""
    return client.post(f"/jobs?{query}", data=content, content_type=media_type, headers=headers)


def refused(answer: TestResponse, status: int, name: str, *words: str) -> None:
    document = answer.get_json()
    assert (answer.status_code, document["type"]) == (status, f"/problems/{name}"), document
    assert answer.mimetype == "application/problem+json"
    for word in words:
        assert word in document["detail"]


def test_a_job_is_taken_done_and_downloaded(client: Client, at: Settings) -> None:
    taken = upload(client, model="penguins", keep="id")
    assert taken.status_code == 202
    job = taken.get_json()
    here = taken.headers["Location"]
    assert here == f"/jobs/{job['id']}" == job["links"]["self"]
    assert (job["state"], job["model"], job["version"], job["keep"]) == ("queued", "penguins", 1, ["id"])
    assert (job["rows"], job["rows_total"]) == (0, None)
    refused(client.get(f"{here}/result"), 409, "job-unfinished", "queued")
    refused(client.get(f"{here}/rejects"), 409, "job-unfinished")
    work(at)

    job = client.get(here).get_json()
    assert (job["state"], job["rows"], job["rows_total"], job["fraction"]) == ("done", 50, 50, 1.0)
    assert job["rejected"] == 0
    assert job["links"] == {"self": here, "result": f"{here}/result"}
    result = client.get(f"{here}/result")
    assert (result.status_code, result.mimetype) == (200, "text/csv")
    assert result.headers["Content-Disposition"] == "attachment; filename=rows-predictions.csv"
    lines = result.get_data(as_text=True).splitlines()
    predicted = client.post(
        "/models/penguins/predict", json=[RECORDS[row % len(RECORDS)] for row in range(50)]
    ).get_json()
    assert lines[0].startswith("id,prediction,probability_Adelie")
    assert [line.split(",")[:2] for line in lines[1:]] == [
        [str(row), label] for row, label in enumerate(predicted["prediction"])
    ]
    refused(client.get(f"{here}/rejects"), 404, "job-file-missing", "no row of the job was rejected")
    assert [each["id"] for each in client.get("/jobs").get_json()["jobs"]] == [job["id"]]
    # Only the result is kept.
    assert [path.name for path in JobFolders(at.jobs_folder).of(job["id"]).iterdir()] == ["result.csv"]


@pytest.mark.fault("S09")
@pytest.mark.slow
def test_ranges_and_etags_of_a_result(client: Client, at: Settings) -> None:
    here = upload(client).headers["Location"]
    work(at)
    whole = client.get(f"{here}/result")
    content, etag = whole.get_data(), whole.headers["ETag"]
    part = client.get(f"{here}/result", headers={"Range": "bytes=10-19", "If-Range": etag})
    assert (part.status_code, part.get_data()) == (206, content[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(content)}"
    assert client.get(f"{here}/result", headers={"If-None-Match": etag}).status_code == 304
    beyond = client.get(f"{here}/result", headers={"Range": "bytes=999999-"})
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{len(content)}")
    for several in ("bytes=0-1,5-6", "rows=0-1", "bytes=5", "nonsense"):
        answer = client.get(f"{here}/result", headers={"Range": several})
        assert (answer.status_code, answer.get_data()) == (200, content)
    head = client.head(f"{here}/result")
    assert (head.status_code, head.content_length, head.get_data()) == (200, len(content), b"")


@pytest.mark.slow
def test_rows_that_cannot_be_scored_are_listed(client: Client, at: Settings) -> None:
    here = upload(client, penguins(3, "x,Mars,1,2,3,4,male,2007")).headers["Location"]
    work(at)
    job = client.get(here).get_json()
    assert (job["state"], job["rows"], job["rejected"]) == ("done", 4, 1)
    rejects = client.get(job["links"]["rejects"])
    assert rejects.mimetype == "application/x-ndjson"
    told = json.loads(rejects.get_data())
    assert told["line"] == 5
    assert "must be one of: Biscoe, Dream, Torgersen" in told["errors"][0]["detail"]


@pytest.mark.slow
def test_a_job_with_too_many_rejects_fails_and_keeps_them(client: Client, at: Settings) -> None:
    here = upload(client, penguins(3, "x,Mars,1,2,3,4,male,2007"), max_rejects="0").headers["Location"]
    work(at)
    job = client.get(here).get_json()
    assert (job["state"], job["rejected"], "result" in job["links"]) == ("failed", 1, False)
    assert job["error"] == f"1 row was rejected, more than max_rejects allows, 0; GET {here}/rejects has them"
    assert b"Mars" in client.get(job["links"]["rejects"]).get_data()
    refused(client.get(f"{here}/result"), 404, "job-file-missing", "the job was failed")


def test_a_job_that_fails_has_a_reason_without_the_paths_of_the_server(
    client: Client, at: Settings, tmp_path: Path
) -> None:
    here = upload(client, penguins(2) + b"x,\xff,1,2,3,4,male,2007\n").headers["Location"]
    work(at)
    job = client.get(here).get_json()
    assert job["state"] == "failed"
    assert "UTF-8" in job["error"]
    assert str(tmp_path) not in job["error"]


def errors_of(answer: TestResponse) -> list[tuple[str, str, Any]]:
    """Return the places of the bad values in a refusal with 422, in the form of a prediction's."""
    refused(answer, 422, "invalid-instances", "not acceptable")
    return [(each["pointer"], each["detail"], each.get("value")) for each in answer.get_json()["errors"]]


def _two_columns() -> pa.Table:
    return pa.table({"id": [1], "island": ["Dream"]})


@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet", "arrow"])
def test_columns_that_a_file_lacks_are_refused_when_a_job_is_made(client: Client, at: Settings, form: str) -> None:
    buffer = io.BytesIO()
    if form == "parquet":
        pq.write_table(_two_columns(), buffer)
    elif form == "arrow":
        with pa.ipc.new_file(buffer, _two_columns().schema) as writer:
            writer.write_table(_two_columns())
    else:
        buffer.write(gzip.compress(b"id,island\n") if form.endswith("gz") else b"id,island\n")
    *features, kept = errors_of(upload(client, buffer.getvalue(), f"rows.{form}", keep="id,ident"))
    assert [pointer for pointer, _, _ in features] == [f"#/file/{name}" for name in NAMES if name != "island"]
    missing = "is missing: every feature of the model is needed, null if not known; the file has: id, island"
    assert {detail for _, detail, _ in features} == {missing}
    assert kept == ("#/keep/1", "must be a column of the file, which has: id, island", "ident")
    assert client.get("/jobs").get_json()["jobs"] == []
    assert JobFolders(at.jobs_folder).ids() == []


def test_a_kept_column_may_not_have_the_name_of_an_output(tmp_path: Path) -> None:
    outputs = "prediction, probability_Adelie, probability_Chinstrap, probability_Gentoo"
    expected = [("#/keep/0", f"must not be one of the columns of the answer: {outputs}", "prediction")]
    at = settings(tmp_path, jobs_urls=("s3://bucket/",))
    with JobFolders(at.jobs_folder).working():
        client = service_of(at)
        assert errors_of(upload(client, keep="prediction,id")) == expected
        document = {"input": "s3://bucket/a.csv", "keep": ["prediction"], "model": "penguins"}
        assert errors_of(client.post("/jobs", json=document)) == expected


@pytest.mark.parametrize(
    ("content", "name", "word"),
    [
        (b"nothing", "rows.csv.gz", "rows.csv.gz is not whole, or no gzip"),
        (b"PAR1 nothing PAR1", "rows.parquet", "rows.parquet cannot be read"),
        (b'"id,island\n', "rows.csv", "rows.csv: the quote on line 1 is never closed"),
        (b"id," + penguins(1).replace(b"\n", b"\n0,").removesuffix(b"0,"), "rows.csv", "more than one column named id"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_when_a_job_is_made(
    client: Client, content: bytes, name: str, word: str, tmp_path: Path
) -> None:
    answer = upload(client, content, name, keep="id")
    refused(answer, 422, "scoring-refused", word)
    assert str(tmp_path) not in answer.get_data(as_text=True)


def _table() -> pa.Table:
    return pa.table({name: [record[name] for record in RECORDS] for name in NAMES})


def _parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(_table(), sink)
    return sink.getvalue()


def _arrow() -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, _table().schema) as writer:
        writer.write_table(_table())
    return sink.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("media_type", "content", "query", "answered"),
    [
        ("text/csv", GOOD, "", "text/csv"),
        ("text/csv; charset=utf-8", GOOD, "output=csv.gz", "application/gzip"),
        (
            "application/x-ndjson",
            "".join(f"{json.dumps(each)}\n" for each in RECORDS).encode(),
            "",
            "application/x-ndjson",
        ),
        ("application/vnd.apache.parquet", _parquet(), "keep=island", "application/vnd.apache.parquet"),
        ("application/vnd.apache.arrow.file", _arrow(), "output=csv&keep=island&keep=sex", "text/csv"),
        ("text/csv", GOOD, "output=parquet&version=1", "application/vnd.apache.parquet"),
    ],
)
def test_a_body_of_each_type(
    client: Client, at: Settings, media_type: str, content: bytes, query: str, answered: str
) -> None:
    taken = send(client, content, media_type, query)
    assert taken.status_code == 202, taken.get_json()
    work(at)
    job = client.get(taken.headers["Location"]).get_json()
    assert (job["state"], job["error"]) == ("done", None)
    result = client.get(job["links"]["result"])
    assert result.mimetype == answered
    assert result.content_length is not None
    assert result.content_length > 50


@pytest.mark.slow
def test_compressed_bodies_and_files(client: Client, at: Settings) -> None:
    packed = gzip.compress(GOOD)
    first = send(client, packed, "text/csv", **{"Content-Encoding": "gzip"})
    second = upload(client, packed, "rows.csv.gz")
    # Members that decompress to nothing are not the end of the body.
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="rows.csv"\r\n\r\n%s\r\n--b--\r\n' % GOOD
    parts = b"".join(map(gzip.compress, (form[:500], b"", b"", form[500:])))
    third = send(client, parts, "multipart/form-data; boundary=b", **{"Content-Encoding": "gzip"})
    assert [first.status_code, second.status_code, third.status_code] == [202, 202, 202]
    work(at)
    assert {client.get(each.headers["Location"]).get_json()["rows"] for each in (first, second, third)} == {50}


@pytest.mark.fault("S07")
@pytest.mark.slow
def test_the_same_request_with_the_same_key_makes_one_job(client: Client) -> None:
    once = {"Idempotency-Key": "7f3a"}
    first = upload(client, headers=once)
    second = upload(client, headers=once)
    assert (second.status_code, second.get_json()["id"]) == (202, first.get_json()["id"])
    assert len(client.get("/jobs").get_json()["jobs"]) == 1
    refused(upload(client, keep="id", headers=once), 422, "idempotency-key-reused", first.get_json()["id"])
    refused(upload(client, penguins(2), headers=once), 422, "idempotency-key-reused")
    refused(upload(client, headers={"Idempotency-Key": "x" * 256}), 400, "malformed-request", "1 to 255")
    assert upload(client).get_json()["id"] != first.get_json()["id"]


def test_a_waiting_job_is_cancelled_and_an_ended_one_removed(client: Client, at: Settings) -> None:
    here = upload(client).headers["Location"]
    cancelled = client.delete(here)
    assert (cancelled.status_code, cancelled.get_json()["state"]) == (200, "cancelled")
    work(at)
    assert client.get(here).get_json()["state"] == "cancelled"
    refused(client.get(f"{here}/result"), 404, "job-file-missing", "cancelled")
    assert JobFolders(at.jobs_folder).ids() == []
    assert client.delete(here).status_code == 204
    refused(client.get(here), 404, "job-not-found")
    refused(client.delete(here), 404, "job-not-found")


@pytest.mark.slow
def test_jobs_belong_to_the_key_that_made_them(keyed: Client, at: Settings) -> None:
    here = upload(keyed, headers=by("one")).headers["Location"]
    work(at)
    assert keyed.get(f"{here}/result", headers=by("one")).status_code == 200
    for path in (here, f"{here}/result", f"{here}/rejects"):
        refused(keyed.get(path, headers=by("two")), 404, "job-not-found")
        refused(keyed.get(path), 401, "key-required")
        refused(keyed.get(path, headers=by("metrics")), 403, "scope-missing")
    refused(keyed.delete(here, headers=by("two")), 404, "job-not-found")
    assert keyed.get("/jobs", headers=by("two")).get_json()["jobs"] == []
    same = {"Idempotency-Key": "a"}
    mine, theirs = (upload(keyed, headers=by(key) | same).get_json()["id"] for key in ("one", "two"))
    assert mine != theirs


@pytest.mark.slow
def test_a_key_that_is_limited_to_models_scores_with_these_alone(keyed: Client) -> None:
    refused(upload(keyed, headers=by("iris")), 403, "model-not-permitted", "iris-two")
    refused(upload(keyed, model="penguins", headers=by("iris")), 403, "model-not-permitted")
    rows = b"feature1,feature2\n5.1,3.5\n"
    assert upload(keyed, rows, model="iris-two", headers=by("iris")).status_code == 202


def test_refusals_name_the_allowed_values(client: Client, at: Settings) -> None:
    refused(upload(client, model="nothing"), 404, "model-not-found", "penguins")
    refused(upload(client, model="iris-two", version="9"), 404, "version-not-found", "there are: 1")
    refused(upload(client, output="xlsx"), 400, "malformed-request", "output", "csv, ndjson, parquet, arrow")
    refused(upload(client, max_rejects="-1"), 400, "malformed-request", "max_rejects must be a whole number")
    refused(upload(client, colour="red"), 400, "malformed-request", "colour is no field", "max_rejects")
    refused(upload(client, keep="a\0b"), 400, "malformed-request", "keep must not have the character NUL")
    refused(upload(client, b"", name="rows.arrow"), 422, "scoring-refused", "rows.arrow: the file is empty")
    refused(upload(client, name="rows.xlsx"), 422, "scoring-refused", ".parquet")
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\n\r\n--x--\r\n'
    unnamed = client.post("/jobs", data=form, content_type="multipart/form-data; boundary=x")
    refused(unnamed, 400, "malformed-request", "file has no name", "choose a file")
    without = client.post("/jobs", data={"model": "penguins"}, content_type="multipart/form-data; boundary=x")
    refused(without, 400, "malformed-request", "file=@")
    refused(client.post("/jobs", data=b"x", content_type="application/xml"), 415, "unsupported-media-type", "text/csv")
    refused(send(client, GOOD, "text/csv", "model=a&model=b"), 400, "malformed-request", "model is there twice")
    refused(client.post("/jobs", data=b"{", content_type="application/json"), 400, "invalid-json")
    for document, word in [
        ([], "the body must be an object"),
        ({}, "input must be a URL"),
        ({"input": "/etc/passwd"}, "input must be a URL"),
        ({"input": "s3://a/b.csv", "colour": 1}, "colour is no field"),
    ]:
        refused(client.post("/jobs", json=document), 400, "malformed-request", word)
    assert client.get("/jobs").get_json()["jobs"] == []
    assert JobFolders(at.jobs_folder).ids() == []


def test_urls_are_refused_unless_they_are_allowed(tmp_path: Path) -> None:
    at = settings(tmp_path, jobs_urls=("s3://bucket/in/", "https://data.example.org/"))
    with JobFolders(at.jobs_folder).working():
        client = service_of(at)
        for url in ("s3://bucket/secret.csv", "https://169.254.169.254/latest.csv", "file:///etc/passwd.csv"):
            refused(client.post("/jobs", json={"input": url}), 403, "url-not-permitted", "s3://bucket/in/")
        asked = {"input": "s3://bucket/in/rows.csv", "output": "s3://bucket/out/rows.csv"}
        refused(client.post("/jobs", json=asked), 403, "url-not-permitted", "output: ")
        taken = client.post("/jobs", json={"input": "s3://bucket/in/rows.csv", "version": 1, "keep": ["id"]})
        assert (taken.status_code, taken.get_json()["input"]) == (202, "s3://bucket/in/rows.csv")


@pytest.mark.slow
@pytest.mark.fault("S10")
def test_limits_of_jobs(tmp_path: Path) -> None:
    at = settings(tmp_path, jobs_open=1, jobs_bytes=len(GOOD) * 2, jobs_upload_bytes=len(GOOD))
    with JobFolders(at.jobs_folder).working():
        client = service_of(at)
        refused(upload(client, GOOD + b"x" * 100), 413, "upload-too-large", "RETORT_JOBS_UPLOAD_BYTES")
        assert send(client, GOOD, "text/csv").status_code == 202
        full = send(client, GOOD, "text/csv")
        refused(full, 429, "too-many-jobs", "DELETE /jobs/<id>")
        assert full.headers["Retry-After"]
        work(at)
        room = replace(at, jobs_bytes=len(GOOD) + 10)
        refused(send(service_of(room), GOOD, "text/csv"), 507, "jobs-full", "RETORT_JOBS_BYTES")


def test_rows_of_a_job_are_charged(at: Settings) -> None:
    with JobFolders(at.jobs_folder).working():
        client = service_of(replace(at, limit_rows="60/minute"))
        for _ in range(2):  # a repeated request takes nothing
            sent = send(client, GOOD, "text/csv", **{"Idempotency-Key": "once"})
            assert sent.headers["RateLimit"].startswith('"rows per minute";r=9')
        assert send(client, GOOD, "text/csv").status_code == 202
        refused(send(client, GOOD, "text/csv"), 429, "rate-limited", "60 rows per minute")


@pytest.mark.slow
def test_rows_that_the_worker_counts_are_charged_once(at: Settings) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(RECORDS[:1] * 40), sink)
    at = replace(at, api_keys=tuple(stored.entry() for _, stored in KEYS.values()), limit_rows="1000/minute")

    def left(answer: TestResponse) -> int:
        return int(answer.headers["RateLimit"].partition(";r=")[2].partition(";")[0])

    with JobFolders(at.jobs_folder).working():
        client = service_of(at)
        sent = [upload(client, sink.getvalue(), "rows.parquet", headers=by("one")) for _ in range(4)]
        assert [left(answer) for answer in sent] == [1000] * 4
        first, second, third, _ = (answer.headers["Location"] for answer in sent)
        assert left(client.get(first, headers=by("one"))) == 1000
        work(at)
        assert left(client.get("/jobs", headers=by("two"))) == 1000
        # One request about a job charges all jobs of the key.
        assert [left(client.get(first, headers=by("one"))) for _ in range(2)] == [840, 840]
        assert left(client.get(f"{second}/result", headers=by("one"))) == 840
        assert client.delete(third, headers=by("one")).status_code == 204
        # An uploaded text is charged at once; the rows that the worker counts are not charged again.
        text = upload(client, penguins(100), headers=by("one"))
        assert left(text) == 840 - 101
        work(at)
        assert left(client.get(text.headers["Location"], headers=by("one"))) == 840 - 101


@pytest.mark.slow
def test_rows_of_jobs_without_keys_are_charged_to_the_client_that_asks(at: Settings) -> None:
    with JobFolders(at.jobs_folder).working():
        client = service_of(replace(at, limit_rows="100/minute"))
        one, other = (upload(client, gzip.compress(penguins(30)), "rows.csv.gz").headers["Location"] for _ in range(2))
        work(at)
        assert ";r=70;" in client.get(one).headers["RateLimit"]
        assert ";r=40;" in client.get(f"{other}/result").headers["RateLimit"]
        assert client.delete(other).status_code == 204


def test_without_a_worker_or_a_library_no_job_is_taken(at: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    client = service_of(at)
    answer = upload(client)
    refused(answer, 503, "jobs-unavailable", "flask jobs work")
    assert answer.headers["Retry-After"]
    assert client.get("/jobs").get_json() == {"jobs": [], "waits_for": service.NO_WORKER}
    page = client.get("/jobs", headers={"Accept": "text/html"}).get_data(as_text=True)
    assert "No job is taken now, because no worker of jobs runs on this server" in page
    assert "<code>flask jobs work</code>" in page
    monkeypatch.setattr(service, "find_spec", lambda name: None)
    refused(upload(client), 501, "jobs-not-installed", "pip install huey sqlalchemy alembic")
    assert not at.instance_dir.exists()


def test_a_job_that_waits_for_a_worker_is_reported_as_waiting(at: Settings) -> None:
    client, page = service_of(at), {"Accept": "text/html"}
    with JobFolders(at.jobs_folder).working():
        made = upload(client).get_json()
        assert made["waits_for"] is None
        assert client.get("/jobs").get_json()["waits_for"] is None
        assert "No job is taken now" not in client.get("/jobs", headers=page).get_data(as_text=True)
    here = made["links"]["self"]
    assert client.get(here).get_json()["waits_for"] == service.NO_WORKER
    assert [each["waits_for"] for each in client.get("/jobs").get_json()["jobs"]] == [service.NO_WORKER]
    shown = client.get(here, headers=page).get_data(as_text=True)
    assert "The job waits, because no worker of jobs runs on this server" in shown
    assert "<code>flask jobs work</code>" in shown
    work(at)
    assert client.get(here).get_json()["waits_for"] is None


def test_a_folder_of_jobs_that_cannot_be_read_is_an_error(at: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(folders: JobFolders) -> bool:
        raise PermissionError(13, "Permission denied", str(folders.root))

    monkeypatch.setattr(JobFolders, "has_worker", forbidden)
    client = service_of(at)
    refused(upload(client), 503, "jobs-unavailable", service.NO_FILES)
    assert client.get("/jobs").get_json() == {"jobs": [], "waits_for": service.NO_FILES}


def test_pages_link_to_jobs_where_there_are_some(at: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    link, page = '<a href="./jobs">Jobs</a>', {"Accept": "text/html"}
    assert link in service_of(at).get("/models", headers=page).get_data(as_text=True)
    monkeypatch.setattr(service, "find_spec", lambda name: None)
    without = service_of(at)
    for place in ("/", "/models"):
        assert "./jobs" not in without.get(place, headers=page).get_data(as_text=True)


def test_a_disk_that_takes_no_file_is_503(client: Client, at: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folders: JobFolders, job_id: str) -> Path:
        raise OSError(28, "No space left on device", str(folders.root))

    monkeypatch.setattr(JobFolders, "make", full)
    answer = upload(client)
    refused(answer, 503, "jobs-unavailable", "cannot be stored now")
    assert str(at.jobs_folder) not in answer.get_data(as_text=True)


def test_a_database_that_does_not_answer_is_503(at: Settings) -> None:
    keys = (KEYS["one"][1].entry(),)
    client = service_of(replace(at, database_url="postgresql://me:secret@127.0.0.1:1/shop", api_keys=keys))
    answer = client.get("/jobs", headers=by("one"))
    refused(answer, 503, "jobs-unavailable", "the database of the jobs does not answer")
    assert b"secret" not in answer.get_data()


@pytest.mark.slow
def test_old_jobs_and_files_without_a_job_are_removed(tmp_path: Path) -> None:
    at = settings(tmp_path)
    folders = JobFolders(at.jobs_folder)
    with folders.working():
        client = service_of(at)
        here = upload(client).headers["Location"]
        folders.make("left-behind")
        work(at, clean=True)
        assert folders.ids() == [here.rpartition("/")[2]]
        work(replace(at, jobs_keep_s=-10), clean=True)
        assert folders.ids() == []
        refused(client.get(here), 404, "job-not-found")


@pytest.mark.slow
def test_browsers_get_pages(client: Client, at: Settings) -> None:
    page = {"Accept": "text/html"}
    taken = upload(client, headers=page)
    assert taken.status_code == 303
    here = taken.headers["Location"]
    waiting = client.get(here, headers=page).get_data(as_text=True)
    assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in waiting
    work(at)
    done = client.get(here, headers=page).get_data(as_text=True)
    assert "100 %" in done
    assert f'href="..{here}/result"' in done
    assert "http-equiv" not in done
    listed = client.get("/jobs", headers=page).get_data(as_text=True)
    assert f'href="./jobs/{here.rpartition("/")[2]}"' in listed
    assert "<option selected>penguins</option>" in listed
    assert client.get("/jobs/none", headers=page).mimetype == "text/html"
    refusal = upload(client, headers=page, keep="ident")
    assert (refusal.status_code, refusal.mimetype) == (422, "text/html")
    assert "<li><code>keep/0</code> must be a column of the file, which has: " in refusal.get_data(as_text=True)
