"""`/jobs`: bulk scoring of whole files. A request creates a job; a worker process scores it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Response, request, send_file
from flask_smorest import Blueprint
from werkzeug.utils import secure_filename

from app.errors import MalformedRequest
from app.gateway.context import RequestContext
from app.jobs.job_record import JobRecord
from app.jobs.locations import is_url
from app.jobs.service import Jobs, Order
from app.wire.backend import Backend, answers, context_of, json_response
from app.wire.jobs.documents import JOB, JOBS, REQUEST_BODY, document, media_type_of, path_of
from app.wire.jobs.orders import OrderReader

IDEMPOTENCY_KEY = "Idempotency-Key"
LONGEST_KEY = 255
ONE_RANGE = re.compile(r"bytes=(\d+-\d*|-\d+)")
MOST_LISTED = 100
ERRORS_OF_ORDERS: Mapping[int, str] = {
    400: "the request cannot be read, or a field is not acceptable",
    403: "the API key may not use the model, or jobs may not use the URL",
    404: "there is no such model or version",
    413: "the file is too long",
    415: "the file has an unknown media type",
    422: "the job cannot be done, or the Idempotency-Key was used for another one",
    429: "too many jobs of this client wait or run",
    501: "a library that jobs need is not installed",
    503: "no worker of jobs runs, or the database does not answer",
    507: "the files of all jobs have used their room",
}
UNAVAILABLE: Mapping[int, str] = {501: ERRORS_OF_ORDERS[501], 503: "the database of the jobs does not answer"}
UNKNOWN_JOB: Mapping[int, str] = {404: "the caller has no such job", **UNAVAILABLE}
NO_FILE: Mapping[int, str] = {**UNKNOWN_JOB, 404: "there is no such job or file", 409: "the job has not ended"}


def blueprint(backend: Backend) -> Blueprint:
    """Return the endpoints of jobs."""
    jobs, reader = Jobs(backend.settings), OrderReader(backend.settings)
    blp = Blueprint("jobs", __name__, description="Bulk scoring of whole files, in the background.")

    def charge_job(job_id: str) -> JobRecord:
        """Return a job of the caller, and charge the rows scored since the last charge."""
        context = context_of(request.environ)
        job = jobs.job(job_id, _owner(context))
        if job.rows > job.charged_rows:
            context.rows += jobs.charge(job)
        return job

    def shown(job: JobRecord) -> dict[str, Any]:
        return document(job, request.environ, jobs.why_waiting() if job.is_open else "")

    @blp.post("/jobs")
    @answers(blp, "the job was taken", ERRORS_OF_ORDERS, status=202, schema=JOB, body=REQUEST_BODY)
    def create_job() -> Response:
        """Score a whole file"""
        context = context_of(request.environ)
        jobs.require_worker()
        key = _idempotency_key()

        new_ids: list[str] = []

        def read_order(folder: Path) -> Order:
            new_ids.append(folder.name)
            return reader.read(request, folder)

        job = jobs.create(read_order, _owner(context), key, context.permitted_models)
        if job.id in new_ids:  # a repeated request gets its first job, and is not charged
            context.rows += job.charged_rows
        context.rows += jobs.charge(job)
        status = 303 if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html" else 202
        return json_response(shown(job), status, {"Location": path_of(job, request.environ)})

    @blp.get("/jobs")
    @answers(blp, f"the newest {MOST_LISTED} jobs of the caller", UNAVAILABLE, schema=JOBS)
    def list_jobs() -> Response:
        """List your jobs"""
        newest = jobs.of_owner(_owner(context_of(request.environ)), MOST_LISTED)
        waits_for = jobs.why_waiting()
        documents = [document(job, request.environ, waits_for) for job in newest]
        return json_response({"jobs": documents, "waits_for": waits_for or None})

    @blp.get("/jobs/<string:job>")
    @answers(blp, "the job and how far it is", UNKNOWN_JOB, schema=JOB)
    def show_job(job: str) -> Response:
        """Show the progress of a job"""
        return json_response(shown(charge_job(job)), headers={"Cache-Control": "no-store"})

    @blp.delete("/jobs/<string:job>")
    @answers(blp, "an open job was cancelled", UNKNOWN_JOB, schema=JOB)
    @blp.alt_response(204, description="an ended job was removed, with its result")
    def delete_job(job: str) -> Response:
        """Cancel an open job, or remove an ended one"""
        cancelled = jobs.delete(charge_job(job).id, _owner(context_of(request.environ)))
        return Response(status=204) if cancelled is None else json_response(shown(cancelled))

    @blp.get("/jobs/<string:job>/result")
    @answers(blp, "the file with the predictions; ranges may be asked for", NO_FILE)
    def job_result(job: str) -> Response:
        """Download the result of a job"""
        record = charge_job(job)
        return _file(jobs.result(record), record, "predictions")

    @blp.get("/jobs/<string:job>/rejects")
    @answers(blp, "a line of JSON for each rejected row; ranges may be asked for", NO_FILE)
    def job_rejects(job: str) -> Response:
        """Download the rejected rows of a job, each with its line and what is wrong with it"""
        record = charge_job(job)
        return _file(jobs.rejects(record), record, "rejects")

    return blp


def _owner(context: RequestContext) -> str:
    """Return the owner of a request's jobs: the API key; empty, for everybody, if no key is needed."""
    return "" if context.principal is None else context.principal.id


def _idempotency_key() -> str | None:
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key is not None and not (0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        raise MalformedRequest(IDEMPOTENCY_KEY, f"must be 1 to {LONGEST_KEY} printable characters of ASCII")
    return key


def _file(path: Path, job: JobRecord, kind: str) -> Response:
    """Return a file, or the one range of it that the client requests."""
    if ONE_RANGE.fullmatch(request.headers.get("Range", "")) is None:
        request.environ.pop("HTTP_RANGE", None)  # RFC 9110 section 14.2: a server may answer with the whole file
    name = job.input_name.partition("?")[0] if is_url(job.input) else job.input_name
    stem = secure_filename(name.rpartition("/")[2].partition(".")[0]) or job.model
    response = send_file(
        path,
        media_type_of(path.name),
        as_attachment=True,
        download_name=f"{stem}-{kind}.{path.name.partition('.')[2]}",
        max_age=0,
    )
    response.cache_control.private = True
    response.accept_ranges = "bytes"
    return response
