"""The faults that Retort is tested against: the fault, the required behaviour, and the peers that fail.

A test that injects a fault has its id: `@pytest.mark.fault("P01")`. `make faults` writes docs/faults.md from both.
"""

from __future__ import annotations

from dataclasses import dataclass

PEERS = (
    "Gunicorn 27.0.1 with its gthread worker where no version is named, Flask 3.1.3, Werkzeug 3.1.9, flask-smorest "
    "0.47.0, marshmallow 4.4.0, BentoML 1.4.39, LitServe 0.2.19, MLServer 1.7.1, MLflow 3.17.2, joblib 1.6.0, "
    "pandas 3.1.1, pyarrow 26.0.1, Pillow 13.0.0"
)
EVIDENCE = {
    "M": "measured on two cores under Debian 12 and Python 3.11, in short runs that show behaviour and not speed",
    "S": "read in the project's own repository, documentation or issues",
    "2": "read elsewhere, such as in an advisory",
    "K": "reported, and not checked by us",
}


@dataclass(frozen=True)
class Fault:
    """One fault. Evidence about peers begins with a letter of `EVIDENCE`.

    `untested` is the reason why no test injects it; it is empty if a test does.
    """

    id: str
    fault: str
    expected: str
    peers: str = ""
    untested: str = ""

    def __post_init__(self) -> None:
        assert "|" not in self.fault + self.expected + self.peers + self.untested


SECTIONS: dict[str, tuple[Fault, ...]] = {
    "Processes": (
        Fault(
            "P01",
            "Workers are killed (SIGKILL) under load",
            "only the requests in that worker are lost; it is replaced, and the counters do not go backwards",
            "M: LitServe ends as a whole; MLflow never answers again",
        ),
        Fault(
            "P02",
            "SIGTERM under load, clients connected directly",
            "every accepted connection is answered, none is reset, and the exit status is 0",
            "M: Gunicorn resets 5 to 13 connections, BentoML 8; MLServer answers 500; MLflow resets one; LitServe "
            "leaves its processes behind. S: TensorFlow Serving does not drain (#1853)",
        ),
        Fault("P03", "SIGTERM to one of two servers behind nginx", "no client notices"),
        Fault(
            "P04",
            "SIGHUP under load, three times",
            "no request is lost, and the models are read again",
            "M: Gunicorn up to 27.0.0 resets 15 to 20 connections. S: with `preload_app` its reload keeps the old "
            "application",
        ),
        Fault(
            "P05",
            "Workers are recycled (`max_requests`) under load",
            "no request is lost",
            "M: Gunicorn up to 26.1 loses 21 to 30",
        ),
        Fault("P06", "SIGTERM twice, to all processes at once, as Heroku does", "the same as P02"),
        Fault(
            "P07",
            "SIGTERM while a request hangs",
            "the request gets an error, and the server has ended before a platform kills it at 30 s",
            "M: Gunicorn takes 30.1 s",
        ),
        Fault(
            "P08",
            "More connections than are allowed",
            "the oldest idle connection makes room, and others are answered at once",
            "S: Gunicorn 21 stops answering (#3146)",
        ),
        Fault(
            "P09",
            "A fork after a model has run: OpenMP hangs in the child",
            "before the fork there is no thread, and no model runs; gradient boosting answers in each worker",
            "M: any server with `--preload` that predicts once in the master hangs. S: xgboost #8040",
        ),
        Fault(
            "P10",
            "At the start: a wrong setting, a repository that cannot be read, a worker that cannot boot, a port in use",
            "the start ends with a status other than 0 and with the reason, and is not repeated for ever",
        ),
        Fault(
            "P11",
            "The wall clock jumps by an hour, forward and back",
            "no request is cut, no deadline or limit moves; only the `Date` header and the log follow the clock",
            "M: Gunicorn cuts a 5 s request at 1.5 s if the clock jumps while it stops",
        ),
        Fault(
            "P12",
            "Probes while the server starts, fails to load a version, or drains",
            "`/livez` answers 200 all the time; `/readyz` answers 503 with the reason until all is well",
            "M: LitServe's orphans answer 200. S: MLServer #707",
        ),
    ),
    "Network and HTTP": (
        Fault(
            "N01",
            "500 clients that send a head slowly (slowloris, slowhttptest)",
            "others are answered at once; the slow ones get 408",
            "M: Gunicorn stops with as many slow clients as it has threads",
        ),
        Fault(
            "N02",
            "500 clients that send a body slowly (R-U-D-Y, slowhttptest)",
            "others are answered at once; the slow ones get 408",
            "M: Gunicorn, as in N01",
        ),
        Fault(
            "N03",
            "3,000 idle keep-alive connections",
            "a new client is answered at once, memory grows by less than 100 MB, and the idle ones are closed in time",
        ),
        Fault(
            "N04",
            "1,500 connections that send nothing",
            "a new client is answered at once",
            "M: Gunicorn needs more than 20 s for a probe",
        ),
        Fault(
            "N05",
            "A body over the limit, with its length, in chunks, or with a wrong length",
            "413 that the client can read, or 400 if the body is short; no body is cut and answered",
            "M: Flask under Gunicorn cuts a chunked CSV at the limit and answers 200 for a third of its rows; "
            "LitServe, MLflow and MLServer read 51 MB",
        ),
        Fault(
            "N06",
            "A million chunks of one byte; a chunk extension of 64 KB",
            "400 or 413 within 2 s of CPU and 20 MB",
            "2: Triton (CVE-2025-23310)",
        ),
        Fault(
            "N07",
            "Request smuggling: two lengths, odd encodings, folded fields; alone and behind nginx",
            "the verdict is that of Gunicorn's own corpus, and no request is answered twice",
            "K: Gunicorn before 22",
        ),
        Fault(
            "N08",
            "Multipart forms: 100,000 parts, endless boundaries, no end, huge part heads, hostile file names",
            "400, 413 or 422, in the time that a good form of that length takes",
            "2: BentoML (CVE-2024-9056). M: Werkzeug reads a form without an end as one without fields",
        ),
        Fault(
            "N09",
            "Compressed bodies: bombs, codings twice or unknown, cut short",
            "413 at the limit, 415 with the codings that are read, or 400; memory stays bounded",
            "M: MLServer answers 200, and takes 1.2 GB",
        ),
        Fault(
            "N10",
            "Clients that leave (reset) at five points of a request",
            "what they held is free, their waiting requests do not run, and the log has no traceback",
            "S: Gunicorn works on for clients that are gone (#1976)",
        ),
        Fault(
            "N11",
            "Pipelined odd requests: HEAD, OPTIONS, TRACE, unknown methods, `//`, `%2f`, HTTP/1.0",
            "each gets its own answer; 405 names the methods; HEAD runs no model",
        ),
        Fault(
            "N12",
            "A wrong or missing `Content-Type`, UTF-16, `Accept` of something else",
            "415 or 406 with the list of what is there; `*/*` is JSON",
            "M: flask-smorest answers 422 or ignores `Accept`; BentoML and LitServe take text/plain for JSON",
        ),
        Fault(
            "N13",
            "A line with 200 ms of delay that delivers a few bytes at a time",
            "requests are answered whole",
        ),
    ),
    "JSON": (
        Fault(
            "I01",
            "`NaN`, `Infinity`, `-Infinity` in a request",
            "NaN is a missing value where the model takes one, else 422; infinities are 422",
            "M: BentoML and LitServe answer 500",
        ),
        Fault(
            "I02",
            "Numbers at the edge: 1e400, 1e-400, -0, beyond 2^53",
            "422 with the place if a number does not fit; no digit of an integer is lost",
            "M: LitServe and BentoML answer 500",
        ),
        Fault(
            "I03",
            "Another type: 1.9, true or text for an integer; integers beyond 64 bits; `1_0`",
            "422 with the place",
            "M: flask-smorest takes 2^64+1, 1.9 and `1_0`",
        ),
        Fault(
            "I04",
            "An integer of 5,000 digits",
            "400 or 422",
            "M: flask-smorest, MLflow and LitServe answer 500",
        ),
        Fault(
            "I05",
            "Lists and objects nested up to 100,000 deep",
            "400 or 422",
            "M: flask-smorest, MLflow and LitServe answer 500",
        ),
        Fault("I06", "A key that stands twice in an object", "the last one counts, as the documentation says"),
        Fault(
            "I07",
            "40,000 keys; `__proto__`, `__class__`, an empty key, 10 KB keys",
            "422 that names a bounded number of them, and nothing is set",
        ),
        Fault(
            "I08",
            "Half a surrogate pair, NUL, texts in another normal form",
            "half a pair is 400; other texts arrive as they were sent; categories are compared by their code points",
            "M: flask-smorest takes half a pair, and fails when it is written",
        ),
        Fault(
            "I09",
            "Missing, unknown and null fields",
            "422 that lists all of them with their places",
            "M: LitServe answers 500; BentoML, MLflow and MLServer ignore unknown fields",
        ),
        Fault(
            "I10",
            "An empty body, `{}`, `[]`, `null`, no instances",
            "400 or 422; no instances are answered with no predictions, and no model runs",
            "M: MLServer, BentoML and LitServe answer 500",
        ),
        Fault(
            "I11",
            "Rows of different or wrong lengths, one wrong value among many rows",
            "422 with row and column",
            "M: MLServer, LitServe and BentoML answer 500",
        ),
        Fault(
            "I12",
            "100,000 wrong rows",
            "422 about as soon as good rows are answered, with 100 errors and the number of the others",
            "M: marshmallow takes 3.3 s and answers with 12.5 MB",
        ),
        Fault(
            "I13",
            "More rows or values than are allowed",
            "413 that names the limit and its setting",
            "M: flask-smorest makes objects of 400,000 rows first",
        ),
        Fault(
            "I14",
            "UTF-16, Latin-1, broken UTF-8, a byte order mark",
            "400; a mark before UTF-8 is ignored",
        ),
        Fault(
            "I15",
            "A document cut short, two documents, comments, text after the end",
            "400 with line and column",
            "M: LitServe answers 500",
        ),
        Fault(
            "I16",
            "A model that returns NaN, infinities, NumPy types, bytes or times",
            "valid JSON by documented rules, or 500 with the request id",
            "M: Flask's `jsonify` sends `NaN`, which is not JSON",
        ),
    ),
    "Binary and tabular bodies": (
        Fault(
            "B01",
            "Arrow and Parquet that are cut short or have flipped bits",
            "400, 413 or 422, and the process lives on",
            "M: pyarrow without `validate(full=True)` ends the process by SIGSEGV",
        ),
        Fault(
            "B02",
            "Arrow bombs: zstd, a billion nulls, thousands of columns, odd types",
            "413 or 422 before anything is decoded",
            "M: pyarrow makes 800 MB of 24 kB",
        ),
        Fault(
            "B03",
            "Parquet of less than 1 MB that decodes to 40 MB",
            "413 before it is decoded",
            "M: pyarrow makes 812 MB of 436 kB that declare 262 kB",
        ),
        Fault("B04", "Parquet with a broken footer, nested columns, or types that no input takes", "400 or 422"),
        Fault(
            "B05",
            "npy headers that lie: huge, negative or empty shapes, other byte orders, structured types",
            "400, 413 or 422",
            "M: NumPy loads an array of no bytes and 10^9 rows",
        ),
        Fault("B06", "npy and npz with pickled objects", "400, and nothing is unpickled"),
        Fault(
            "B07",
            "npz bombs, and archives with very many or damaged members",
            "413 before a bomb is inflated; 400 for what is damaged",
            "M: NumPy makes 400 MB of 389 kB",
        ),
        Fault(
            "B08",
            "Images: 100 megapixels in 100 kB, another format, cut short, a bomb of text, turned by EXIF",
            "422, for too many pixels by the header alone; what is accepted is turned as EXIF says",
            "M: Pillow decodes up to 178.9 megapixels",
        ),
        Fault(
            "B09",
            "CSV: millions of columns, open quotes, NUL, ragged rows, names that stand twice",
            "400, 413 or 422 with the line or row, soon",
            "M: pandas needs more than 60 s for a row of 2 million columns",
        ),
        Fault(
            "B10", "The same rows as JSON, CSV, MessagePack, npy, Arrow and Parquet", "the same predictions, bit by bit"
        ),
    ),
    "Models and artifacts": (
        Fault(
            "M01",
            "An artifact or a manifest that was changed",
            "refused by its hash before it is loaded; `GET /models` has the reason, and other versions are served",
            "M: joblib loads 3 of 400 files with a flipped bit, and predicts wrongly",
        ),
        Fault(
            "M02",
            "A version that is half written, or whose packing is killed",
            "never seen: it is moved into place when it is whole",
            "S: Triton's documentation warns of it",
        ),
        Fault(
            "M03",
            "Libraries of other versions than in training",
            "served only if the answers are the recorded ones; otherwise refused with both versions",
            "M: all peers load it with a warning at most",
        ),
        Fault(
            "M04",
            "A pickle that runs code when it is loaded",
            "never loaded unless its hash is the recorded one; packing reads it without running what it names",
            "S: joblib runs it",
        ),
        Fault(
            "M05",
            "A file of one format with the name of another",
            "read by its content or refused with its kind; skops types that are not trusted are named",
            "K: skops before 0.13",
        ),
        Fault(
            "M06",
            "Weights or other files outside the folder of a version",
            "refused; weights beside a graph are hashed",
            "K: onnx before 1.21",
        ),
        Fault(
            "M07",
            "Another version is chosen while clients send requests",
            "no request fails, each answer names the version that gave it, and the old one is freed after its last run",
        ),
        Fault(
            "M08",
            "A folder of a version with links, pipes or files that are not listed",
            "refused without waiting; Retort unpacks no archive of models",
            "K: BentoML before 1.4.36 writes outside of the folder",
        ),
        Fault(
            "M09",
            "A file that is replaced between the check and the load",
            "the bytes that were checked are those that are loaded",
            "K: MLflow (CVE-2026-4137)",
        ),
        Fault(
            "M10",
            "A model that raises for some of the rows that run together",
            "only the request with these rows fails",
            "M: of the other clients' requests fail in MLServer 100 %, in LitServe 42 to 72 %, in BentoML 41 %",
        ),
        Fault(
            "M11",
            "A model that hangs, with or without Python's lock",
            "504 at the deadline, the stack in the log, and the worker is replaced",
            "M: Gunicorn waits for ever",
        ),
        Fault(
            "M12",
            "A model that leaks 1 MB in each run",
            "",
            untested="no test: nothing limits a worker's memory. The alert RetortMemoryGrowing tells, and a reload "
            "(P04) or `--max-requests` (P05) replaces workers without a loss",
        ),
        Fault(
            "M13",
            "A model that ends its process, by a crash, `os._exit`, SystemExit or recursion",
            "the requests in that worker are lost at most; after three crashes the version is quarantined",
            "M: LitServe ends as a whole",
        ),
        Fault(
            "M14",
            "A model that returns too few rows, None, a generator, or changes its process",
            "500 `model-failed` without a word from inside; no answer is moved by a row, and other models go on",
            "S: in TorchServe all callers of a batch share its status (#1329)",
        ),
        Fault("M15", "The same input in many requests at once", "the same answer"),
    ),
    "Overload and batching": (
        Fault(
            "O01",
            "Ten times the load that the server can answer",
            "at least 85 % of its capacity is answered, the others get 503 at once, and probes answer",
            "M: Gunicorn answers 17 %; no peer refuses anything",
        ),
        Fault("O02", "Clients that try again at once after each 503", "the throughput is not lower"),
        Fault("O03", "One client floods the server", "the others are not refused and hardly wait; the flood gets 429"),
        Fault("O04", "A client's deadline that is shorter than the queue", "504 in time, and the model does not run"),
        Fault("O05", "A request alone on the server, with micro-batching", "it waits for nobody"),
        Fault(
            "O06",
            "Requests that time out and whose answers come late",
            "no caller gets the answer of another",
            "S: Gunicorn's dirty workers before 26.1",
        ),
        Fault(
            "O07",
            "Very large and very small requests together",
            "large ones leave the loop, and clients take turns",
        ),
    ),
    "State and services": (
        Fault(
            "S01",
            "A run of bulk scoring, or a worker of its cluster, is killed at random moments",
            "it is resumed, and each row is in the result once, as if nothing had happened",
        ),
        Fault(
            "S02",
            "A run of bulk scoring is killed between a part and its journal, or while it finishes",
            "only whole parts count, and the files are those of a run that was not killed",
        ),
        Fault(
            "S03",
            "A disk that is full, while a version is packed or long bodies are received",
            "packing names it and leaves nothing; a body without room is refused, and its room is freed",
        ),
        Fault(
            "S04",
            "The SQLite database of keys is locked by another process",
            "the last known keys hold, and no request waits",
        ),
        Fault(
            "S05",
            "The database of keys is gone, is no database, or does not answer",
            "the last known keys hold for RETORT_KEYS_GRACE_S, then 503 with `Retry-After`, until it is back",
        ),
        Fault(
            "S06",
            "Redis is gone, hangs, or comes back",
            "no request waits for it, each host counts alone, one line is logged, and counts are sent when it is back",
            "S: flask-limiter answers 500 on every route (#319, #417), or lets all pass (#363)",
        ),
        Fault(
            "S07",
            "The same `Idempotency-Key` twice",
            "the same request gets the job that it has made, and another one 422; predictions change nothing, so that "
            "clients and proxies may repeat them without a key",
        ),
        Fault("S08", "Two runs of bulk scoring write one output", "the second is refused, and the first goes on"),
        Fault(
            "S09",
            "A download of results is cut",
            "the client asks for the rest as a range, and gets it if the result is still the same (`If-Range`)",
        ),
        Fault("S10", "Very many queued jobs", "a client that has RETORT_JOBS_OPEN of them gets 429 with `Retry-After`"),
    ),
    "Security": (
        Fault(
            "X01",
            "A pickle as the body of a prediction, as every media type",
            "refused, and nothing is unpickled",
        ),
        Fault(
            "X02",
            "Code of the server that unpickles",
            "only the loader of artifacts imports a library that unpickles; packing and bulk scoring do not serve",
        ),
        Fault(
            "X03",
            "URLs in fields, and whatever else could make the server contact others",
            "a URL is a text or refused; the commands and the server contact no other machine",
        ),
        Fault(
            "X04",
            "Hostile names of models and versions: `..`, NUL, `%2f`, other digits",
            "404, 405 or 422; only names of models and versions are looked up",
        ),
        Fault(
            "X05",
            "A public address without keys; `/metrics` and changes of models by anybody",
            "the server does not start; each view needs its scope",
        ),
        Fault(
            "X06",
            "Whatever makes an error",
            "no traceback, path, class or secret in the answer",
        ),
        Fault(
            "X07",
            "Every URL with no key, a wrong, revoked or expired one, one for something else, two, or one of 10 kB",
            "401 or 403 (431 for 10 kB), never an answer; the refusal does not repeat the key",
        ),
        Fault(
            "X08",
            "Guessing keys by the time of the answer",
            "a salted hash of each key is stored, and compared in constant time (`hmac.compare_digest`); time "
            "itself is not measured",
        ),
        Fault(
            "X09",
            "Very many problem types and predicted classes as labels of metrics",
            "their number is bounded, the rest is `other`, and promtool accepts the text",
        ),
        Fault(
            "X10",
            "Line breaks, ANSI codes and JSON in paths, headers and ids",
            "one request is one line of valid JSON; an id that does not fit is replaced",
        ),
        Fault("X11", "Line breaks in header fields of answers", "500, or the value is replaced: no field is made"),
        Fault(
            "X12",
            "Forged `X-Forwarded-*`; pages of other origins",
            "forged fields change nothing; other origins read nothing and change no model",
        ),
    ),
    "Long runs": (
        Fault(
            "R01",
            "Steady load; short forms of six rows of `make soak`",
            "descriptors and threads stay as they were, and no answer is wrong; `make soak` measures memory, too",
        ),
        Fault(
            "R02",
            "An hour of faults in random order",
            "",
            untested="no test: `make soak` injects faults one after another",
        ),
    ),
}
FAULTS = {fault.id: fault for faults in SECTIONS.values() for fault in faults}
