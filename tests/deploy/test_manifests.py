"""Files of platforms that cannot run here are compared with schemas and with the application."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from app import create_app
from app.settings import Settings, variable
from app.telemetry.families import FAMILIES
from tests.deploy import schemas
from tests.deploy.dockerfile import stages
from tests.end_to_end.process import line_of, web_line

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
FOLDERS = ("kubernetes", "kubernetes-jobs", "kserve")
PATHS = ("/livez", "/readyz", "/metrics")
OTHERS = frozenset(("HOME", "PATH", "PYTHONDONTWRITEBYTECODE"))
"""Variables of the image that are not settings."""
SECRETS = frozenset(("DATABASE_URL", "REDIS_URL", "RETORT_API_KEYS", "RETORT_KEY_SECRET"))
SETTINGS = {variable(field.name) for field in dataclasses.fields(Settings)}


GRACEFUL_TIMEOUT = re.search(
    r"^graceful_timeout = (\d+)$", (ROOT / "app" / "gunicorn_conf.py").read_text("utf-8"), re.M
)
assert GRACEFUL_TIMEOUT
STOPS_WITHIN_S = int(GRACEFUL_TIMEOUT[1])


def read(path: str) -> Any:
    text = (ROOT / path).read_text("utf-8")
    if path.endswith(".toml"):
        return tomllib.loads(text)
    return json.loads(text) if path.endswith(".json") else yaml.safe_load(text)


def kubernetes(name: str) -> Any:
    return read(f"deploy/kubernetes/{name}")


INFERENCE_SERVICE = "deploy/kserve/inferenceservice.yaml"
SCHEMAS = {
    **{f"deploy/kubernetes/{name}": schema for name, schema in schemas.KUBERNETES.items()},
    **{f"deploy/kubernetes-jobs/{name}": schema for name, schema in schemas.KUBERNETES_JOBS.items()},
    "deploy/kubernetes/kustomization.yaml": schemas.KUSTOMIZATION,
    "deploy/kubernetes-jobs/kustomization.yaml": schemas.KUSTOMIZATION,
    "deploy/kubernetes/prometheus-adapter.yaml": schemas.ADAPTER,
    INFERENCE_SERVICE: schemas.INFERENCE_SERVICE,
    "app.json": schemas.HEROKU,
    "compose.yaml": schemas.COMPOSE,
    "fly.toml": schemas.FLY,
    "render.yaml": schemas.RENDER,
}


def containers() -> Iterator[tuple[Any, Any]]:
    """Yield each container of Retort, with its pod or predictor."""
    pod = kubernetes("deployment.yaml")["spec"]["template"]["spec"]
    predictor = read(INFERENCE_SERVICE)["spec"]["predictor"]
    for around in (pod, predictor):
        yield from ((each, around) for each in around["containers"])


def worker_pod() -> Any:
    """Return the pod of the worker of jobs."""
    return read("deploy/kubernetes-jobs/worker.yaml")["spec"]["template"]["spec"]


def variables() -> dict[str, set[str]]:
    """Return the variables that each file sets for the server."""
    found = {
        f"container {number}": {each["name"] for each in one["env"]} for number, (one, _) in enumerate(containers())
    }
    found["app.json"] = set(read("app.json")["env"])
    found["compose.yaml"] = set(read("compose.yaml")["services"]["retort"]["environment"])
    found["compose.yaml, worker"] = set(read("compose.yaml")["services"]["worker"]["environment"])
    found["worker.yaml"] = {each["name"] for each in worker_pod()["containers"][0]["env"]}
    found["fly.toml"] = set(read("fly.toml")["env"])
    found["render.yaml"] = {each["key"] for each in read("render.yaml")["services"][0]["envVars"]}
    found["Dockerfile"] = set(stages()[1][-1].environment) - OTHERS
    return found


@pytest.mark.parametrize("path", SCHEMAS)
def test_each_file_has_the_fields_of_its_format(path: str) -> None:
    errors = Draft202012Validator(SCHEMAS[path]).iter_errors(read(path))
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_every_manifest_is_checked() -> None:
    ours = {path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in found_in(folder)}
    assert ours <= SCHEMAS.keys()


def found_in(folder: str) -> list[Path]:
    return [path for path in (ROOT / "deploy" / folder).rglob("*") if path.is_file()]


def test_a_mistake_is_found() -> None:
    deployment = kubernetes("deployment.yaml")
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    validator = Draft202012Validator(schemas.KUBERNETES["deployment.yaml"])
    assert "livenessprobe" in next(validator.iter_errors(deployment)).message


def test_each_variable_is_a_setting() -> None:
    unknown = {file: names - SETTINGS for file, names in variables().items() if not names <= SETTINGS}
    assert unknown == {}


@pytest.mark.slow
def test_each_probe_asks_an_existing_path() -> None:
    asked = {
        probe["httpGet"]["path"]
        for container, _ in containers()
        for name, probe in container.items()
        if name.endswith("Probe")
    }
    asked |= {check["path"] for check in read("fly.toml")["http_service"]["checks"]}
    asked |= {service["healthCheckPath"] for service in read("render.yaml")["services"]}
    asked |= set(re.findall(r"'(/\w+)'", stages()[1][-1].healthcheck[-1]))
    asked.add(kubernetes("deployment.yaml")["spec"]["template"]["metadata"]["annotations"]["prometheus.io/path"])
    assert asked == set(PATHS)
    rules = {rule.rule for rule in create_app(Settings()).url_map.iter_rules()}
    assert asked <= rules


def test_the_port_is_the_same_everywhere() -> None:
    port = Settings().port
    final = stages()[1][-1]
    assert int(final.environment["PORT"]) == int(final.last("EXPOSE")) == port
    for container, _ in containers():
        [listening] = container["ports"]
        assert listening["containerPort"] == port
        for name in [name for name in container if name.endswith("Probe")]:
            assert container[name]["httpGet"]["port"] in (port, listening.get("name"))
    [exposed] = kubernetes("service.yaml")["spec"]["ports"]
    assert exposed["targetPort"] == "http"
    fly, render = read("fly.toml"), read("render.yaml")["services"][0]
    assert fly["http_service"]["internal_port"] == int(fly["env"]["PORT"]) == port
    assert {each["key"]: each.get("value") for each in render["envVars"]}["PORT"] == str(port)
    assert read("compose.yaml")["services"]["retort"]["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_a_platform_waits_longer_than_the_server_needs_to_stop() -> None:
    pod = kubernetes("deployment.yaml")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    [program, seconds] = container["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    assert pod["terminationGracePeriodSeconds"] > int(seconds) + STOPS_WITHIN_S
    fly, render = read("fly.toml"), read("render.yaml")["services"][0]
    assert int(fly["kill_timeout"].removesuffix("s")) > STOPS_WITHIN_S
    assert render["maxShutdownDelaySeconds"] > STOPS_WITHIN_S
    assert int(read("compose.yaml")["services"]["retort"]["stop_grace_period"].removesuffix("s")) > STOPS_WITHIN_S


def test_a_pod_has_more_time_to_start_than_the_image_requires() -> None:
    [container] = kubernetes("deployment.yaml")["spec"]["template"]["spec"]["containers"]
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 60


def test_the_autoscaler_follows_an_existing_metric() -> None:
    hpa, [rule] = kubernetes("hpa.yaml")["spec"], kubernetes("prometheus-adapter.yaml")["rules"]["custom"]
    [metric] = [each["pods"] for each in hpa["metrics"] if each["type"] == "Pods"]
    name = metric["metric"]["name"]
    assert name in FAMILIES
    assert rule["name"]["as"] == rule["name"]["matches"] == name
    assert rule["seriesQuery"].startswith(f"{name}{{")
    threshold_ms = int(metric["target"]["averageValue"].removesuffix("m"))
    assert threshold_ms * 3 == Settings().queue_max_wait_ms
    assert hpa["minReplicas"] >= 2


def test_the_resources_of_kubernetes_belong_together() -> None:
    deployment = kubernetes("deployment.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert kubernetes("service.yaml")["spec"]["selector"] == labels
    assert kubernetes("pdb.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert kubernetes("networkpolicy.yaml")["spec"]["podSelector"]["matchLabels"] == labels
    assert kubernetes("hpa.yaml")["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    kustomization = kubernetes("kustomization.yaml")
    assert set(kustomization["resources"]) == set(schemas.KUBERNETES)
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == kustomization["images"][0]["name"]


def test_workers_of_jobs_run_the_line_of_procfile_and_share_the_files_of_the_server() -> None:
    compose = read("compose.yaml")["services"]
    [worker], server = (
        worker_pod()["containers"],
        read("deploy/kubernetes-jobs/server.yaml")["spec"]["template"]["spec"],
    )
    assert compose["worker"]["command"] == worker["command"] == shlex.split(line_of("worker"))
    assert compose["worker"]["image"] == compose["retort"]["image"]
    assert compose["worker"]["volumes"] == compose["retort"]["volumes"]
    for name, value in compose["worker"]["environment"].items():
        assert compose["retort"]["environment"][name] == value
    [patched] = server["containers"]
    assert patched["name"] == kubernetes("deployment.yaml")["spec"]["template"]["spec"]["containers"][0]["name"]
    place = {each["name"]: each.get("value") for each in patched["env"]}["RETORT_JOBS_DIR"]
    assert {each["name"]: each.get("value") for each in worker["env"]}["RETORT_JOBS_DIR"] == place
    assert compose["worker"]["environment"]["RETORT_JOBS_DIR"] == place
    assert compose["worker"]["volumes"] == [f"jobs:{place}"]
    assert f"install --directory --owner=10001 --group=10001 {place}" in stages()[1][-1].last("RUN")
    assert [mount["mountPath"] for mount in patched["volumeMounts"]] == [place]
    assert [mount["mountPath"] for mount in worker["volumeMounts"]] == ["/tmp", place]
    claim = read("deploy/kubernetes-jobs/volume.yaml")["metadata"]["name"]
    for pod in (server, worker_pod()):
        assert pod["volumes"][-1]["persistentVolumeClaim"]["claimName"] == claim


def test_the_service_does_not_send_requests_to_workers() -> None:
    labels = read("deploy/kubernetes-jobs/worker.yaml")["spec"]["template"]["metadata"]["labels"]
    assert read("deploy/kubernetes-jobs/worker.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert read("deploy/kubernetes-jobs/networkpolicy.yaml")["spec"]["podSelector"]["matchLabels"] == labels
    assert not kubernetes("service.yaml")["spec"]["selector"].items() <= labels.items()
    kustomization = read("deploy/kubernetes-jobs/kustomization.yaml")
    assert {*kustomization["resources"], *(each["path"] for each in kustomization["patches"])} == {
        "../kubernetes",
        *schemas.KUBERNETES_JOBS,
    }
    assert worker_pod()["containers"][0]["image"] == kustomization["images"][0]["name"]
    assert kustomization["images"][0]["newTag"] == kubernetes("kustomization.yaml")["images"][0]["newTag"]


def test_every_pod_runs_as_the_user_of_the_image_and_may_write_to_tmp_alone() -> None:
    user = int(stages()[1][-1].last("USER").partition(":")[0])
    for container, around in containers():
        assert around["securityContext"]["runAsUser"] == user > 0
        assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {each["name"] for each in around["volumes"]}
    retort = read("compose.yaml")["services"]["retort"]
    assert retort["read_only"]
    assert retort["tmpfs"] == ["/tmp"]


def test_keys_and_passwords_come_from_outside() -> None:
    for container, _ in containers():
        for each in container["env"]:
            assert ("valueFrom" in each) == (each["name"] in SECRETS)
    passwords = re.findall(r"PASSWORD: (\S+)", (ROOT / "compose.yaml").read_text("utf-8"))
    assert passwords
    assert all(password.startswith("${") for password in passwords)


def test_every_image_has_a_version() -> None:
    images = [service["image"] for service in read("compose.yaml")["services"].values()]
    images += [read(INFERENCE_SERVICE)["spec"]["predictor"]["containers"][0]["image"]]
    images += [stages()[0]["PYTHON_IMAGE"]]
    for image in images:
        assert re.fullmatch(r"[a-z0-9./-]+:(local|v?\d+\.\d+[a-z0-9.-]*)", image), image


def test_compose_mounts_existing_files() -> None:
    mounted = [
        volume.partition(":")[0]
        for service in read("compose.yaml")["services"].values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    ]
    assert {path.split("/")[2] for path in mounted} == {"prometheus", "grafana"}
    for path in mounted:
        # They come with the alerts and the dashboard.
        assert (ROOT / path).exists() or not (ROOT / "deploy" / "prometheus").is_dir(), path


def test_the_image_runs_the_line_of_procfile() -> None:
    assert stages()[1][-1].command == shlex.split(web_line())


def test_the_stages_have_one_base_and_the_image_is_not_roots() -> None:
    arguments, [build, final] = stages()
    assert build.base == final.base == "${PYTHON_IMAGE}"
    assert (ROOT / arguments["REQUIREMENTS"]).name == "requirements-serve.txt"
    assert "--require-hashes" in build.last("RUN")
    words = [word for word, _ in final.instructions]
    assert words.index("USER") > words.index("RUN")
    assert read("compose.yaml")["services"]["retort"]["build"]["args"] == {"REQUIREMENTS": "requirements-operate.txt"}
