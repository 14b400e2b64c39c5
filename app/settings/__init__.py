"""Every setting, declared once: default, unit, reader and description. A test compares the documented table with it."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from app.errors import InvalidSettings
from app.settings import readers
from app.settings.readers import set_by_kubernetes

PREFIX = "RETORT_"
MODELS_DIR = Path("models")
STANDARD = ("HOST", "PORT", "WEB_CONCURRENCY", "LOG_LEVEL", "DATABASE_URL", "REDIS_URL", "SCRIPT_NAME")
STANDARD_PREFIXES = ("AIP_", "OTEL_")
"""Variables with standard names. The variable of any other setting is `RETORT_` and its name in capitals."""

READ_BY_GUNICORN: dict[str, Callable[[str], Any]] = {
    "FORWARDED_ALLOW_IPS": readers.networks,
    "GUNICORN_CMD_ARGS": readers.arguments,
}
"""Variables that only Gunicorn uses. They are checked with the settings, so that one error names all wrong ones."""


def _setting(default: Any, prose: str, read: Callable[[str], Any], unit: str = "", secret: bool = False) -> Any:
    return field(default=default, metadata={"prose": prose, "read": read, "unit": unit, "secret": secret})


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    env = name.upper()
    return env if env in STANDARD or env.startswith(STANDARD_PREFIXES) else PREFIX + env


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the service, read once in the factory. Immutable, so safe to share between threads.

    `variable` returns the environment variable of each, such as `RETORT_MAX_VALUES` or `PORT`.
    """

    host: str = _setting(
        "",
        "address to bind: host name, IP address or `unix:/path/to.sock`; empty: 127.0.0.1 in development, else 0.0.0.0",
        readers.host,
    )
    port: int = _setting(8000, "port to bind", readers.count(1, 65535))
    web_concurrency: int = _setting(
        1,
        "worker processes; `auto`: one for each whole core that the CPU affinity and the cgroup allow",
        readers.workers,
        "processes",
    )
    log_level: str = _setting(
        "INFO", "least severe log line written", readers.one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    )
    env: str = _setting(
        "production",
        "`production` (JSON logs) or `development` (binds 127.0.0.1, readable logs, packs stray artifacts at start)",
        readers.one_of("production", "development"),
    )
    models_dir: Path = _setting(MODELS_DIR, "where versions are found", Path)  # noqa: RUF009
    default_model: str = _setting("", "the model behind `/predict`; empty: the only one, or the one marked", str.strip)
    runtime: str = _setting(
        "auto",
        "`auto` (the graph where it is proven equal, else the artifact) or `artifact`",
        readers.one_of("auto", "artifact"),
    )
    batching: str = _setting(
        "auto",
        "`auto` (requests to an artifact share runs where packing measured that it pays), `on` (all that may) or `off`",
        readers.one_of("auto", "on", "off"),
    )
    max_batch_rows: int = _setting(256, "most rows of requests that share a run", readers.count(1, 1_000_000), "rows")
    worker: str = _setting(
        "retort", "Gunicorn's worker class: `retort` or `gthread`", readers.one_of("retort", "gthread")
    )
    request_timeout_s: int = _setting(
        30, "longest that a request may take; a client may ask for less", readers.count(1, 86_400), "seconds"
    )
    # `graceful_timeout` less the worker's `KILLED_BEFORE_S`
    drain_delay_s: int = _setting(
        0,
        "how long new requests are taken after SIGTERM, while /readyz says 503; of the 18 s that a worker has to end",
        readers.count(0, 18),
        "seconds",
    )
    queue_requests: int = _setting(
        256, "most requests of a worker that wait for a thread; more get 503", readers.count(1, 100_000), "requests"
    )
    queue_max_wait_ms: int = _setting(
        300, "longest that a request waits for a thread before 503", readers.count(1, 600_000), "milliseconds"
    )
    threads: int = _setting(8, "request threads in each worker", readers.count(1, 1024), "threads")
    steps: str = _setting("", "module with the steps of models, importable from the working directory", str.strip)
    waiting_threads: int = _setting(
        512,
        "most requests of a worker at once that have a blocking step, or are streams; each is a thread while it lasts",
        readers.count(1, 10_000),
        "threads",
    )
    waiting_requests: int = _setting(
        10_000,
        "most requests of a worker at once to models whose steps are all async; they need no threads to wait",
        readers.count(1, 1_000_000),
        "requests",
    )
    connections_per_host: int = _setting(
        5000,
        "most connections of a worker's async steps to one other service; steps wait for a free one",
        readers.count(1, 100_000),
        "connections",
    )
    database_url: str = _setting(
        "",
        "database of the steps, the API keys and the jobs, as SQLAlchemy writes it; empty: keys and jobs are in "
        "`RETORT_INSTANCE_DIR`",
        str.strip,
        secret=True,
    )
    instance_dir: Path = _setting(Path("instance"), "where the server keeps its own files: `retort.db`", Path)  # noqa: RUF009
    public: bool = _setting(
        False,
        "`1`: start without any API key although other machines may reach the server; `0`: refuse to",
        readers.switch,
    )
    api_keys: tuple[str, ...] = _setting(
        (), "further API keys: entries that `flask keys create --print-hash` prints", readers.words, secret=True
    )
    key_secret: str = _setting(
        "", "secret that goes into the hash of each API key; if it changes, no key is valid any more", str, secret=True
    )
    keys_grace_s: int = _setting(
        600,
        "how long the last known API keys hold while the database does not answer; then requests get 503",
        readers.count(5, 604_800),
        "seconds",
    )
    oidc_issuer: str = _setting("", "issuer of OpenID Connect whose tokens count as keys", readers.issuer)
    oidc_audience: str = _setting("", "the audience that such a token must name", str.strip)
    oidc_jwks_url: str = _setting(
        "", "where the issuer's keys are; empty: where its configuration says", readers.issuer
    )
    body_limit_bytes: int = _setting(32 * 2**20, "longest request body that is read", readers.count(1, 2**40), "bytes")
    max_instances: int = _setting(100_000, "most instances in one request", readers.count(1, 10**9), "rows")
    max_values: int = _setting(
        2_000_000,
        "most values in one request: numbers, texts and nulls, and a list or an object as four",
        readers.count(1000, 10**9),
        "values",
    )
    max_text_chars: int = _setting(
        1_000_000,
        "most characters in one request's texts, streams excepted; as many as the body has bytes are always read",
        readers.count(1000, 10**9),
        "characters",
    )
    out_of_range: str = _setting(
        "ignore",
        "numbers outside the range seen in training: `ignore`, `warn` or `reject`; a model's own choice goes before",
        readers.one_of("ignore", "warn", "reject"),
    )
    image_pixel_limit: int = _setting(
        25_000_000, "most pixels of an image that is decoded", readers.count(1, 10**9), "pixels"
    )
    packing_timeout_s: int = _setting(
        600, "longest that packing one artifact may take", readers.count(1, 86_400), "seconds"
    )
    packing_memory_bytes: int = _setting(
        0,
        "most memory that packing one artifact may take; 0: as much as the machine has",
        readers.count(0, 2**50),
        "bytes",
    )
    graph_limit_bytes: int = _setting(2**30, "largest graph that packing keeps", readers.count(0, 2**40), "bytes")
    kserve_v1: bool = _setting(
        False,
        "`on`: `inputs` of `/v1/models/<model>:predict` are answered as KServe does (`predictions`); "
        "`off`: as TensorFlow Serving does (`outputs`)",
        readers.on_off,
    )
    cors_origins: tuple[str, ...] = _setting(
        (), "origins whose pages may call this server, comma-separated, or `*`; empty: none", readers.origins
    )
    cors_credentials: bool = _setting(
        False,
        "`on`: those pages may send cookies and `Authorization`; not with `*` in `RETORT_CORS_ORIGINS`",
        readers.on_off,
    )
    cors_max_age_s: int = _setting(
        600, "how long a browser may remember what those pages may send", readers.count(0, 86_400), "seconds"
    )
    trusted_proxies: int = _setting(
        0,
        "proxies in front of this server, each of which sets `X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix`",
        readers.count(0, 10),
        "proxies",
    )
    limit_requests: str = _setting(
        "",
        "most requests of a client, such as `100/minute;2000/hour`; a client is a key, or an address without one; "
        "empty: no limit",
        readers.limits,
    )
    limit_rows: str = _setting(
        "", "most rows that a client may have predicted, such as `100000/minute`; empty: no limit", readers.limits
    )
    limit_address_requests: str = _setting(
        "", "most requests of an address, whichever keys it shows; empty: no limit", readers.limits
    )
    limit_address_rows: str = _setting(
        "", "most rows that an address may have predicted, whichever keys it shows; empty: no limit", readers.limits
    )
    redis_url: str = _setting(
        "",
        "Redis server by which several hosts share their limits and the queue of jobs; empty: each has its own",
        readers.redis_url,
        secret=True,
    )
    jobs_dir: str = _setting(
        "",
        "where files of jobs are kept, for the server and its job workers; empty: `jobs` in the instance folder",
        str.strip,
    )
    jobs_bytes: int = _setting(
        10 * 2**30, "most bytes that all files of jobs may take together", readers.count(1, 2**50), "bytes"
    )
    jobs_upload_bytes: int = _setting(
        2**30, "longest file that is uploaded for a job", readers.count(1, 2**40), "bytes"
    )
    jobs_open: int = _setting(10, "most jobs of a client that wait or run at once", readers.count(1, 100_000), "jobs")
    jobs_keep_s: int = _setting(
        604_800, "how long an ended job is kept, with its result", readers.count(1, 315_360_000), "seconds"
    )
    jobs_lease_s: int = _setting(
        15,
        "how long the worker of a job may give no sign of life before another one goes on with it",
        readers.count(2, 3600),
        "seconds",
    )
    jobs_urls: tuple[str, ...] = _setting(
        (),
        "beginnings of the URLs that jobs may read and write, such as `s3://bucket/scoring/`, comma-separated; "
        "empty: none",
        readers.url_prefixes,
    )
    allowed_hosts: tuple[str, ...] = _setting(
        (),
        "host names that development mode accepts in `Host`, comma-separated, beside localhost, 127.0.0.1, [::1] and "
        "`HOST`",
        readers.host_names,
    )
    ready_in_quarantine: bool = _setting(
        True,
        "`on`: `/readyz` stays 200 while a version is quarantined, as long as another one is served",
        readers.on_off,
    )
    access_log: bool = _setting(True, "`on`: a log line for each request", readers.on_off)
    access_log_sample: float = _setting(
        1.0,
        "share of the successful requests that are logged, from 0 to 1; errors, and requests of more than a second, "
        "always are",
        readers.share,
    )
    script_name: str = _setting(
        "",
        "the path below which a proxy serves this application, such as /ml, where the proxy passes it on unchanged",
        readers.prefix,
    )

    aip_http_port: int = _setting(
        0, "port to bind in a container of Vertex AI, which sets it; 0: `PORT`", readers.count(0, 65535)
    )
    aip_health_route: str = _setting("", "where Vertex AI asks for health, beside its default", readers.route)
    aip_predict_route: str = _setting("", "where Vertex AI asks for predictions, beside its default", readers.route)

    otel_exporter_otlp_endpoint: str = _setting(
        "", "URL to which OpenTelemetry exports traces by OTLP over HTTP; empty: no traces", str.strip
    )
    otel_exporter_otlp_traces_endpoint: str = _setting("", "the same for traces alone, with its path", str.strip)
    otel_sdk_disabled: str = _setting("false", "`true`: no traces", str.strip)
    otel_traces_exporter: str = _setting("otlp", "`none`: no traces", str.strip)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read the environment. An empty variable counts as unset.

        Raises:
            InvalidSettings: some `RETORT_*` variables are unknown, or some values cannot be read or contradict each
                other. The error names all of them.
        """
        declared = {variable(f.name): f for f in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        problems = []
        for name in sorted(environ):
            read = declared[name].metadata["read"] if name in declared else READ_BY_GUNICORN.get(name)
            if read is not None and environ[name] != "":
                try:
                    value = read(environ[name])
                except ValueError as error:
                    is_secret = name in declared and declared[name].metadata["secret"]
                    problems.append(f"{name}={'***' if is_secret else repr(environ[name])} {error}")
                    continue
                if name in declared:
                    values[declared[name].name] = value
            elif name.startswith(PREFIX) and name not in declared and not set_by_kubernetes(name, environ[name]):
                # Compare without the prefix, which makes all names similar.
                bare = {env.removeprefix(PREFIX): env for env in declared}
                near = [bare[match] for match in difflib.get_close_matches(name.removeprefix(PREFIX), bare, n=1)]
                problems.append(f"{name} is not a setting" + (f" (did you mean {near[0]}?)" if near else ""))
        if values.get("cors_credentials") and "*" in values.get("cors_origins", ()):
            problems.append(
                "RETORT_CORS_CREDENTIALS='on' needs RETORT_CORS_ORIGINS to name the origins, instead of '*'"
            )
        settings = cls(**values)
        if settings.redis_url and settings.has_limits and find_spec("redis") is None:
            problems.append("REDIS_URL needs a library: pip install redis")
        if problems:
            raise InvalidSettings(problems)
        return settings

    @property
    def development(self) -> bool:
        """Whether this is a developer's own machine."""
        return self.env == "development"

    @property
    def has_limits(self) -> bool:
        """Whether clients have any limit."""
        return bool(self.limit_requests or self.limit_rows or self.limit_address_requests or self.limit_address_rows)

    @property
    def jobs_folder(self) -> Path:
        """The folder with the files of jobs."""
        return Path(self.jobs_dir) if self.jobs_dir else self.instance_dir / "jobs"

    @property
    def traces(self) -> bool:
        """Whether traces are exported."""
        is_off = self.otel_sdk_disabled.lower() == "true" or self.otel_traces_exporter.lower() == "none"
        return not is_off and bool(self.otel_exporter_otlp_endpoint or self.otel_exporter_otlp_traces_endpoint)

    @property
    def url(self) -> str:
        """The URL of the server for a browser on this machine. A Unix socket is written as nginx writes it."""
        if self.host.startswith(readers.UNIX):
            return f"{self.host}:{self.script_name}"
        host = "127.0.0.1" if self.host in ("", "0.0.0.0", "::") else self.host
        return f"http://{_bracketed(host)}:{self.aip_http_port or self.port}{self.script_name}"

    @property
    def bind(self) -> str:
        """The address that Gunicorn binds: `host:port`, with an IPv6 address in brackets, or `unix:/path`."""
        host = self.host or ("127.0.0.1" if self.development else "0.0.0.0")
        if host.startswith(readers.UNIX):
            return host
        return f"{_bracketed(host)}:{self.aip_http_port or self.port}"


def _bracketed(host: str) -> str:
    """Return a host in the form that precedes a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host
