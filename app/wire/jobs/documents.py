"""The JSON of a job, the media types of its files, and the OpenAPI schemas of both."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from app.jobs.formats import CODINGS, SUFFIXES
from app.jobs.job_record import DONE, STATES, JobRecord
from app.jobs.locations import is_url
from app.server.contract import Environ
from app.wire.codecs import JSON_TYPE, canonical
from app.wire.openapi.schemas import object_schema

BINARY: Final = {"type": "string", "format": "binary"}
TEXT: Final = {"type": "string"}
COUNT: Final = {"type": "integer", "minimum": 0}
TIME: Final = {"type": ["string", "null"], "format": "date-time"}
TYPES: Final[Mapping[str, str]] = {
    "text/csv": "csv",
    "application/x-ndjson": "ndjson",
    "application/vnd.apache.parquet": "parquet",
    "application/vnd.apache.arrow.file": "arrow",
    "application/vnd.apache.arrow.stream": "arrows",
}
"""Format of a body by its media type."""
CODED: Final[Mapping[str, str]] = {"gz": "application/gzip", "zst": "application/zstd"}
OUTPUTS: Final = ("csv", "ndjson", "parquet", "arrow")
"""Formats listed in messages. The other formats of `app.jobs.formats` are also accepted."""


def format_of_type(media_type: str) -> str | None:
    """Return the format of a media type; None if it is not that of a table."""
    return TYPES.get(canonical(media_type))


def media_type_of(name: str) -> str:
    """Return the media type of a file by its name."""
    last = name.rpartition(".")[2]
    if last in CODED:
        return CODED[last]
    form = SUFFIXES.get(last, "")
    return next((media_type for media_type, each in TYPES.items() if each == form), "application/octet-stream")


def is_format(text: str) -> bool:
    """Return whether a text names a format, such as `csv` or `csv.gz`."""
    stem, _, coding = text.partition(".")
    return stem in SUFFIXES and (not coding or coding in CODINGS)


def path_of(job: JobRecord, environ: Environ) -> str:
    """Return the path of a job's URL."""
    return f"{quote(environ.get('SCRIPT_NAME', '').rstrip('/'), encoding='latin-1')}/jobs/{job.id}"


def document(job: JobRecord, environ: Environ, waits_for: str) -> dict[str, Any]:
    """Return a job as JSON for its owner. `waits_for` is the reason why no worker runs; empty if one runs."""
    path = path_of(job, environ)
    links = {"self": path}
    if job.state == DONE and not is_url(job.output):
        links["result"] = f"{path}/result"
    if job.rejected and not job.is_open and not (job.state == DONE and is_url(job.output)):
        links["rejects"] = f"{path}/rejects"
    return {
        "id": job.id,
        "state": job.state,
        "model": job.model,
        "version": job.version,
        "input": job.input_name,
        "output": job.output if is_url(job.output) else job.output.partition(".")[2],
        "keep": list(job.keep),
        "max_rejects": job.max_rejects,
        "rows": job.rows,
        "rows_total": job.rows if job.state == DONE else None,
        "rejected": job.rejected,
        "parts_done": job.parts_done,
        "parts": job.parts,
        "fraction": round(job.fraction, 4),
        "rows_per_s": round(job.rows_per_s, 1),
        "left_s": None if job.left_s is None else round(job.left_s, 1),
        "waits_for": (waits_for or None) if job.is_open else None,
        "error": job.error,
        "created": _time(job.created_at),
        "started": _time(job.started_at),
        "ended": _time(job.ended_at),
        "links": links,
    }


def _time(at_s: int | None) -> str | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")


JOB: Final = object_schema(
    {
        "id": TEXT,
        "state": {"type": "string", "enum": list(STATES)},
        "model": TEXT,
        "version": {"type": "integer", "description": "the version that answered when the job was made"},
        "input": {"type": "string", "description": "the name of the file, or the URL"},
        "output": {"type": "string", "description": "the format of the result, or its URL"},
        "keep": {"type": "array", "items": TEXT},
        "max_rejects": {"type": ["integer", "null"]},
        "rows": {**COUNT, "description": "the rows that are done so far, with those rejected"},
        "rows_total": {"type": ["integer", "null"], "description": "all rows of the input, known when all are done"},
        "rejected": {**COUNT, "description": "the rows of these that could not be scored"},
        "parts_done": COUNT,
        "parts": {"type": ["integer", "null"], "description": "all parts, estimated until the end"},
        "fraction": {"type": "number", "description": "the share of the input that is done"},
        "rows_per_s": {"type": "number"},
        "left_s": {"type": ["number", "null"], "description": "the time left at this rate, in seconds"},
        "waits_for": {"type": ["string", "null"], "description": "why an open job does not go on now: no worker runs"},
        "error": {"type": ["string", "null"], "description": "why the job failed"},
        "created": TIME,
        "started": TIME,
        "ended": TIME,
        "links": {
            "type": "object",
            "description": "`self`, and `result` and `rejects` once they are there",
            "additionalProperties": TEXT,
        },
    },
    ["id", "state", "model", "version", "rows", "rows_total", "rejected", "fraction", "links"],
)
_WAITS_FOR = {"type": ["string", "null"], "description": "why no job is taken or done now: no worker runs"}
JOBS: Final = object_schema({"jobs": {"type": "array", "items": JOB}, "waits_for": _WAITS_FOR}, ["jobs", "waits_for"])
_FIELDS: Final[Mapping[str, Any]] = {
    "model": {"type": "string", "description": "default: the default model"},
    "version": {"type": "string", "description": "a number or an alias; default: the version that answers"},
    "output": {
        "type": "string",
        "description": f"the format of the result: {', '.join(OUTPUTS)}; default: that of the input",
    },
    "keep": {"type": "string", "description": "columns of the input that are written too, separated by commas"},
    "max_rejects": {**COUNT, "description": "the job fails if more rows cannot be scored"},
}
_FILE = {**BINARY, "description": "the table; its name tells the format"}
_OF_URLS = {
    **_FIELDS,
    "input": {"type": "string", "description": "an allowed URL: s3://, gs://, az:// or https://"},
    "output": {"type": "string", "description": "an allowed URL of an object, or a format"},
    "keep": {"type": "array", "items": TEXT},
}
_PARAMETERS = ", ".join(f"`{name}`" for name in _FIELDS)
REQUEST_BODY: Final[Mapping[str, Any]] = {
    "required": True,
    "description": "A form with the file and fields; or the file alone, with the fields in the query"
    f" ({_PARAMETERS}); or JSON with URLs, which the operator has to allow.",
    "content": {
        "multipart/form-data": {"schema": object_schema({"file": _FILE, **_FIELDS}, ["file"])},
        JSON_TYPE: {"schema": object_schema(_OF_URLS, ["input"], additionalProperties=False)},
        **{media_type: {"schema": BINARY} for media_type in TYPES},
    },
}
