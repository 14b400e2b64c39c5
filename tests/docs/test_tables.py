"""Tables, names and links of README and docs, compared with the application and the files."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import subprocess

import pytest

from app import create_app
from app.gateway.problem_types import PROBLEMS
from app.settings import Settings
from app.settings.table import table
from app.telemetry.families import FAMILIES, MetricType
from tests.docs.pages import BLOCKS, PAGES, folder_of, links_of, rows, text_of
from tests.end_to_end.process import EXAMPLE_MODELS, ROOT, environment
from tests.gateway.fakes import codes

COMMANDS = "\n".join(block.text for block in BLOCKS if block.language == "sh")
PROSE = "\n".join(map(text_of, PAGES))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_nothing_beyond_the_repository(page: str) -> None:
    assert not re.search(r"\.\./\.\.|/work\b|/home/|/root/|/tmp\b|shared/", text_of(page))


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_links_or_names_is_there(page: str) -> None:
    missing = [target for target in links_of(page) if not (folder_of(page) / target).exists()]
    named = re.findall(r"`((?:app|tests|benchmarks|examples|docs)/[\w./-]+)`", text_of(page))
    missing += [path for path in named if not (ROOT / path).exists() and not path.startswith("tests/own/")]
    assert missing == []


def test_readme_is_short_and_leads_to_every_page() -> None:
    text = text_of("README.md")
    assert len(text.splitlines()) <= 200
    assert {page for page in PAGES if page not in ("README.md", "docs/index.md")} <= set(links_of("README.md"))


def test_the_settings_are_those_of_the_application() -> None:
    lines = table(Settings(), {})
    expected = [[f"`{s.env}`", f"`{s.default}`" if s.default else "", s.unit, s.prose] for s in lines]
    written = "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in expected)
    assert rows("docs/configuration.md", "name") == expected, f"the table must be:\n{written}"


def test_the_paths_are_those_of_the_application() -> None:
    served = set()
    for rule in create_app(Settings()).url_map.iter_rules():
        if rule.rule.startswith("/v2"):  # one line lists them
            continue
        place = re.sub(r"<\w+:(\w+)>", r"<\1>", rule.rule)
        served |= {f"`{method} {place}`" for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    told = [*rows("docs/http.md", "path"), *rows("docs/protocols.md", "path")]
    assert {row[0] for row in told} - {"`/v2/…`"} == {path for path in served if "/static/" not in path}


def test_the_statuses_are_those_of_the_application() -> None:
    told = {int(row[0]) for row in rows("docs/http.md", "status")}
    # The interceptor of keys answers 401, Flask 405, the worker class 429.
    assert told == {PROBLEMS[code].status for code in codes() & PROBLEMS.keys()} | {401, 405, 429}


def test_the_metrics_are_those_of_the_application() -> None:
    told = [row[:2] for row in rows("docs/operations.md", "metric")]
    assert told == [
        [
            f"`{name}{'_total' * (family.kind is MetricType.COUNTER)}`",
            ", ".join(f"`{label}`" for label in family.all_labels),
        ]
        for name, family in FAMILIES.items()
    ]
    assert all(unit and meaning for *_, unit, meaning in rows("docs/operations.md", "metric"))


def test_the_map_of_the_packages_is_complete() -> None:
    there = {
        path.name + "/" * path.is_dir() for path in (ROOT / "app").iterdir() if not path.name.startswith(("_", "."))
    }
    assert {row[0].strip("`") for row in rows("docs/architecture.md", "place")} == there - {"py.typed"}


@pytest.mark.parametrize("row", rows("docs/architecture.md", "to find"), ids=lambda row: row[0])
def test_the_table_of_places_names_existing_files(row: list[str]) -> None:
    name, path = re.findall("`([^`]+)`", row[2])
    assert re.search(rf"^(class |def )?{name}\b|\b{name}\(", (ROOT / path).read_text("utf-8"), re.MULTILINE)


def test_the_extras_are_those_of_the_package() -> None:
    cfg = configparser.ConfigParser(interpolation=None)
    cfg.read(ROOT / "setup.cfg", encoding="utf-8")
    told = {row[0].strip("`") for row in rows("docs/deployment.md", "extra")}
    assert told == set(cfg["options.extras_require"]) - {"dev"}
    assert f"Python {cfg['options']['python_requires'].removeprefix('>=')} or newer" in text_of("README.md")


@pytest.mark.slow
def test_the_estimators_that_cannot_be_served_are_those_of_the_sweep() -> None:
    from tests.sweep.cases import UNSERVABLE

    assert rows("docs/graphs.md", "estimator") == [[f"`{name}`", why] for name, why in UNSERVABLE.items()]


def test_make_has_the_commands() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
    targets = set(re.findall(r"^make (\w+)\t", listed.stdout, re.MULTILINE)) | {"help"}
    assert set(re.findall(r"\bmake ([a-z]+)\b(?= |`|\n|$)", COMMANDS)) <= targets
    assert set(re.findall(r"`make ([a-z]+)", PROSE)) == targets


def test_flask_has_the_commands() -> None:
    app = create_app(Settings())
    known = set(app.cli.commands["models"].commands)  # type: ignore[attr-defined]
    assert set(re.findall(r"flask models (\w+)", PROSE)) <= known
    assert {"list", "show", "verify", "remove", "add"} <= known
    assert "settings" in app.cli.commands
    told = " ".join(row[0] for row in rows("docs/packing.md", "command"))
    assert {name for name in known if not re.search(rf"\b{name}\b", told)} == set()


def test_the_fields_of_the_first_example_are_those_of_the_default_model() -> None:
    first = next(block for block in BLOCKS if block.is_request)
    record = json.loads(shlex.split(first.text)[3])
    manifest = json.loads((EXAMPLE_MODELS / "penguins" / "1" / "manifest.json").read_text("utf-8"))
    assert list(record) == [each["name"] for each in manifest["signature"]["inputs"]]
