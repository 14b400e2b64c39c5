"""Every setting, declared once: default, unit, reader and description. A test compares the documented table with it."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.errors import InvalidSettings
from app.settings import readers
from app.settings.kubernetes import set_by_kubernetes

PREFIX = "RETORT_"
MODELS_DIR = Path("models")
READ_BY_GUNICORN: dict[str, Callable[[str], Any]] = {
    "FORWARDED_ALLOW_IPS": readers.networks,
    "GUNICORN_CMD_ARGS": readers.arguments,
}
"""Variables that only Gunicorn uses. They are checked here, so that one error names all wrong ones."""


def _setting(
    env: str, default: Any, prose: str, read: Callable[[str], Any], unit: str = "", secret: bool = False
) -> Any:
    return field(default=default, metadata={"env": env, "prose": prose, "read": read, "unit": unit, "secret": secret})


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the service, read once in the factory. Immutable, so safe to share between threads."""

    host: str = _setting(
        "HOST",
        "",
        "address to bind: host name, IP address or `unix:/path/to.sock`; empty: 127.0.0.1 in development, else 0.0.0.0",
        readers.host,
    )
    port: int = _setting("PORT", 8000, "port to bind", readers.count(1, 65535))
    web_concurrency: int = _setting(
        "WEB_CONCURRENCY",
        1,
        "worker processes; `auto`: one for each whole core that the CPU affinity and the cgroup allow",
        readers.workers,
        unit="processes",
    )
    log_level: str = _setting(
        "LOG_LEVEL",
        "INFO",
        "least severe log line written",
        readers.one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
    )
    env: str = _setting(
        "RETORT_ENV",
        "production",
        "`production` (JSON logs) or `development` (binds 127.0.0.1, readable logs, packs stray artifacts at start)",
        readers.one_of("production", "development"),
    )
    models_dir: Path = _setting("RETORT_MODELS_DIR", MODELS_DIR, "where versions are found", Path)  # noqa: RUF009
    default_model: str = _setting(
        "RETORT_DEFAULT_MODEL", "", "the model behind `/predict`; empty: the only one, or the one marked", str.strip
    )
    runtime: str = _setting(
        "RETORT_RUNTIME",
        "auto",
        "`auto` (the graph where it is proven equal, else the artifact) or `artifact`",
        readers.one_of("auto", "artifact"),
    )
    batching: str = _setting(
        "RETORT_BATCHING",
        "auto",
        "`auto` (requests to an artifact share runs where packing measured that it pays), `on` (all that may) or `off`",
        readers.one_of("auto", "on", "off"),
    )
    max_batch_rows: int = _setting(
        "RETORT_MAX_BATCH_ROWS", 256, "most rows of requests that share a run", readers.count(1, 1_000_000), unit="rows"
    )
    worker: str = _setting(
        "RETORT_WORKER", "retort", "Gunicorn's worker class: `retort` or `gthread`", readers.one_of("retort", "gthread")
    )
    request_timeout_s: int = _setting(
        "RETORT_REQUEST_TIMEOUT_S",
        30,
        "longest that a request may take; a client may ask for less",
        readers.count(1, 86_400),
        unit="seconds",
    )
    drain_delay_s: int = _setting(
        "RETORT_DRAIN_DELAY_S",
        0,
        "how long new requests are taken after SIGTERM, while /readyz says 503; of the 18 s that a worker has to end",
        readers.count(0, 18),  # `graceful_timeout` less the worker's `KILLED_BEFORE_S`
        unit="seconds",
    )
    queue_requests: int = _setting(
        "RETORT_QUEUE_REQUESTS",
        256,
        "most requests of a worker that wait for a thread; more get 503",
        readers.count(1, 100_000),
        unit="requests",
    )
    queue_max_wait_ms: int = _setting(
        "RETORT_QUEUE_MAX_WAIT_MS",
        300,
        "longest that a request waits for a thread before 503",
        readers.count(1, 600_000),
        unit="milliseconds",
    )
    threads: int = _setting(
        "RETORT_THREADS", 8, "request threads in each worker", readers.count(1, 1024), unit="threads"
    )
    steps: str = _setting(
        "RETORT_STEPS", "", "module with the steps of models, importable from the working directory", str.strip
    )
    waiting_threads: int = _setting(
        "RETORT_WAITING_THREADS",
        512,
        "most requests of a worker at once that have a blocking step, or are streams; each is a thread while it lasts",
        readers.count(1, 10_000),
        unit="threads",
    )
    waiting_requests: int = _setting(
        "RETORT_WAITING_REQUESTS",
        10_000,
        "most requests of a worker at once to models whose steps are all async; they need no threads to wait",
        readers.count(1, 1_000_000),
        unit="requests",
    )
    connections_per_host: int = _setting(
        "RETORT_CONNECTIONS_PER_HOST",
        5000,
        "most connections of a worker's async steps to one other service; steps wait for a free one",
        readers.count(1, 100_000),
        unit="connections",
    )
    database_url: str = _setting(
        "DATABASE_URL", "", "database of the steps, as SQLAlchemy writes it", str.strip, secret=True
    )
    body_limit_bytes: int = _setting(
        "RETORT_BODY_LIMIT_BYTES",
        32 * 2**20,
        "longest request body that is read",
        readers.count(1, 2**40),
        unit="bytes",
    )
    max_instances: int = _setting(
        "RETORT_MAX_INSTANCES", 100_000, "most instances in one request", readers.count(1, 10**9), unit="rows"
    )
    max_values: int = _setting(
        "RETORT_MAX_VALUES",
        2_000_000,
        "most values in one request: numbers, texts and nulls, and a list or an object as four",
        readers.count(1000, 10**9),
        unit="values",
    )
    out_of_range: str = _setting(
        "RETORT_OUT_OF_RANGE",
        "ignore",
        "numbers outside the range seen in training: `ignore`, `warn` or `reject`; a model's own choice goes before",
        readers.one_of("ignore", "warn", "reject"),
    )
    image_pixel_limit: int = _setting(
        "RETORT_IMAGE_PIXEL_LIMIT",
        25_000_000,
        "most pixels of an image that is decoded",
        readers.count(1, 10**9),
        unit="pixels",
    )
    packing_timeout_s: int = _setting(
        "RETORT_PACKING_TIMEOUT_S",
        600,
        "longest that packing one artifact may take",
        readers.count(1, 86_400),
        unit="seconds",
    )
    packing_memory_bytes: int = _setting(
        "RETORT_PACKING_MEMORY_BYTES",
        0,
        "most memory that packing one artifact may take; 0: as much as the machine has",
        readers.count(0, 2**50),
        unit="bytes",
    )
    graph_limit_bytes: int = _setting(
        "RETORT_GRAPH_LIMIT_BYTES", 2**30, "largest graph that packing keeps", readers.count(0, 2**40), unit="bytes"
    )
    kserve_v1: bool = _setting(
        "RETORT_KSERVE_V1",
        False,
        "`on`: `inputs` of `/v1/models/<model>:predict` are answered as KServe does (`predictions`); "
        "`off`: as TensorFlow Serving does (`outputs`)",
        readers.on_off,
    )
    cors_origins: tuple[str, ...] = _setting(
        "RETORT_CORS_ORIGINS",
        (),
        "origins whose pages may call this server, comma-separated, or `*`; empty: none",
        readers.origins,
    )
    cors_credentials: bool = _setting(
        "RETORT_CORS_CREDENTIALS",
        False,
        "`on`: those pages may send cookies and `Authorization`; not with `*` in `RETORT_CORS_ORIGINS`",
        readers.on_off,
    )
    cors_max_age_s: int = _setting(
        "RETORT_CORS_MAX_AGE_S",
        600,
        "how long a browser may remember what those pages may send",
        readers.count(0, 86_400),
        unit="seconds",
    )
    trusted_proxies: int = _setting(
        "RETORT_TRUSTED_PROXIES",
        0,
        "proxies in front of this server, each of which sets `X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix`",
        readers.count(0, 10),
        unit="proxies",
    )
    allowed_hosts: tuple[str, ...] = _setting(
        "RETORT_ALLOWED_HOSTS",
        (),
        "host names that development mode accepts in `Host`, comma-separated, beside localhost, 127.0.0.1, [::1] and "
        "`HOST`",
        readers.host_names,
    )
    ready_in_quarantine: bool = _setting(
        "RETORT_READY_IN_QUARANTINE",
        True,
        "`on`: `/readyz` stays 200 while a version is quarantined, as long as another one is served",
        readers.on_off,
    )
    access_log: bool = _setting("RETORT_ACCESS_LOG", True, "`on`: a log line for each request", readers.on_off)
    script_name: str = _setting(
        "SCRIPT_NAME",
        "",
        "the path below which a proxy serves this application, such as /ml, where the proxy passes it on unchanged",
        readers.prefix,
    )

    aip_http_port: int = _setting(
        "AIP_HTTP_PORT",
        0,
        "port to bind in a container of Vertex AI, which sets it; 0: `PORT`",
        readers.count(0, 65535),
    )
    aip_health_route: str = _setting(
        "AIP_HEALTH_ROUTE", "", "where Vertex AI asks for health, beside its default", readers.route
    )
    aip_predict_route: str = _setting(
        "AIP_PREDICT_ROUTE", "", "where Vertex AI asks for predictions, beside its default", readers.route
    )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read the environment. An empty variable counts as unset.

        Raises:
            InvalidSettings: some `RETORT_*` variables are unknown, or some values cannot be read or do not go together.
                The error names all of them.
        """
        declared = {f.metadata["env"]: f for f in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        problems = []
        for name in sorted(environ):
            read = declared[name].metadata["read"] if name in declared else READ_BY_GUNICORN.get(name)
            if read is not None and environ[name] != "":
                try:
                    value = read(environ[name])
                except ValueError as error:
                    problems.append(f"{name}={environ[name]!r} {error}")
                    continue
                if name in declared:
                    values[declared[name].name] = value
            elif name.startswith(PREFIX) and name not in declared and not set_by_kubernetes(name, environ[name]):
                bare = {
                    env.removeprefix(PREFIX): env for env in declared
                }  # with the prefix, all names would be similar
                near = [bare[match] for match in difflib.get_close_matches(name.removeprefix(PREFIX), bare, n=1)]
                problems.append(f"{name} is not a setting" + (f" (did you mean {near[0]}?)" if near else ""))
        if values.get("cors_credentials") and "*" in values.get("cors_origins", ()):
            problems.append(
                "RETORT_CORS_CREDENTIALS='on' needs RETORT_CORS_ORIGINS to name the origins, instead of '*'"
            )
        if problems:
            raise InvalidSettings(problems)
        return cls(**values)

    @property
    def development(self) -> bool:
        """Whether this is a developer's own machine."""
        return self.env == "development"

    @property
    def url(self) -> str:
        """The address of the server for a browser on this machine."""
        host = "127.0.0.1" if self.host in ("", "0.0.0.0", "::", "[::]") else self.host
        return f"http://{host}:{self.aip_http_port or self.port}{self.script_name}"

    @property
    def bind(self) -> str:
        """The address that Gunicorn binds: `host:port`, with an IPv6 address in brackets, or `unix:/path`."""
        host = self.host or ("127.0.0.1" if self.development else "0.0.0.0")
        if host.startswith(readers.UNIX):
            return host
        port = self.aip_http_port or self.port
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class SettingLine:
    """One row of the settings table, for `flask settings` and the documentation."""

    env: str
    value: str
    default: str
    unit: str
    prose: str
    source: str


def table(
    settings: Settings, environ: Mapping[str, str], in_files: Mapping[str, str] | None = None
) -> list[SettingLine]:
    """Return every setting with its value and its source. Secrets are masked.

    Args:
        settings: the settings.
        environ: the environment that they were read from.
        in_files: the variables of `.env` and `.flaskenv`, which are in the environment too.
    """
    lines = []
    for f in dataclasses.fields(settings):
        env = f.metadata["env"]
        value = _shown(getattr(settings, f.name))
        lines.append(
            SettingLine(
                env=env,
                value="***" if f.metadata["secret"] and value else value,
                default=_shown(f.default),
                unit=f.metadata["unit"],
                prose=f.metadata["prose"],
                source=_source(environ.get(env, ""), (in_files or {}).get(env)),
            )
        )
    return lines


def _source(value: str, in_file: str | None) -> str:
    if value == "":
        return "default"
    return ".env" if value == in_file else "environment"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(value) if isinstance(value, tuple) else str(value)
