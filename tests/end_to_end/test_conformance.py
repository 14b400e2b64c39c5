"""Tests that the server conforms to its own document and to the published one of the Open Inference Protocol.

Schemathesis makes valid and invalid requests from a document, and applies all its checks to the responses. The
exceptions are in `schemathesis.toml` and in the comments below.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from openapi_spec_validator import validate

from app.jobs.job_folders import JobFolders
from tests.end_to_end.process import ROOT, Server, environment, serving

HERE = Path(__file__).parent
EXAMPLES = int(os.environ.get("CONFORMANCE_EXAMPLES", "10"))
"""Number of random requests for each operation, besides requests at its limits. `make test` uses few."""
FEW = 10
PUBLISHED = Path(os.environ.get("OPEN_INFERENCE_REST", ROOT.parent / "shared" / "data" / "open_inference_rest.yaml"))

UNLOAD = "/v2/repository/models/{model}/unload"

pytestmark = [pytest.mark.server, pytest.mark.early]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a server for these tests alone, which load and unload models.

    It accepts jobs as if a worker ran, but no worker does them.
    """
    folder = tmp_path_factory.mktemp("conformance")
    jobs = {"RETORT_INSTANCE_DIR": folder / "instance", "RETORT_JOBS_OPEN": 100_000}
    with JobFolders(folder / "instance" / "jobs").working(), serving(folder, **jobs) as started:
        yield started


def schemathesis(folder: Path, *arguments: str, config: Path, hooks: str = "") -> str:
    """Run Schemathesis in a folder of its own, and return its output after checking that it found nothing."""
    ran = subprocess.run(
        [
            *("schemathesis", "--config-file", str(config), "run", *arguments, "--checks", "all", "--no-color"),
            *("--max-examples", str(EXAMPLES), "--seed", "1", "--generation-database", "none"),
            "--continue-on-failure",
        ],
        cwd=folder,
        env=environment(PYTHONPATH=ROOT, SCHEMATHESIS_HOOKS=hooks),
        capture_output=True,
        text=True,
        check=False,
        timeout=120 + 30 * EXAMPLES,
    )
    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr[-2_000:]
    return ran.stdout


def test_every_documented_error_has_content(own: Server) -> None:
    document = own.ask("GET", "/openapi.json").document
    validate(document)
    answers = [
        answer
        for path in document["paths"].values()
        for each in path.values()
        if isinstance(each, dict)
        for answer in each["responses"].items()
    ]
    assert [status for status, answer in answers if status >= "400" and "content" not in answer] == []


def test_every_operation_conforms_to_the_own_document(own: Server, tmp_path: Path) -> None:
    # Unloading is tested below, because an unloaded model answers 503 in all other operations. The 64 numbers of digits
    # take as long as all other models together, and test the same as the ten of diabetes.
    slow = ["--exclude-path", "/models/digits/predict"] if EXAMPLES <= FEW else []
    left = ["--exclude-path", UNLOAD, *slow]
    said = schemathesis(
        tmp_path,
        f"{own.root}/openapi.json",
        *left,
        config=HERE / "schemathesis.toml",
        hooks="tests.end_to_end.openapi_hooks",
    )
    paths = own.ask("GET", "/openapi.json").document["paths"]
    operations = sum(len(each.keys() & {"delete", "get", "post"}) for each in paths.values())
    assert f"Tested: {operations - len(left) // 2}" in said


def test_unloading_conforms_to_the_own_document(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        said = schemathesis(
            tmp_path,
            f"{server.root}/openapi.json",
            *("--include-path", UNLOAD),
            config=HERE / "schemathesis.toml",
            hooks="tests.end_to_end.openapi_hooks",
        )
    assert "Tested: 1" in said


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    """Return the document with valid path templates: it has the literal `${MODEL_NAME}` for `{MODEL_NAME}`."""
    document: dict[str, Any] = yaml.safe_load(PUBLISHED.read_text("utf-8").replace("${MODEL", "{MODEL"))
    return document


@pytest.mark.needs_document(PUBLISHED)
class TestPublished:
    """Tests with the document of kserve/open-inference-protocol, which this repository may not contain."""

    def test_the_published_document_is_valid(self, published: dict[str, Any]) -> None:
        validate(published)

    def test_random_model_names(self, published: dict[str, Any], own: Server, tmp_path: Path) -> None:
        """Unknown models are 404 in the protocol, although its document names only 400."""
        for path, operations in published["paths"].items():
            if "{" in path:
                operation = operations.get("post") or operations["get"]
                operation["responses"]["404"] = {
                    "description": "there is no such model or version",
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/inference_error_response"}}
                    },
                }
        self.run(published, own, tmp_path, "")

    def test_an_existing_model(self, published: dict[str, Any], own: Server, tmp_path: Path) -> None:
        """The document knows neither the model's inputs nor that data must fill its shape, so 400 is right."""
        self.run(
            published,
            own,
            tmp_path,
            """
            [parameters]
            MODEL_NAME = "iris-two"
            MODEL_VERSION = "1"
            [[operations]]
            include-method = "POST"
            [operations.checks.positive_data_acceptance]
            expected-statuses = ["2xx", 400]
            """,
        )

    @staticmethod
    def run(document: dict[str, Any], server: Server, folder: Path, config: str) -> None:
        (folder / "document.json").write_text(json.dumps(document), "utf-8")
        (folder / "config.toml").write_text(config, "utf-8")
        said = schemathesis(folder, "document.json", "--url", server.root, config=folder / "config.toml")
        assert "Tested: 6" in said
