"""What is served is what the documents say, this service's own and the published one of the Open Inference Protocol.

Schemathesis makes requests from a document, good and bad ones, and holds the answers to it with all its checks. Nothing
is left out but what the comments of `schemathesis.toml`, and the words below, say.
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

from tests.server.process import ROOT, Server, environment, serving

HERE = Path(__file__).parent
EXAMPLES = int(os.environ.get("CONFORMANCE_EXAMPLES", "10"))
"""Requests that are drawn for each operation, beside those that go through its limits; `make test` asks for few."""
FEW = 10
PUBLISHED = Path(os.environ.get("OPEN_INFERENCE_REST", ROOT.parent / "shared" / "data" / "open_inference_rest.yaml"))

UNLOAD = "/v2/repository/models/{model}/unload"

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The committed models; nobody else minds what is loaded here."""
    with serving(tmp_path_factory.mktemp("conformance")) as started:
        yield started


def schemathesis(folder: Path, *arguments: str, config: Path, hooks: str = "") -> str:
    """What a run says that finds nothing; it runs in a folder, where it leaves what it writes."""
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


def test_the_documents_own_words(own: Server) -> None:
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


def test_every_operation_does_as_the_own_document_says(own: Server, tmp_path: Path) -> None:
    # What is unloaded is 503 for all others; it has its turn below. The 64 numbers of digits take as long as all other
    # models together, and are no other than the ten of diabetes.
    slow = ["--exclude-path", "/models/digits/predict"] if EXAMPLES <= FEW else []
    left = ["--exclude-path", UNLOAD, *slow]
    said = schemathesis(
        tmp_path,
        f"{own.root}/openapi.json",
        *left,
        config=HERE / "schemathesis.toml",
        hooks="tests.server.openapi_hooks",
    )
    paths = own.ask("GET", "/openapi.json").document["paths"]
    operations = sum(len(each.keys() & {"get", "post"}) for each in paths.values())
    assert f"Tested: {operations - len(left) // 2}" in said


def test_unloading_does_as_the_own_document_says(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        said = schemathesis(
            tmp_path,
            f"{server.root}/openapi.json",
            *("--include-path", UNLOAD),
            config=HERE / "schemathesis.toml",
            hooks="tests.server.openapi_hooks",
        )
    assert "Tested: 1" in said


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    """The document with path templates that are some: `{MODEL_NAME}`, where it has the literal `${MODEL_NAME}`."""
    document: dict[str, Any] = yaml.safe_load(PUBLISHED.read_text("utf-8").replace("${MODEL", "{MODEL"))
    return document


@pytest.mark.needs_document(PUBLISHED)
class TestPublished:
    """With the document of kserve/open-inference-protocol, which is not ours to ship."""

    def test_it_is_valid(self, published: dict[str, Any]) -> None:
        validate(published)

    def test_names_that_are_drawn(self, published: dict[str, Any], own: Server, tmp_path: Path) -> None:
        """Of models that are not there: 404, which the protocol has for them, though its document names 400 alone."""
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

    def test_a_model_that_is_there(self, published: dict[str, Any], own: Server, tmp_path: Path) -> None:
        """The document cannot know its inputs, nor that a tensor's data have to fill its shape: 400 is right there."""
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
