"""The types of problems (RFC 9457): the status, meaning, causes and remedy of each error.

The `type` of a problem document is the address of a page, `/problems/<name>`. To add a type, write its entry in
`_TYPES`. A test fails if the service answers with a type that has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One type of problem, with its usual status and causes."""

    name: str
    status: int
    meaning: str
    causes: tuple[str, ...] = ()
    remedy: str = ""

    @property
    def title(self) -> str:
        """The name as words."""
        words = self.name.replace("-", " ").capitalize()
        return words.replace("json", "JSON")

    def document(self) -> dict[str, Any]:
        """Return the type as a JSON document."""
        return {
            "type": f"/problems/{self.name}",
            "title": self.title,
            "status": self.status,
            "meaning": self.meaning,
            "causes": list(self.causes),
            "remedy": self.remedy,
        }


LATER = "Send the same request again after the seconds in Retry-After."
REPORT = "Report the request_id to the operator: the log has the cause under it."

_TYPES: Mapping[str, tuple[int, str, tuple[str, ...], str]] = {
    "invalid-json": (
        400,
        "The body is not a JSON document. The detail has the line and column of the first mistake.",
        (
            "Single quotes, a comma too many, or text around the JSON.",
            "The shell has changed the quotes of a command.",
            "The body is CSV or NDJSON, and Content-Type does not say so.",
        ),
        "Let a library write the JSON, as json=payload does in Python's requests.",
    ),
    "invalid-body": (
        400,
        "The body is not in the format or the compression that its headers name.",
        ("Content-Type or Content-Encoding names another format.", "The file is damaged or was cut short."),
        "Compare the two headers with the body, and send it again.",
    ),
    "invalid-instances": (
        422,
        "The body can be read, and the model does not accept values in it. Each entry of errors has a"
        " JSON pointer to a place in the body, and what is allowed there. errors_more says how many are not listed.",
        (
            "A feature is missing or misspelt.",
            "A number is sent in quotes, or a category was not seen in training.",
            "The instances are under another name, or the table is not a list of records.",
        ),
        "Correct each place that is named. GET /models/<name> shows the inputs of the model, and /docs an example.",
    ),
    "malformed-request": (
        400,
        "The request contradicts itself or is not valid HTTP: a size, shape or header is not what the rest says. The"
        " status is 414 or 431 where the address or the headers are too long, 417 and 501 where a header asks for"
        " something that the server does not do, and 403 where a proxy is not allowed to name the client.",
        (
            "The shape of a tensor does not fit its data.",
            "A client or proxy writes headers that are not valid, or too long.",
        ),
        "Read the detail: it names the place. A released HTTP client avoids most of these mistakes.",
    ),
    "body-too-large": (
        413,
        "The body is longer than the server reads. The length after decompression counts.",
        ("Many rows in one request.", "Large images, or numbers written with many digits."),
        "Send the rows in several requests, or ask the operator to raise RETORT_BODY_LIMIT_BYTES.",
    ),
    "too-many-instances": (
        413,
        "The request has more rows than the server takes at once.",
        ("A whole table is sent in one request.",),
        "Send the rows in parts, or as a stream of application/x-ndjson, or ask the operator to raise"
        " RETORT_MAX_INSTANCES.",
    ),
    "too-many-characters": (
        413,
        "The texts of the request are longer, together, than the server gives a model at once. Dividing a text into"
        " words costs much more than reading it.",
        ("A compressed body that holds very long texts, or very many.",),
        "Send the rows in parts, without compression, or as a stream of application/x-ndjson, or ask the operator to"
        " raise RETORT_MAX_TEXT_CHARS.",
    ),
    "too-many-explanations": (
        413,
        "The request asks for more explanations than the server makes at once. An explanation costs much more than a"
        " prediction.",
        ("A whole table is sent in one request, with the output `explanation`.",),
        "Send the rows in parts, or ask for explanations of those rows alone that are of interest.",
    ),
    "too-many-values": (
        413,
        "The body has more values than the server reads at once. Each number, text or null counts, and each empty line"
        " of a table; a list or an object counts as four, a timestamp of MessagePack as ten.",
        ("A whole table of many columns is sent in one request.",),
        "Send the rows in parts, or as a stream of application/x-ndjson, or ask the operator to raise"
        " RETORT_MAX_VALUES.",
    ),
    "unsupported-media-type": (
        415,
        "The server does not read the format that Content-Type names, or the compression that Content-Encoding names.",
        (
            "Content-Type is missing or was set by a library, such as text/plain.",
            "The server lacks a library: Parquet and Arrow need pyarrow.",
        ),
        "Use one of the formats in the detail. application/json always works.",
    ),
    "not-acceptable": (
        406,
        "The server cannot answer in any format that Accept allows, or in any compression that Accept-Encoding allows.",
        ("A library or a browser has set Accept.",),
        "Send Accept: application/json, or leave the header out.",
    ),
    "model-not-found": (
        404,
        "The server has no model of this name, or no default model where the address names none.",
        ("The name is misspelt: upper and lower case differ.", "The model has not been added yet, or was removed."),
        "GET /models lists the models.",
    ),
    "version-not-found": (
        404,
        "The model has no such version or alias.",
        ("The version was removed.", "The alias belongs to another model."),
        "GET /models lists the versions and aliases of each model.",
    ),
    "model-unavailable": (
        503,
        "The model is known and cannot be served now.",
        ("It is still loading.", "It failed a check when it was loaded.", "It was unloaded."),
        f"{LATER} GET /models says why each version is not available.",
    ),
    "model-quarantined": (
        503,
        "The server does not run this version any more, because worker processes died while it ran.",
        ("The model uses more memory than there is.", "A library of the model crashes on certain values."),
        "Use another version. The detail says how the operator ends the quarantine.",
    ),
    "deadline-exceeded": (
        504,
        "The model did not come to this request in time.",
        ("The model is slow, or has much to do.", "X-Request-Timeout is short."),
        "Send fewer rows, or try again later. The operator can raise RETORT_REQUEST_TIMEOUT_S.",
    ),
    "step-failed": (
        500,
        "A step before or after the model failed.",
        ("A database or service that the step asks is down.", "The step has a mistake."),
        REPORT,
    ),
    "step-timed-out": (
        504,
        "A step before or after the model was not done in time.",
        ("A database or service that the step asks is slow.",),
        "Try again later. The operator can raise RETORT_REQUEST_TIMEOUT_S.",
    ),
    "model-failed": (
        500,
        "The model raised an error, or gave outputs that do not fit the request.",
        ("Values that are accepted, and that the model cannot compute with.",),
        REPORT,
    ),
    "bad-request": (
        400,
        "The server could not read the whole request.",
        ("The connection ended before the body did.",),
        "Send the request again.",
    ),
    "incomplete-body": (
        400,
        "The connection ended before the body did.",
        ("The client gave up.", "Content-Length is larger than the body."),
        "Send the request again; let the HTTP library set Content-Length.",
    ),
    "not-found": (
        404,
        "There is nothing at this address.",
        ("The path is misspelt.", "A prefix of a proxy is missing or is there twice."),
        "See /docs for the addresses that there are.",
    ),
    "method-not-allowed": (
        405,
        "The address exists and does not take this method.",
        ("A prediction is asked for with GET: it takes POST.",),
        "Use a method that the Allow header lists.",
    ),
    "head-timeout": (
        408,
        "The head of the request did not arrive in time.",
        ("The connection is slow or was interrupted.",),
        "Send the request again.",
    ),
    "body-timeout": (
        408,
        "The body of the request did not arrive in time.",
        ("The connection is slow or was interrupted.", "Content-Length is larger than the body."),
        "Send the request again, in smaller parts over a slow connection.",
    ),
    "too-many-requests": (
        429,
        "The server is busy, and more requests of this client wait than of other clients.",
        ("Many requests are sent at once.",),
        f"{LATER} Send fewer at once, and more rows in each.",
    ),
    "rate-limited": (
        429,
        "The client has used up one of its limits: it may send so many requests, or have so many rows predicted, in a"
        " window of time. The detail names the limit. RateLimit-Policy has all limits, and RateLimit what is left.",
        ("Many requests or rows are sent in a short time.", "Several programs share one key or one address."),
        f"{LATER} Until then, every request is refused. Send more rows in each request if requests are limited.",
    ),
    "internal-error": (
        500,
        "The server failed on this request.",
        ("A mistake in the server or in a plug-in.",),
        REPORT,
    ),
    "queue-full": (
        503,
        "The server works on as many requests as it can, and no more may wait.",
        ("More requests arrive than the models can answer.",),
        f"{LATER} The operator can start more workers (WEB_CONCURRENCY) or raise RETORT_QUEUE_REQUESTS.",
    ),
    "queue-wait": (
        503,
        "The request waited for its turn as long as it may.",
        ("More requests arrive than the models can answer.",),
        f"{LATER} The operator can start more workers (WEB_CONCURRENCY) or raise RETORT_QUEUE_MAX_WAIT_MS.",
    ),
    "no-room": (
        503,
        "The server could not store the body while it arrived.",
        ("The disk for temporary files is full.",),
        f"{LATER} The operator has to make room.",
    ),
    "shutting-down": (
        503,
        "The server stops, and could not finish this request.",
        ("A new release is rolled out.", "The worker is replaced."),
        LATER,
    ),
    "foreign-origin": (
        403,
        "A page of another origin asked to change what this server serves.",
        ("The page is not served by this server, nor by an origin in RETORT_CORS_ORIGINS.",),
        "Send the request from a page of this server or with a program, or add the origin to RETORT_CORS_ORIGINS.",
    ),
    "host-not-allowed": (
        403,
        "The request names another host than this machine. A server in development answers to its own names alone.",
        ("The server is reached under another name.", "A page lets its own name point to this machine."),
        "Use localhost, or add the name to RETORT_ALLOWED_HOSTS.",
    ),
    "key-required": (
        401,
        "The server answers only to callers with an API key, and the request has none.",
        ("The header is missing, or the key is in the address, where it is not read.",),
        "Send `Authorization: Bearer KEY` or `X-API-Key: KEY`. The operator makes keys with `flask keys create`.",
    ),
    "key-refused": (
        401,
        "The API key or token of the request is not valid.",
        (
            "The key is misspelt or cut short, was revoked, or has expired.",
            "Two headers name different keys.",
            "The token is for another service, or from another issuer.",
        ),
        "Ask the operator for a new key, or the issuer for a new token.",
    ),
    "scope-missing": (
        403,
        "The API key is valid, and may not do this.",
        ("Predictions need the scope predict, changes of models admin, and the metrics metrics.",),
        "Use a key with the scope that the detail names.",
    ),
    "model-not-permitted": (
        403,
        "The API key is valid, and limited to other models.",
        ("The address names another model, or none, and the default model is another one.",),
        "Use a model that the detail names, or another key.",
    ),
    "scoring-refused": (
        422,
        "A job cannot be done as it is asked for. The detail says why.",
        (
            "The name or Content-Type of the file, or the output, names a format that is not known here.",
            "The model has steps, which jobs do not run.",
        ),
        "Correct what the detail names.",
    ),
    "upload-too-large": (
        413,
        "The file for a job is longer than the server stores.",
        ("The table is large and not compressed.",),
        "Send it in parts, or with gzip. The operator can raise RETORT_JOBS_UPLOAD_BYTES, or allow a URL.",
    ),
    "job-not-found": (
        404,
        "The caller has no job with this id.",
        ("The id is misspelt, or the job was made with another API key.", "The job was deleted, or ended long ago."),
        "GET /jobs lists your jobs. The operator can keep them longer: RETORT_JOBS_KEEP_S.",
    ),
    "job-unfinished": (
        409,
        "The job waits or runs, and so has no result yet.",
        ("The result is asked for too early.",),
        "Ask GET /jobs/<id> until its state is done.",
    ),
    "job-file-missing": (
        404,
        "The job has ended, and has no such file on this server.",
        (
            "The job failed or was cancelled.",
            "No row was rejected, so that there are no rejects.",
            "The result was written to a URL.",
        ),
        "GET /jobs/<id> has the state, the error, and where the result is.",
    ),
    "jobs-full": (
        507,
        "The files of all jobs have used their room on the server.",
        ("Results of earlier jobs are still kept.", "The file is large."),
        "Delete jobs that you do not need. The operator can raise RETORT_JOBS_BYTES.",
    ),
    "jobs-not-installed": (
        501,
        "This server takes no jobs, because a library is not installed.",
        ("Jobs are an extra of Retort.",),
        "The operator installs it: pip install huey sqlalchemy alembic. Until then, send predictions in parts.",
    ),
    "jobs-unavailable": (
        503,
        "The server can take no jobs now, or cannot look them up.",
        ("No worker of jobs runs.", "The database of the jobs does not answer."),
        f"{LATER} The operator starts a worker with `flask jobs work`, which is the worker line of the Procfile.",
    ),
    "too-many-jobs": (
        429,
        "As many jobs of this client wait or run as may at once.",
        ("Many jobs were made in a short time.",),
        "Wait for a job to end, or cancel one. The operator can raise RETORT_JOBS_OPEN.",
    ),
    "url-not-permitted": (
        403,
        "Jobs may not read or write this URL.",
        ("The operator has not allowed it, or it has `..` in its path.",),
        "Upload the file, use a URL that the detail names, or ask the operator to add it to RETORT_JOBS_URLS.",
    ),
    "idempotency-key-reused": (
        422,
        "An earlier request with the same Idempotency-Key asked for something else.",
        ("A client uses one key for several jobs.",),
        "Send a new key with each new job, and the same key only with the same request.",
    ),
    "keys-unavailable": (
        503,
        "The server could not read its API keys for a while, and so refuses everything that needs one.",
        ("The database of the keys, or the issuer of tokens, does not answer.",),
        f"{LATER} The operator has to look at the database.",
    ),
    "unready": (
        503,
        "Not every model is available, or the server is about to stop.",
        ("Models are still loading.", "A model failed a check."),
        "GET /readyz says which model, and why.",
    ),
    "deadline": (
        504,
        "The answer was not ready in the time that the request may take.",
        ("The model is slow, or the request has many rows.", "X-Request-Timeout is short."),
        "Send fewer rows, or allow more time. The operator can raise RETORT_REQUEST_TIMEOUT_S.",
    ),
}
"""Status, meaning, usual causes and remedy, by error code, or by name if the problem has no code. A code without an
entry belongs to an error that clients never see."""

PROBLEMS: Mapping[str, ProblemType] = {name: ProblemType(name, *text) for name, text in _TYPES.items()}
