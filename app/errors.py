"""The exceptions of this service. Each has a code and facts as attributes, and builds its own message.

This module knows no HTTP. A table in the gateway turns a code into a status.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SERVER_FAILED = "the server failed on this request; its log has the cause under the request id"
"""The detail of an internal error, in any part of the server."""


def one_line(text: object, most_chars: int | None = 200) -> str:
    """Return a text, such as an error of a library, on one line; cut it after this number of characters."""
    return " ".join(str(text).split())[:most_chars]


class _Absent:
    """The value of a field that was not sent. (null is a value.)"""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()


@dataclass(frozen=True, slots=True)
class FieldError:
    """One bad place in a request.

    `pointer` is a JSON pointer in URI fragment form (RFC 6901 section 6). `value` is the value there, safe to print, or
    `ABSENT`.
    """

    pointer: str
    detail: str
    value: object = ABSENT

    def document(self) -> dict[str, object]:
        """Return the error as a JSON object, without an absent value."""
        members: dict[str, object] = {"pointer": self.pointer, "detail": self.detail}
        return members if self.value is ABSENT else members | {"value": self.value}


class RetortError(Exception):
    """The base class. `detail` is one sentence: what is wrong, where, and what is allowed.

    `code` is the last part of the problem's `type`. A subclass without a code has the code of its base class.
    """

    code = ""

    def __init_subclass__(cls, code: str = "") -> None:
        super().__init_subclass__()
        cls.code = code or cls.code

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class InvalidJson(RetortError, code="invalid-json"):
    """The body is not a JSON document. `line` and `column` count from 1; None if no place can be named."""

    def __init__(self, reason: str, line: int | None = 1, column: int | None = 1) -> None:
        place = "" if line is None else f" (line {line}, column {column})"
        super().__init__(f"the body is not valid JSON: {reason}{place}")
        self.reason = reason
        self.line = line
        self.column = column


class InvalidBody(RetortError, code="invalid-body"):
    """The body does not match its media type or content coding, whose name is `form`: CSV, gzip."""

    def __init__(self, form: str, reason: str) -> None:
        super().__init__(f"the body is not valid {form}: {reason}")
        self.reason = reason


class IncompleteBody(RetortError, code="incomplete-body"):
    """The body ended before its declared length."""

    def __init__(self) -> None:
        super().__init__("the body ended before its declared length")


class InvalidInstances(RetortError, code="invalid-instances"):
    """Values that the model's signature does not accept. `errors` are the first ones, `total` counts all."""

    def __init__(self, errors: Sequence[FieldError], total: int) -> None:
        more = total - len(errors)
        detail = "1 value is not acceptable" if total == 1 else f"{total} values are not acceptable"
        super().__init__(detail + (f"; the first {len(errors)} are listed, {more} more are not" if more else ""))
        self.errors = tuple(errors)
        self.total = total
        self.more = more


class MalformedRequest(RetortError, code="malformed-request"):
    """A request that contradicts itself (sizes, shapes, encodings) at `pointer`, or is not valid HTTP."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(f"{pointer} {detail}")


class BodyTooLarge(RetortError, code="body-too-large"):
    """The body is longer than the server reads."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"the body is longer than {limit_bytes} bytes, the most this server reads; the server's operator can raise "
            "RETORT_BODY_LIMIT_BYTES"
        )


class UploadTooLarge(BodyTooLarge, code="upload-too-large"):
    """The file for a job is longer than the server stores."""

    def __init__(self, limit_bytes: int) -> None:
        RetortError.__init__(
            self,
            f"the file for the job is longer than {limit_bytes} bytes, the most this server stores; the server's "
            "operator can raise RETORT_JOBS_UPLOAD_BYTES",
        )


class TooManyInstances(RetortError, code="too-many-instances"):
    """More rows in one request than the server takes.

    `is_set` is True if the operator set the limit, and False if the limit follows from the size of the inputs.
    """

    def __init__(self, rows: int, limit_rows: int, is_set: bool = True) -> None:
        raised = "; the server's operator can raise RETORT_MAX_INSTANCES" if is_set else ""
        detail = f"the request has {rows} instances; at most {limit_rows} are taken at once: send it in parts"
        super().__init__(detail + raised)
        self.rows = rows
        self.limit_rows = limit_rows


class TooManyCharacters(RetortError, code="too-many-characters"):
    """Longer texts in one request than the server gives a model at once."""

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(
            f"the texts of the request have {count} characters; at most {limit} are read at once, or as many as the"
            " body has bytes before it is decompressed: send the instances in parts, or without compression; the"
            " server's operator can raise RETORT_MAX_TEXT_CHARS"
        )


class TooManyExplanations(RetortError, code="too-many-explanations"):
    """More rows are to be explained in one request than the server explains at once."""

    def __init__(self, rows: int, limit_rows: int) -> None:
        super().__init__(
            f"the request asks for {rows} explanations; at most {limit_rows} of this model are made at once: send the"
            " instances in parts"
        )


class TooManyValues(RetortError, code="too-many-values"):
    """More values in one body than the server reads. `kind` names these values."""

    def __init__(self, count: int, limit: int, kind: str = "values") -> None:
        super().__init__(
            f"the body has {count} {kind}; at most {limit} are read at once: send it in parts;"
            " the server's operator can raise RETORT_MAX_VALUES"
        )


class UnsupportedMediaType(RetortError, code="unsupported-media-type"):
    """No codec reads the body. `because` is the reason if another installation would read it."""

    def __init__(self, sent: str, allowed: Sequence[str], header: str = "Content-Type", because: str = "") -> None:
        allowed_text, why = ", ".join(allowed), f" ({because})" if because else ""
        super().__init__(f"{header} {sent!r} is not supported{why}; supported: {allowed_text}")
        self.allowed = tuple(allowed)
        self.header = header


class NotAcceptable(RetortError, code="not-acceptable"):
    """No codec writes an accepted type, or no content coding is accepted."""

    def __init__(self, wanted: str, offered: Sequence[str], header: str = "Accept") -> None:
        offered_text, what = ", ".join(offered), "types" if header == "Accept" else "codings"
        super().__init__(f"{header} {wanted!r} allows none of the {what} that are offered: {offered_text}")


class ModelNotFound(RetortError, code="model-not-found"):
    """There is no model of this name. Without a name, in a URL (None) or elsewhere (""), there is no default model."""

    def __init__(self, model: str | None, known: Sequence[str]) -> None:
        existing = "there are: " + ", ".join(known) if known else "the repository is empty"
        if model is None:
            detail = f"no model is the default one; name one in the URL, /models/<name>/predict; {existing}"
        elif not model:
            detail = f"no model is named, and none is the default one; {existing}"
        else:
            detail = f"there is no model {model!r}; {existing}"
        super().__init__(detail)
        self.model = model
        self.known = tuple(known)


class VersionNotFound(RetortError, code="version-not-found"):
    """The model has no such version or alias, or its alias names a version (`alias_of`) that does not exist."""

    def __init__(self, model: str, version: str, known: Sequence[str], alias_of: int | None = None) -> None:
        lacks = f"version or alias {version!r}" if alias_of is None else f"version {alias_of}, which {version!r} names"
        super().__init__(f"model {model!r} has no {lacks}; there are: {', '.join(known)}")
        self.model = model
        self.version = version
        self.known = tuple(known)


class ModelUnavailable(RetortError, code="model-unavailable"):
    """The model or version exists but cannot be served. `reason` is for operators and is not in the message."""

    def __init__(self, model: str, version: int | None, reason: str) -> None:
        which = f"model {model!r}" if version is None else f"model {model!r} version {version}"
        super().__init__(f"{which} is not available; GET /models says why")
        self.model = model
        self.version = version
        self.reason = reason


class ModelQuarantined(RetortError, code="model-quarantined"):
    """The version is not run any more, because workers died while it ran. `reason` says how to end the quarantine."""

    def __init__(self, model: str, version: int, reason: str) -> None:
        super().__init__(f"model {model!r} version {version} is quarantined: {reason}")


class ModelFailed(RetortError, code="model-failed"):
    """The model raised, or its outputs do not fit the batch. `cause` goes to the log, never to the client."""

    def __init__(self, model: str, version: int, cause: str) -> None:
        super().__init__(f"model {model!r} version {version} could not answer this request")
        self.cause = cause


class DeadlineExceeded(RetortError, code="deadline-exceeded"):
    """The model did not begin this request in time. If `limit_s` is None, the body was not read in time."""

    def __init__(self, limit_s: float | None = None) -> None:
        super().__init__(
            "the request's time ran out while its body was read; send it in parts"
            if limit_s is None
            else f"the request waited {limit_s:g} seconds for the model, the longest it may; send it again later"
        )


class StepFailed(RetortError, code="step-failed"):
    """A step raised, or returned something unusable. `cause` goes to the log, never to the client."""

    def __init__(self, step: str, model: str, version: int, cause: str) -> None:
        super().__init__(f"step {step!r} of model {model!r} version {version} could not answer this request")
        self.cause = cause


class StepTimedOut(RetortError, code="step-timed-out"):
    """A step, or the service that it called, took longer than the request may take."""

    def __init__(self, step: str, model: str, version: int) -> None:
        super().__init__(f"step {step!r} of model {model!r} version {version} was not done in time; try again later")


class InvalidSettings(RetortError, code="invalid-settings"):
    """Environment variables that are unknown or cannot be parsed. `problems` has a sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("the settings are not usable: " + "; ".join(problems))
        self.problems = tuple(problems)


class InvalidRepository(RetortError, code="invalid-repository"):
    """A file of the repository cannot be read."""


class ChoiceRefused(RetortError, code="choice-refused"):
    """The repository does not allow this choice of a version or alias, or this removal of a version."""


class PackingRefused(RetortError, code="packing-refused"):
    """The artifact (or its sample, or its name) cannot become a version."""


class LoadingFailed(RetortError, code="loading-failed"):
    """A verified version could not become a servable in this process."""


class DatabaseUnavailable(RetortError, code="database-unavailable"):
    """A database cannot be used. `database` is its address, without user and password."""

    def __init__(self, database: str, cause: str) -> None:
        super().__init__(f"the database {database} cannot be used: {cause}")


class KeyNotFound(RetortError, code="key-not-found"):
    """There is no API key with this id in the database."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"there is no key with the id {key_id[:40]!r} in the database; see flask keys list")


class NoKeys(RetortError, code="no-keys"):
    """The server would listen at an address that other machines can reach, but no API key is configured."""

    def __init__(self, address: str, because: str = "") -> None:
        super().__init__(
            f"other machines may reach {address}, and there is no API key"
            + (f" ({because})" if because else "")
            + ": make one with `flask keys create --name NAME --scope predict`, or set HOST=127.0.0.1 to serve this"
            " machine alone, or RETORT_PUBLIC=1 to let everybody in"
        )


class ModelNotPermitted(RetortError, code="model-not-permitted"):
    """The API key is limited to other models: `permitted`."""

    def __init__(self, model: str | None, permitted: Iterable[str]) -> None:
        which = "no model by name, and there is no default one" if model is None else f"the model {model[:100]!r}"
        self.model = model
        self.permitted = tuple(sorted(permitted))
        names = ", ".join(self.permitted[:20])
        super().__init__(f"the request asks for {which}; this key may use: {names}")


class ScoringRefused(RetortError, code="scoring-refused"):
    """A file cannot be scored: its form, its columns, the model, or the place of the output."""


class ColumnsMissing(ScoringRefused):
    """A file lacks features of the model, or columns to keep. `there` are the columns that it has."""

    def __init__(self, detail: str, features: Sequence[str] = (), kept: Sequence[str] = (), there: str = "") -> None:
        super().__init__(detail)
        self.features = tuple(features)
        self.kept = tuple(kept)
        self.there = there


class TooManyRejects(ScoringRefused, code="too-many-rejects"):
    """More rows of a file were rejected than the limit allows. `rejects` is the file that lists them."""

    def __init__(self, rejected: int, limit: int, rejects: str) -> None:
        rows = "1 row was" if rejected == 1 else f"{rejected} rows were"
        super().__init__(f"{rows} rejected, more than the limit of {limit}; {rejects} has what is wrong")
        self.rejected = rejected
        self.limit = limit
        self.rejects = rejects


class NotResumable(ScoringRefused, code="not-resumable"):
    """The input, the model or the options changed since an unfinished run began."""


class ScoringCancelled(RetortError, code="scoring-cancelled"):
    """A scoring run was cancelled. Its finished parts are kept."""

    def __init__(self) -> None:
        super().__init__("the run was stopped; its finished parts are kept, and the same command with --resume goes on")


class JobNotFound(RetortError, code="job-not-found"):
    """The caller has no job with this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"you have no job with the id {job_id[:40]!r}; GET /jobs lists yours")


class JobUnfinished(RetortError, code="job-unfinished"):
    """The job has no result yet."""

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(f"the job is {state}: its result is there when GET /jobs/{job_id} says done")


class JobFileMissing(RetortError, code="job-file-missing"):
    """The job has ended, but has no such file here. The detail says why."""


class JobsFull(RetortError, code="jobs-full"):
    """The files of all jobs take as many bytes as they may."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"there is no room: the files of all jobs may take {limit_bytes} bytes; delete jobs with DELETE /jobs/<id>,"
            " or the operator can raise RETORT_JOBS_BYTES"
        )


class JobsNotInstalled(RetortError, code="jobs-not-installed"):
    """A library that jobs need is missing."""

    def __init__(self, library: str) -> None:
        super().__init__(f"jobs need {library}: the operator installs it with pip install huey sqlalchemy alembic")


class JobsUnavailable(RetortError, code="jobs-unavailable"):
    """Jobs cannot be made or looked up now. The detail says what the operator has to do."""


class TooManyJobs(RetortError, code="too-many-jobs"):
    """The client has as many open jobs as it may."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} of your jobs wait or run, the most at once; wait for one to end, or cancel one with"
            " DELETE /jobs/<id>"
        )


class UrlNotPermitted(RetortError, code="url-not-permitted"):
    """Jobs may not read or write this URL. `permitted` are the beginnings of permitted URLs."""

    def __init__(self, pointer: str, url: str, permitted: Sequence[str]) -> None:
        may = f"those may that begin with: {', '.join(permitted)}" if permitted else "upload the file instead"
        super().__init__(f"{pointer}: jobs may not use the URL {url[:200]!r}; {may} (RETORT_JOBS_URLS)")


class IdempotencyKeyReused(RetortError, code="idempotency-key-reused"):
    """An earlier request with the same Idempotency-Key was a different one."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"Idempotency-Key: an earlier request with this key asked for something else, and made /jobs/{job_id};"
            " use a new key for a new job"
        )
