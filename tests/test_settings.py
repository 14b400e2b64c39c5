"""Settings from the environment, their errors, and the table of `flask settings`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.errors import InvalidSettings
from app.settings import Settings
from app.settings.readers import is_local
from app.settings.table import SettingLine, table

READ = [
    ("HOST", " ::1 ", "host", "::1"),
    ("PORT", "9000", "port", 9000),
    ("WEB_CONCURRENCY", "4", "web_concurrency", 4),
    ("LOG_LEVEL", "debug", "log_level", "DEBUG"),
    ("RETORT_ENV", "Development", "env", "development"),
    ("RETORT_MODELS_DIR", "/srv/models", "models_dir", Path("/srv/models")),
    ("RETORT_DEFAULT_MODEL", " penguins ", "default_model", "penguins"),
    ("RETORT_RUNTIME", "ARTIFACT", "runtime", "artifact"),
    ("RETORT_BATCHING", "OFF", "batching", "off"),
    ("RETORT_MAX_BATCH_ROWS", "64", "max_batch_rows", 64),
    ("RETORT_WORKER", "GThread", "worker", "gthread"),
    ("RETORT_REQUEST_TIMEOUT_S", "5", "request_timeout_s", 5),
    ("RETORT_DRAIN_DELAY_S", "3", "drain_delay_s", 3),
    ("RETORT_QUEUE_REQUESTS", "1", "queue_requests", 1),
    ("RETORT_QUEUE_MAX_WAIT_MS", "50", "queue_max_wait_ms", 50),
    ("RETORT_THREADS", "1", "threads", 1),
    ("RETORT_STEPS", " my_steps ", "steps", "my_steps"),
    ("RETORT_WAITING_THREADS", "64", "waiting_threads", 64),
    ("RETORT_WAITING_REQUESTS", "64", "waiting_requests", 64),
    ("RETORT_CONNECTIONS_PER_HOST", "64", "connections_per_host", 64),
    ("DATABASE_URL", "sqlite:///a.db", "database_url", "sqlite:///a.db"),
    ("RETORT_INSTANCE_DIR", "/var/lib/retort", "instance_dir", Path("/var/lib/retort")),
    ("RETORT_PUBLIC", "1", "public", True),
    ("RETORT_API_KEYS", "id=a&hash=b, id=c", "api_keys", ("id=a&hash=b", "id=c")),
    ("RETORT_KEY_SECRET", "pepper", "key_secret", "pepper"),
    ("RETORT_KEYS_GRACE_S", "60", "keys_grace_s", 60),
    ("RETORT_OIDC_ISSUER", "https://login.example.org/a", "oidc_issuer", "https://login.example.org/a"),
    ("RETORT_OIDC_AUDIENCE", " retort ", "oidc_audience", "retort"),
    ("RETORT_OIDC_JWKS_URL", "http://localhost:9/keys", "oidc_jwks_url", "http://localhost:9/keys"),
    ("RETORT_BODY_LIMIT_BYTES", "1024", "body_limit_bytes", 1024),
    ("RETORT_MAX_INSTANCES", "10", "max_instances", 10),
    ("RETORT_MAX_VALUES", "5000", "max_values", 5000),
    ("RETORT_MAX_TEXT_CHARS", "5000", "max_text_chars", 5000),
    ("RETORT_OUT_OF_RANGE", "Warn", "out_of_range", "warn"),
    ("RETORT_IMAGE_PIXEL_LIMIT", "100", "image_pixel_limit", 100),
    ("RETORT_PACKING_TIMEOUT_S", "5", "packing_timeout_s", 5),
    ("RETORT_PACKING_MEMORY_BYTES", "1000000000", "packing_memory_bytes", 10**9),
    ("RETORT_GRAPH_LIMIT_BYTES", "0", "graph_limit_bytes", 0),
    ("RETORT_KSERVE_V1", "ON", "kserve_v1", True),
    (
        "RETORT_CORS_ORIGINS",
        "https://a.example, https://b.example,,",
        "cors_origins",
        ("https://a.example", "https://b.example"),
    ),
    ("RETORT_CORS_CREDENTIALS", "on", "cors_credentials", True),
    ("RETORT_CORS_MAX_AGE_S", "0", "cors_max_age_s", 0),
    ("RETORT_TRUSTED_PROXIES", "2", "trusted_proxies", 2),
    ("RETORT_LIMIT_REQUESTS", " 100/minute; 5000 per 2 hours", "limit_requests", "100/minute; 5000 per 2 hours"),
    ("RETORT_LIMIT_ROWS", "100000/minute", "limit_rows", "100000/minute"),
    ("RETORT_LIMIT_ADDRESS_REQUESTS", "10 per second", "limit_address_requests", "10 per second"),
    ("RETORT_LIMIT_ADDRESS_ROWS", "1000/day", "limit_address_rows", "1000/day"),
    ("REDIS_URL", "redis://:secret@cache:6379/1", "redis_url", "redis://:secret@cache:6379/1"),
    ("RETORT_JOBS_DIR", " /srv/jobs ", "jobs_dir", "/srv/jobs"),
    ("RETORT_JOBS_BYTES", "1000", "jobs_bytes", 1000),
    ("RETORT_JOBS_UPLOAD_BYTES", "100", "jobs_upload_bytes", 100),
    ("RETORT_JOBS_OPEN", "2", "jobs_open", 2),
    ("RETORT_JOBS_KEEP_S", "60", "jobs_keep_s", 60),
    ("RETORT_JOBS_LEASE_S", "2", "jobs_lease_s", 2),
    ("RETORT_JOBS_URLS", "s3://bucket/a/, https://h:8/", "jobs_urls", ("s3://bucket/a/", "https://h:8/")),
    (
        "RETORT_ALLOWED_HOSTS",
        "Dev.example.org, 10.0.0.7,[FD00::1],fd00::2",
        "allowed_hosts",
        ("dev.example.org", "10.0.0.7", "[fd00::1]", "[fd00::2]"),
    ),
    ("RETORT_READY_IN_QUARANTINE", "off", "ready_in_quarantine", False),
    ("RETORT_ACCESS_LOG", "Off", "access_log", False),
    ("RETORT_ACCESS_LOG_SAMPLE", "0.1", "access_log_sample", 0.1),
    ("SCRIPT_NAME", "/ml/", "script_name", "/ml"),
    ("AIP_HTTP_PORT", "8081", "aip_http_port", 8081),
    ("AIP_HEALTH_ROUTE", "/health/1:live", "aip_health_route", "/health/1:live"),
    (
        "AIP_PREDICT_ROUTE",
        "/v1/endpoints/1/deployedModels/2:predict",
        "aip_predict_route",
        "/v1/endpoints/1/deployedModels/2:predict",
    ),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318 ", "otel_exporter_otlp_endpoint", "http://a:4318"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a/t", "otel_exporter_otlp_traces_endpoint", "http://a/t"),
    ("OTEL_SDK_DISABLED", "TRUE", "otel_sdk_disabled", "TRUE"),
    ("OTEL_TRACES_EXPORTER", "none", "otel_traces_exporter", "none"),
]
DEFAULTS = {
    "host": "",
    "port": 8000,
    "web_concurrency": 1,
    "log_level": "INFO",
    "env": "production",
    "models_dir": Path("models"),
    "default_model": "",
    "runtime": "auto",
    "batching": "auto",
    "max_batch_rows": 256,
    "worker": "retort",
    "request_timeout_s": 30,
    "drain_delay_s": 0,
    "queue_requests": 256,
    "queue_max_wait_ms": 300,
    "threads": 8,
    "steps": "",
    "waiting_threads": 512,
    "waiting_requests": 10_000,
    "connections_per_host": 5000,
    "database_url": "",
    "instance_dir": Path("instance"),
    "public": False,
    "api_keys": (),
    "key_secret": "",
    "keys_grace_s": 600,
    "oidc_issuer": "",
    "oidc_audience": "",
    "oidc_jwks_url": "",
    "body_limit_bytes": 32 * 1024 * 1024,
    "max_instances": 100_000,
    "max_values": 2_000_000,
    "max_text_chars": 1_000_000,
    "out_of_range": "ignore",
    "image_pixel_limit": 25_000_000,
    "packing_timeout_s": 600,
    "packing_memory_bytes": 0,
    "graph_limit_bytes": 2**30,
    "kserve_v1": False,
    "cors_origins": (),
    "cors_credentials": False,
    "cors_max_age_s": 600,
    "trusted_proxies": 0,
    "limit_requests": "",
    "limit_rows": "",
    "limit_address_requests": "",
    "limit_address_rows": "",
    "redis_url": "",
    "jobs_dir": "",
    "jobs_bytes": 10 * 2**30,
    "jobs_upload_bytes": 2**30,
    "jobs_open": 10,
    "jobs_keep_s": 604_800,
    "jobs_lease_s": 15,
    "jobs_urls": (),
    "allowed_hosts": (),
    "access_log": True,
    "access_log_sample": 1.0,
    "ready_in_quarantine": True,
    "script_name": "",
    "aip_http_port": 0,
    "aip_health_route": "",
    "aip_predict_route": "",
    "otel_exporter_otlp_endpoint": "",
    "otel_exporter_otlp_traces_endpoint": "",
    "otel_sdk_disabled": "false",
    "otel_traces_exporter": "otlp",
}


@dataclass(frozen=True)
class SecretSettings:
    """Settings with one more field, which is secret."""

    key: str = field(default="", metadata={"env": "RETORT_KEY", "prose": "a key", "unit": "", "secret": True})
    size: int = field(default=3, metadata={"env": "RETORT_SIZE", "prose": "a size", "unit": "rows", "secret": False})


def problems(environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(InvalidSettings) as refused:
        Settings.from_environ(environ)
    return refused.value.problems


@pytest.mark.parametrize(("env", "text", "name", "value"), READ, ids=[env for env, *_ in READ])
def test_each_setting_is_read_from_its_variable(env: str, text: str, name: str, value: object) -> None:
    settings = Settings.from_environ({env: text, "PATH": "/bin"})
    assert dataclasses.asdict(settings) == DEFAULTS | {name: value}


def test_every_setting_is_tested_here() -> None:
    assert {name for _, _, name, _ in READ} == {f.name for f in dataclasses.fields(Settings)} == set(DEFAULTS)


def test_without_an_environment_all_are_defaults() -> None:
    assert dataclasses.asdict(Settings.from_environ({})) == DEFAULTS
    assert Settings.from_environ({}) == Settings()


def test_an_empty_variable_counts_as_unset() -> None:
    assert Settings.from_environ(dict.fromkeys((env for env, *_ in READ), "")) == Settings()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("env", "text", "allowed"),
    [
        ("PORT", "eighty", "a whole number from 1 to 65535"),
        ("PORT", "0", "a whole number from 1 to 65535"),
        ("RETORT_ACCESS_LOG_SAMPLE", "all", "a number from 0 to 1"),
        ("RETORT_ACCESS_LOG_SAMPLE", "nan", "a number from 0 to 1"),
        ("RETORT_ACCESS_LOG_SAMPLE", "1.1", "a number from 0 to 1"),
        ("PORT", "65536", "a whole number from 1 to 65535"),
        ("PORT", "80.0", "a whole number from 1 to 65535"),
        ("PORT", "9" * 5000, "a whole number from 1 to 65535"),
        ("WEB_CONCURRENCY", "-1", "a whole number from 1 to 256, or auto"),
        ("WEB_CONCURRENCY", "many", "a whole number from 1 to 256, or auto"),
        ("RETORT_TRUSTED_PROXIES", "11", "a whole number from 0 to 10"),
        ("RETORT_CORS_CREDENTIALS", "yes", "one of: off, on"),
        ("GUNICORN_CMD_ARGS", "--bind 'x", "arguments as in a shell (no closing quotation)"),
        (
            "FORWARDED_ALLOW_IPS",
            "10.0.0.0/8,proxy",
            "* or IP addresses and networks, such as 10.0.0.0/8, not 'proxy'",
        ),
        (
            "RETORT_ALLOWED_HOSTS",
            "dev.example.org:8000,a b,ok",
            "host names without ports, such as dev.example.org, not 'dev.example.org:8000', 'a b'",
        ),
        ("RETORT_THREADS", "none", "a whole number from 1 to 1024"),
        ("RETORT_BODY_LIMIT_BYTES", "32M", "a whole number from 1 to 1099511627776"),
        ("RETORT_MAX_INSTANCES", "0", "a whole number from 1 to 1000000000"),
        ("RETORT_PACKING_TIMEOUT_S", "1h", "a whole number from 1 to 86400"),
        ("RETORT_DRAIN_DELAY_S", "19", "a whole number from 0 to 18"),
        ("RETORT_QUEUE_REQUESTS", "0", "a whole number from 1 to 100000"),
        ("RETORT_ENV", "dev", "one of: production, development"),
        ("RETORT_RUNTIME", "graph", "one of: auto, artifact"),
        ("RETORT_BATCHING", "always", "one of: auto, on, off"),
        ("SCRIPT_NAME", "ml", "the path of a URL, such as /ml"),
        ("SCRIPT_NAME", "//ml", "the path of a URL, such as /ml"),
        ("LOG_LEVEL", "TRACE", "one of: DEBUG, INFO, WARNING, ERROR, CRITICAL"),
    ],
)
def test_a_value_that_cannot_be_read_is_named_with_what_is_allowed(env: str, text: str, allowed: str) -> None:
    assert problems({env: text}) == (f"{env}={text!r} must be {allowed}",)


def test_a_secret_that_cannot_be_read_is_not_shown() -> None:
    wanted = "REDIS_URL=*** must be a URL that begins with redis://, rediss://, unix://"
    assert problems({"REDIS_URL": "cache:6379"}) == (wanted,)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("example.org", "example.org"),
        ("*,foo bar,https://a.org/", "*', 'foo bar', 'https://a.org/"),
        ("https://a.org,*", "*"),
        ("https://a.org,foo bar", "foo bar"),
        ("https://a.org/", "https://a.org/"),
        ("https://a.org/app", "https://a.org/app"),
        ("https://*.a.org", "https://*.a.org"),
        ("https://me@a.org", "https://me@a.org"),
        ("https://a.org:port", "https://a.org:port"),
        # A browser leaves the scheme's own port out.
        ("https://a.org:443", "https://a.org:443"),
        ("http://a.org:80", "http://a.org:80"),
        ("http://[::1]:80", "http://[::1]:80"),
        ("http://::1:3000", "http://::1:3000"),
        ("null", "null"),
    ],
)
def test_invalid_origins_are_named(text: str, wrong: str) -> None:
    [said] = problems({"RETORT_CORS_ORIGINS": text})
    assert said.startswith(f"RETORT_CORS_ORIGINS={text!r} must be * alone, or origins as browsers send them")
    assert said.endswith(f", not '{wrong}'")


@pytest.mark.parametrize(
    "text",
    [
        *("*", "https://a.org", "HTTP://LOCALHOST:5173", "http://10.0.0.1:443", "http://[::1]:5173"),
        *("https://[2001:DB8::1]", "chrome-extension://abcdef"),
    ],
)
def test_origins_are_read(text: str) -> None:
    assert Settings.from_environ({"RETORT_CORS_ORIGINS": text}).cors_origins == (text,)


@pytest.mark.parametrize(
    "text", ["many", "100", "100/fortnight", "0/minute", "-1/minute", "1.5/minute", "100/minute;", "1/minute;x"]
)
def test_a_limit_that_cannot_be_read_is_refused(text: str) -> None:
    [said] = problems({"RETORT_LIMIT_ROWS": text})
    assert said.startswith(f"RETORT_LIMIT_ROWS={text!r} must be limits such as 100/minute or 5000 per 2 hours, with ;")


def test_two_limits_for_one_window_are_refused() -> None:
    [said] = problems({"RETORT_LIMIT_REQUESTS": "100/minute;200 per 60 seconds"})
    assert said.endswith(" must not have two limits for the same window")


def test_all_problems_are_named_at_once() -> None:
    environ = {"RETORT_THREDS": "4", "RETORT_ENV": "staging", "PORT": "http", "RETORT_RUNTIME": "auto"}
    environ |= {"WEB_CONCURRENCY": "many", "RETORT_PORT": "tcp://10.0.0.1:80"}
    found = problems(environ)
    assert [problem.partition("=")[0].partition(" ")[0] for problem in found] == [
        "PORT",
        "RETORT_ENV",
        "RETORT_THREDS",
        "WEB_CONCURRENCY",
    ]
    with pytest.raises(InvalidSettings) as refused:
        Settings.from_environ(environ)
    assert all(problem in refused.value.detail for problem in found)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("RETORT_MODEL_DIR", "RETORT_MODELS_DIR"),
        ("RETORT_THREDS", "RETORT_THREADS"),
        ("RETORT_BODY_LIMIT", "RETORT_BODY_LIMIT_BYTES"),
        ("RETORT_CORS_ORIGIN", "RETORT_CORS_ORIGINS"),
        ("RETORT_PORT", "PORT"),
    ],
)
def test_a_misspelt_name_gets_a_suggestion(typed: str, meant: str) -> None:
    assert problems({typed: "1"}) == (f"{typed} is not a setting (did you mean {meant}?)",)


def test_an_unknown_name_without_a_similar_one_gets_no_suggestion() -> None:
    assert problems({"RETORT_XYLOPHONE": "1"}) == ("RETORT_XYLOPHONE is not a setting",)


def test_other_variables_are_ignored() -> None:
    assert Settings.from_environ({"RETORTE": "1", "retort_env": "?", "MY_RETORT_ENV": "?", "PORTS": "x"}) == Settings()


def test_variables_that_gunicorn_reads_are_accepted_and_are_no_settings() -> None:
    environ = {"FORWARDED_ALLOW_IPS": "127.0.0.1, 10.0.0.0/8,::1,*", "GUNICORN_CMD_ARGS": "--bind '[::]:80'"}
    assert Settings.from_environ(environ) == Settings()


def test_auto_is_a_number_of_processes() -> None:
    assert 1 <= Settings.from_environ({"WEB_CONCURRENCY": "Auto"}).web_concurrency <= 256


def test_credentials_for_every_origin_are_refused() -> None:
    environ = {"RETORT_CORS_ORIGINS": "*", "RETORT_CORS_CREDENTIALS": "on"}
    assert problems(environ) == (
        "RETORT_CORS_CREDENTIALS='on' needs RETORT_CORS_ORIGINS to name the origins, instead of '*'",
    )
    assert Settings.from_environ(environ | {"RETORT_CORS_CREDENTIALS": "off"}).cors_origins == ("*",)
    assert Settings.from_environ(environ | {"RETORT_CORS_ORIGINS": "https://a.org"}).cors_credentials


@pytest.mark.parametrize(
    ("host", "env", "bind"),
    [
        ("", "production", "0.0.0.0:9000"),
        ("", "development", "127.0.0.1:9000"),
        ("10.0.0.7", "development", "10.0.0.7:9000"),
        ("localhost", "production", "localhost:9000"),
        ("my-host.example.org", "production", "my-host.example.org:9000"),
        ("::", "production", "[::]:9000"),
        ("[::]", "production", "[::]:9000"),
        ("[::1]", "development", "[::1]:9000"),
        ("fe80::1%eth0", "development", "[fe80::1%eth0]:9000"),
        ("unix:/run/retort.sock", "production", "unix:/run/retort.sock"),
    ],
)
def test_the_address_to_bind_is_built_from_host_and_port(host: str, env: str, bind: str) -> None:
    settings = Settings.from_environ({"HOST": host, "RETORT_ENV": env, "PORT": "9000"})
    assert settings.bind == bind
    assert settings.development is (env == "development")


def test_the_port_of_vertex_ai_overrides_ours_and_a_unix_socket_has_none() -> None:
    assert Settings(host="::1", aip_http_port=8081).bind == "[::1]:8081"
    assert Settings(host="unix:a.sock", aip_http_port=8081).bind == "unix:a.sock"


@pytest.mark.parametrize(
    "host", ["localhost:8000", "http://localhost", "[::1]:80", "[localhost]", "unix:", "a b", "1::2::3"]
)
def test_a_host_that_cannot_be_bound_is_refused(host: str) -> None:
    [problem] = problems({"HOST": host})
    assert problem.startswith(f"HOST={host!r} must be a host name, an IPv4 or IPv6 address, or unix:/path/to.sock")


def test_the_table_has_value_default_unit_and_source_of_each() -> None:
    environ = {"PORT": "9000", "HOST": "", "RETORT_CORS_ORIGINS": "http://a,http://b", "RETORT_MODELS_DIR": "models"}
    lines = {line.env: line for line in table(Settings.from_environ(environ), environ)}
    assert list(lines) == [env for env, *_ in READ]
    assert lines["PORT"] == SettingLine("PORT", "9000", "8000", "", "port to bind", "environment")
    assert (lines["HOST"].value, lines["HOST"].source) == ("", "default")
    assert lines["RETORT_CORS_ORIGINS"].value == "http://a,http://b"
    # The source is shown, even if the value is the default.
    assert (lines["RETORT_MODELS_DIR"].value, lines["RETORT_MODELS_DIR"].source) == ("models", "environment")
    assert lines["RETORT_BODY_LIMIT_BYTES"].unit == "bytes"
    assert (lines["RETORT_ACCESS_LOG"].value, lines["RETORT_KSERVE_V1"].value) == ("on", "off")
    assert all(line.prose for line in lines.values())


@pytest.mark.parametrize(("key", "shown"), [("hunter2", "***"), ("", "")])
def test_the_table_masks_secrets(key: str, shown: str) -> None:
    lines = table(SecretSettings(key=key), {"RETORT_KEY": key})  # type: ignore[arg-type]
    assert [line.value for line in lines] == [shown, "3"]
    assert "hunter2" not in str(lines)


def test_secrets_are_neither_shown_nor_quoted() -> None:
    settings = Settings(database_url="postgresql://me:hunter2@db", api_keys=("hunter2",), key_secret="hunter2")
    lines = {line.env: line.value for line in table(settings, {})}
    assert {lines[name] for name in ("DATABASE_URL", "RETORT_API_KEYS", "RETORT_KEY_SECRET")} == {"***"}
    assert "hunter2" not in str(lines)


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("/run/retort.sock", True),
        ("unix:/run/retort.sock", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.0.2.1", False),
        ("retort.example.org", False),
        ("localhost.example.org", False),
    ],
)
def test_only_this_machine_reaches_a_local_address(address: str, local: bool) -> None:
    assert is_local(address) is local


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:8000/ml"),
        ("0.0.0.0", "http://127.0.0.1:8000/ml"),
        ("[::]", "http://127.0.0.1:8000/ml"),
        ("::1", "http://[::1]:8000/ml"),
        ("[2001:db8::1]", "http://[2001:db8::1]:8000/ml"),
        ("dev.example.org", "http://dev.example.org:8000/ml"),
        ("unix:/run/retort.sock", "unix:/run/retort.sock:/ml"),
    ],
)
def test_the_url_that_the_log_names_is_one_that_can_be_opened(host: str, url: str) -> None:
    assert Settings.from_environ({"HOST": host, "SCRIPT_NAME": "/ml"}).url == url
