"""The commands: their output, their errors and their exit status."""

from __future__ import annotations

import json
import logging
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from flask.cli import FlaskGroup
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.preprocessing import LabelEncoder, StandardScaler

from app import create_app
from app.cli.adding import Progress, stray_packer
from app.cli.group import Server, other_settings, wrong_settings
from app.errors import PackingRefused
from app.packing import spawn
from app.packing.__main__ import run as run_request
from app.packing.spawn import CheckRequest, PackRequest
from app.packing.stages import Stage
from app.packing.write import pack
from app.server.running import RunningServer
from app.settings import Settings
from app.storage.choices import POINTERS, Pointers
from app.storage.repository import Repository
from tests.command_runner import runner
from tests.end_to_end.process import EXAMPLE_MODELS
from tests.packing.artifacts import flowers, saved

HEAD = ["model", "version", "aliases", "state", "runtime", "role"]

# Packing ignores warnings in its own process; here most of it runs in this process.
pytestmark = pytest.mark.filterwarnings("ignore")


class InThisProcess:
    """A replacement for `spawn.run` in this process, because a new process takes seconds to start."""

    def __init__(self) -> None:
        self.asked: list[tuple[spawn.Request, float]] = []

    def __call__(self, request: spawn.Request, timeout_s: float, progress: Any = None) -> spawn.Result:
        self.asked.append((request, timeout_s))
        return run_request(spawn.verb_of(request), msgspec.json.encode(request).decode())


class Terminal:
    """A command line with its own repository."""

    def __init__(self, folder: Path, packed: Path | None = None, **settings: Any) -> None:
        self.folder = folder
        if packed is None:
            (folder / "models").mkdir()
        else:
            shutil.copytree(packed, folder / "models")
        self.repository = Repository(folder / "models")
        self.settings = Settings(models_dir=self.repository.root, packing_timeout_s=77, **settings)
        self.runner = runner(self.settings)
        self.artifact = saved(two(), folder / "two.joblib")

    def run(self, *arguments: object) -> Result:
        return self.runner.invoke(args=[*map(str, arguments)])

    def printed(self, *arguments: object) -> str:
        result = self.run(*arguments)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    def refusal(self, *arguments: object) -> str:
        result = self.run(*arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
        return result.stderr.removeprefix("Error: ").rstrip("\n")

    def damage(self, version: int = 1, model: str = "two") -> None:
        (self.repository.folder(model, version) / "model.joblib").write_bytes(b"damaged")


@pytest.fixture
def root_logger() -> Iterator[None]:
    """Restore the root logger after the test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> InThisProcess:
    runs = InThisProcess()
    monkeypatch.setattr(spawn, "run", runs)
    return runs


@pytest.fixture
def terminal(tmp_path: Path, root_logger: None, in_this_process: InThisProcess) -> Terminal:
    return Terminal(tmp_path)


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with two versions of one model, `two`; to be copied."""
    folder = tmp_path_factory.mktemp("packed")
    artifact = saved(two(), folder / "two.joblib")
    for _ in range(2):
        pack(PackRequest(str(artifact), "two", str(folder / "models")))
    return folder / "models"


@pytest.fixture
def packed(tmp_path: Path, two_versions: Path, root_logger: None, in_this_process: InThisProcess) -> Terminal:
    """Return a command line over a repository with two versions of one model, `two`."""
    return Terminal(tmp_path, two_versions)


def two() -> LogisticRegression:
    return LogisticRegression().fit([[0.0, 1.0], [4.0, 5.0], [1.0, 0.0]], [0, 1, 0])


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()]


@pytest.mark.slow
def test_add_packs_and_prints_what_it_inferred(terminal: Terminal, in_this_process: InThisProcess) -> None:
    first, *remarks, served, asked = terminal.printed("models", "add", terminal.artifact, "--name", "two").splitlines()
    assert first == "two version 1 packed"
    assert served == "to serve it: make serve"
    sent = json.dumps(terminal.repository.manifest("two", 1).examples[0].instance, separators=(",", ":"))
    assert asked == f"to ask it: curl http://127.0.0.1:8000/models/two/predict -d '{sent}'"
    assert "  classifier: LogisticRegression" in remarks
    assert "  input feature1: number" in remarks
    assert all(remark.startswith("  ") for remark in remarks)
    assert terminal.repository.versions("two") == [1]


@pytest.mark.slow
def test_add_proposes_no_request_that_the_steps_would_refuse(
    terminal: Terminal, in_this_process: InThisProcess
) -> None:
    asked = terminal.printed("models", "add", terminal.artifact, "--name", "two", "--before", "enrich").splitlines()[-1]
    assert asked == "to ask it: http://127.0.0.1:8000/docs has the fields that its steps leave to clients"
    assert terminal.repository.pointers().default is None
    [(request, timeout_s)] = in_this_process.asked
    assert isinstance(request, PackRequest)
    assert (request.sample, request.target, timeout_s) == (None, None, 77)


@pytest.mark.slow
def test_add_prints_one_json_document_for_machines(terminal: Terminal) -> None:
    printed = json.loads(terminal.printed("models", "add", terminal.artifact, "--name", "two", "--json"))
    assert set(printed) == {"model", "version", "remarks", "assumptions", "proof", "verdict"}
    shown = json.loads(terminal.printed("models", "show", "two"))
    assert (printed["assumptions"], printed["proof"]) == (shown["assumptions"], shown["proof"])
    assert shown["proof"]["slower_times"].keys() <= {"1", "32", "1000"}
    assert shown["assumptions"] == []  # the artifact names the installed scikit-learn


@pytest.mark.slow
def test_add_makes_one_model_of_several_files(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(terminal.folder)
    scaler = StandardScaler().fit([[0.0, 1.0], [4.0, 5.0]])
    saved(scaler, terminal.folder / "scaler.pkl")
    saved(two(), terminal.folder / "model.pkl")
    saved(LabelEncoder().fit(["no", "yes"]), terminal.folder / "encoder.pkl")
    files = ["scaler.pkl", "model.pkl"]
    printed = terminal.printed("models", "add", *files, "--name", "two", "--labels", "encoder.pkl")
    assert "  classifier: Decoded(Pipeline(StandardScaler, LogisticRegression))" in printed.splitlines()
    assert "  its predictions are decoded by encoder.pkl: no, yes" in printed.splitlines()
    saved({"m": two(), "s": scaler}, terminal.folder / "bundle.pkl")
    command = terminal.refusal("models", "add", "bundle.pkl", "--name", "two").partition("To pack one: flask ")[2]
    assert command == "models add bundle.pkl --name two --use m --before s"
    assert terminal.printed(*command.split()).startswith("two version 2 packed")


@pytest.mark.slow
def test_the_proposed_command_repeats_the_options_that_were_given(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(terminal.folder)
    Path("my rows.csv").write_text("x1,x2,y\n0,1,0\n4,5,1\n")
    saved({"m": two(), "s": StandardScaler().fit([[0.0, 1.0], [4.0, 5.0]])}, Path("a bundle.pkl"))
    given = ["models", "add", "a bundle.pkl", "--name", "two", "--sample", "my rows.csv", "--target", "y"]
    command = shlex.split(terminal.refusal(*given).partition("To pack one: flask ")[2])
    assert command == [*given, "--use", "m", "--before", "s"]
    assert "  sample: 2 rows, UTF-8, separated by ','" in terminal.printed(*command).splitlines()


@pytest.mark.slow
def test_add_with_a_sample_and_a_target_as_the_default(terminal: Terminal) -> None:
    frame = flowers()[["petals", "species"]]
    frame.to_csv(terminal.folder / "rows.csv", index=False)
    artifact = saved(LogisticRegression().fit(frame[["petals"]], frame["species"]), terminal.folder / "f.joblib")
    arguments = ["--sample", terminal.folder / "rows.csv", "--target", "species", "--default"]
    printed = terminal.printed("models", "add", artifact, "--name", "flowers", *arguments)
    assert f"  input petals: integer, {frame['petals'].min()} to {frame['petals'].max()} seen" in printed.splitlines()
    assert terminal.repository.pointers().default == "flowers"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.joblib", "--name", "two"], "missing.joblib cannot be read: No such file or directory"),
        (["missing.txt", "--name", "two"], "missing.txt cannot be read: No such file or directory"),
        (["missing.joblib", "--name", "my model"], "name 'my model' cannot stand in a URL: "),
    ],
)
def test_add_refuses_in_one_sentence(terminal: Terminal, arguments: list[str], message: str) -> None:
    assert terminal.refusal("models", "add", *arguments, "--default").startswith(message)
    assert terminal.repository.models() == []
    assert terminal.repository.pointers().default is None


@pytest.mark.parametrize("arguments", [["add"], ["add", "two.joblib"], ["remove", "two"], ["remove", "two", "x"]])
def test_wrong_usage_is_reported_by_click(terminal: Terminal, arguments: list[str]) -> None:
    result = terminal.run("models", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: " in result.stderr


def test_the_list_of_an_empty_repository_has_no_rows(terminal: Terminal) -> None:
    assert rows(terminal.printed("models", "list")) == [HEAD]


def test_list_shows_versions_aliases_states_and_the_default(packed: Terminal) -> None:
    (packed.repository.root / POINTERS).write_text('{"default": "two", "aliases": {"two": {"b": 1, "a": 1}}}')
    head, first, second = rows(packed.printed("models", "list"))
    assert head == HEAD
    assert first[:5] == ["two", "*", "1", "a,b", "VERIFIED"]
    assert second[:5] == ["two", "*", "2", "-", "VERIFIED"]
    assert (first[-1], second[-1]) == ("-", "answers")


def test_list_shows_a_damaged_version_as_failed(packed: Terminal) -> None:
    packed.damage()
    line = packed.printed("models", "list").splitlines()[1]
    assert "FAILED (model.joblib has 7 bytes, not " in line
    assert line.split()[-1] == "-"


@pytest.mark.slow
def test_list_reports_unreadable_pointers(packed: Terminal) -> None:
    (packed.repository.root / POINTERS).write_text("{")
    assert packed.refusal("models", "list").startswith(f"{packed.repository.root / POINTERS} cannot be read: ")


@pytest.mark.slow
def test_show_is_json_of_the_newest_version(packed: Terminal) -> None:
    shown = json.loads(packed.printed("models", "show", "two"))
    assert (shown["name"], shown["version"]) == ("two", 2)
    assert [spec["name"] for spec in shown["signature"]["inputs"]] == ["feature1", "feature2"]
    assert {"examples", "environment", "sha256", "proof", "classes", "task", "estimator"} <= set(shown)
    assert json.loads(packed.printed("models", "show", "two", 1))["version"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("command", [["show", "three"], ["verify", "three"], ["remove", "three", "1"]])
def test_a_missing_model_is_reported(packed: Terminal, command: list[str]) -> None:
    assert packed.refusal("models", *command) == "there is no model 'three'; there are: two"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["show", "remove"])
def test_a_missing_version_is_reported(packed: Terminal, command: str) -> None:
    said = "model 'two' has no version or alias '3'; there are: 1, 2"
    assert packed.refusal("models", command, "two", 3) == said


def test_show_reports_an_unreadable_manifest(packed: Terminal) -> None:
    (packed.repository.folder("two", 2) / "manifest.json").write_bytes(b"{")
    assert packed.refusal("models", "show", "two").startswith("manifest.json is damaged or was replaced: ")


def test_verify_loads_and_proves_each_version(packed: Terminal, in_this_process: InThisProcess) -> None:
    assert packed.printed("models", "verify") == "two version 1: AVAILABLE\ntwo version 2: AVAILABLE\n"
    root = str(packed.repository.root)
    assert in_this_process.asked == [(CheckRequest("two", 1, root), 77), (CheckRequest("two", 2, root), 77)]
    shutil.rmtree(packed.repository.folder("two", 1))
    assert packed.printed("models", "verify", "two") == "two version 2: AVAILABLE\n"


def test_verify_reports_a_failed_version_and_goes_on(packed: Terminal) -> None:
    packed.damage()
    result = packed.run("models", "verify")
    assert result.exit_code == 1
    assert result.stdout == "two version 2: AVAILABLE\n"
    assert result.stderr.startswith("two version 1: FAILED (model.joblib has 7 bytes, not ")
    assert result.stderr.count("\n") == 1


def test_verify_of_an_empty_repository_succeeds(terminal: Terminal) -> None:
    assert terminal.printed("models", "verify") == ""


@pytest.mark.slow
def test_remove_removes_versions_and_models(packed: Terminal) -> None:
    assert packed.printed("models", "remove", "two", 1) == "two version 1 removed\n"
    assert packed.repository.versions("two") == [2]
    packed.printed("models", "remove", "two", 2)
    assert packed.repository.models() == []
    assert packed.refusal("models", "remove", "two", 1) == "there is no model 'two'; the repository is empty"


def test_remove_names_the_version_that_answers_instead(packed: Terminal) -> None:
    assert packed.printed("models", "remove", "two", 2) == "two version 2 removed\ntwo version 1 answers\n"


def test_an_error_of_the_file_system_is_one_sentence(packed: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Repository, model: str, version: int) -> None:
        raise PermissionError(13, "Permission denied", "/models/two/1")

    monkeypatch.setattr(Repository, "remove", refuse)
    assert packed.refusal("models", "remove", "two", 1) == "/models/two/1: Permission denied"


@pytest.mark.slow
def test_settings_show_name_value_unit_and_source(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_PACKING_TIMEOUT_S", "77")
    lines = terminal.printed("settings").splitlines()
    assert lines[0].split() == ["name", "value", "unit", "from"]
    by_name = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert by_name["RETORT_PACKING_TIMEOUT_S"] == ["77", "seconds", "environment"]
    assert by_name["RETORT_THREADS"] == ["8", "threads", "default"]
    assert by_name["RETORT_ENV"] == ["production", "default"]
    assert by_name["HOST"] == ["default"]


def test_settings_of_a_running_server_that_differ_are_named() -> None:
    running = RunningServer(7, {"RETORT_ENV": "development", "DATABASE_URL": "sqlite://"}, Path())
    server = Server(running, Settings.from_environ(running.environ))
    said = "the server at http://127.0.0.1:8000 (process 7) has other settings: RETORT_ENV=development DATABASE_URL=***"
    assert other_settings(Settings(), [server]) == [said]
    assert other_settings(server.settings, [server]) == []


@pytest.mark.parametrize("command", [["models", "list"], ["settings"]])
def test_a_missing_folder_of_models_is_warned_of(terminal: Terminal, command: list[str], caplog: Any) -> None:
    there = terminal.run(*command)
    assert there.stderr == ""
    root = terminal.repository.root
    root.rmdir()
    gone = terminal.run(*command)
    said = f"RETORT_MODELS_DIR: there is no folder {root}, so that there are no models"
    assert (gone.exit_code, gone.stdout, gone.stderr) == (0, there.stdout, f"Warning: {said}\n")
    assert caplog.messages == []
    create_app(terminal.settings)
    assert caplog.messages == [said]
    assert wrong_settings(Repository(Path("models")), Settings()) == []


@pytest.mark.parametrize("command", [["models", "list"], ["settings"]])
def test_a_missing_default_model_is_warned_of(
    tmp_path: Path, two_versions: Path, root_logger: None, command: list[str], caplog: Any
) -> None:
    lost = Terminal(tmp_path, two_versions, default_model="three")
    said = "RETORT_DEFAULT_MODEL: there is no model 'three'; there are: two"
    assert caplog.messages == [said]
    result = lost.run(*command)
    assert (result.exit_code, result.stderr) == (0, f"Warning: {said}\n")
    found = Settings(models_dir=lost.repository.root, default_model="two")
    assert wrong_settings(lost.repository, found) == []


def test_a_default_model_may_be_a_stray_in_development(terminal: Terminal) -> None:
    shutil.copy(terminal.artifact, terminal.repository.root / "two.joblib")
    for env, lines in (("development", 0), ("production", 1)):
        settings = Settings(models_dir=terminal.repository.root, default_model="two", env=env)
        assert len(wrong_settings(terminal.repository, settings)) == lines


@pytest.mark.slow
def test_a_stray_is_packed_by_the_same_process(
    tmp_path: Path, in_this_process: InThisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    repository = Repository(tmp_path / "models")
    stray = saved(LogisticRegression().fit([[0.0], [4.0]], [0, 1]), repository.root / "two.joblib")
    with caplog.at_level(logging.WARNING):
        stray_packer(repository, Settings(packing_timeout_s=5))(stray, "two")
    assert repository.versions("two") == [1]
    assert in_this_process.asked[0][1] == 5
    assert f"packing {stray} as model two" in caplog.text
    (repository.root / "no.joblib").write_bytes(b"")
    with pytest.raises(PackingRefused):
        stray_packer(repository, Settings())(repository.root / "no.joblib", "no")
    assert sorted(path.name for path in repository.root.iterdir()) == ["history.json", "no.joblib", "two", "two.joblib"]


@pytest.mark.slow
def test_add_keeps_the_authors_card(terminal: Terminal, tmp_path: Path) -> None:
    card = tmp_path / "CARD.md"
    card.write_text("# About\r\n\nfür alle\n", "utf-8")
    terminal.printed("models", "add", terminal.artifact, "--name", "two", "--card", card)
    assert json.loads(terminal.printed("models", "show", "two"))["card"] == "# About\n\nfür alle"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff", "is not UTF-8"), (b"a" * 70_000, "has 70000 bytes; at most 65536 are kept"), (None, "cannot be read")],
    ids=["latin", "long", "absent"],
)
def test_add_refuses_a_card_that_is_no_text(
    terminal: Terminal, tmp_path: Path, content: bytes | None, message: str
) -> None:
    card = tmp_path / "CARD.md"
    if content is not None:
        card.write_bytes(content)
    assert message in terminal.refusal("models", "add", terminal.artifact, "--name", "two", "--card", card)


@pytest.mark.slow
def test_add_declares_inputs_and_the_treatment_of_new_values(terminal: Terminal) -> None:
    artifact = saved(two(), terminal.folder / "two.joblib")
    (terminal.folder / "inputs.json").write_text('[{"name": "pair", "kind": "array", "shape": [2]}]')
    options = ["--inputs", terminal.folder / "inputs.json", "--out-of-range", "warn", "--unseen", "accept"]
    printed = terminal.printed("models", "add", artifact, "--name", "two", *options)
    assert "input pair: array of shape 2" in printed
    shown = json.loads(terminal.printed("models", "show", "two"))
    assert (shown["out_of_range"], shown["signature"]["inputs"][0]["shape"]) == ("warn", [2])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("[]", "must declare at least one input, each once"),
        ("{", "is no JSON list of inputs"),
        (
            '[{"name": "a", "kind": "datetime"}]',
            "Invalid enum value 'datetime' - at `$[0].kind`; it must be one of: number, integer, boolean, category, "
            "text, timestamp, array, image",
        ),
        ('[{"name": "a", "kind": "image", "mode": "RGBA"}]', "it must be one of: L, RGB"),
        (
            '[{"name": "a", "kind": "number", "min": 1}]',
            "unknown field `min` - at `$[0]`; the fields are: name, kind, dtype, shape, mode, size, divisor, offset, ",
        ),
        ('[{"name": "a", "kind": "array"}]', "it needs a shape"),
        ('[{"name": "a", "kind": "image", "mode": "L"}]', "it needs a mode (L or RGB) and a size"),
        ('[{"name": "a", "kind": "array", "shape": [3]}]', "are 3 numbers in all; the model takes 2"),
        ('[{"name": "a", "kind": "array", "shape": [2], "dtype": "text"}]', "an array is of one of: bool, int8"),
    ],
)
def test_add_refuses_inputs_that_do_not_fit(terminal: Terminal, inputs: str, message: str) -> None:
    artifact = saved(two(), terminal.folder / "two.joblib")
    (terminal.folder / "inputs.json").write_text(inputs)
    arguments = [artifact, "--name", "two", "--inputs", terminal.folder / "inputs.json"]
    assert message in terminal.refusal("models", "add", *arguments)


@pytest.fixture
def with_steps(tmp_path: Path, root_logger: None, in_this_process: InThisProcess) -> Terminal:
    """Return a command line with a module in RETORT_STEPS."""
    return Terminal(tmp_path, steps="tests.wire.steps_module")


@pytest.mark.slow
def test_add_lists_the_steps_in_the_manifest(with_steps: Terminal) -> None:
    listed = ("--before", "enrich", "--after", "score")
    printed = with_steps.printed("models", "add", with_steps.artifact, "--name", "two", *listed)
    assert "not checked" not in printed
    manifest = with_steps.repository.manifest("two", 1)
    assert (manifest.before, manifest.after) == (("enrich",), ("score",))
    assert json.loads(with_steps.printed("models", "show", "two"))["steps"] == {
        "before": ["enrich"],
        "after": ["score"],
    }


def test_add_refuses_missing_steps(with_steps: Terminal) -> None:
    listed = ("--before", "enrich", "--before", "enrish", "--after", "scope")
    message = with_steps.refusal("models", "add", with_steps.artifact, "--name", "two", *listed)
    assert "tests.wire.steps_module has no step 'enrish' or 'scope'; there are: " in message
    assert "enrich" in message.partition("there are: ")[2]
    assert with_steps.repository.versions("two") == []


@pytest.mark.slow
def test_add_says_where_it_cannot_check_steps(terminal: Terminal) -> None:
    printed = terminal.printed("models", "add", terminal.artifact, "--name", "two", "--after", "anything")
    assert "its steps are not checked, since RETORT_STEPS is not set" in printed
    assert terminal.repository.manifest("two", 1).after == ("anything",)


@pytest.mark.slow
def test_commands_choose_the_version_that_answers(packed: Terminal) -> None:
    assert packed.printed("models", "use", "two", 1) == "two version 1 answers\n"
    assert [line[-1] for line in rows(packed.printed("models", "list"))] == ["role", "answers", "-"]
    assert packed.printed("models", "rollback", "two") == "two version 2 answers\n"
    newest = packed.printed("models", "use", "two", "newest")
    assert newest == "two version 2 answers, and each newer one that is added\n"
    assert packed.printed("models", "alias", "two", "champion", 1) == "champion is two version 1\n"
    assert rows(packed.printed("models", "list"))[1][2] == "champion"
    assert packed.printed("models", "alias", "two", "champion", "--remove") == "two has no alias champion\n"
    assert packed.printed("models", "default", "two") == "two is behind /predict\n"
    head, *changes = rows(packed.printed("models", "history", "two"))
    assert head == ["when", "who", "what", "answers"]
    assert [" ".join(change[2:]) for change in changes] == [
        "add 1 1",
        "add 2 2",
        "use 1 1",
        "rollback to 2 2",
        "use newest 2",
        "alias champion 1 2",
        "alias champion removed 2",
        "default 2",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["use", "two", 9], "model 'two' has no version or alias '9'; there are: 1, 2"),
        (["use", "three", 1], "there is no model 'three'; there are: two"),
        (["use", "three", "newest"], "there is no model 'three'; there are: two"),
        (["rollback", "three"], "there is no model 'three'; there are: two"),
        (["alias", "two", "newest", 1], "alias 'newest' would be mistaken for a version"),
        (["alias", "two", "champion", "--remove"], "two has no alias 'champion'; there are: none"),
        (["default", "three"], "there is no model 'three'; there are: two"),
        (["history", "three"], "there is no model 'three'; there are: two"),
    ],
)
def test_an_impossible_choice_is_refused(packed: Terminal, arguments: list[str], message: str) -> None:
    assert packed.refusal("models", *arguments) == message
    assert packed.repository.pointers() == Pointers()


def test_a_damaged_version_is_not_chosen(packed: Terminal) -> None:
    packed.damage()
    message = packed.refusal("models", "use", "two", 1)
    assert message.startswith("two version 1 cannot answer: FAILED (model.joblib has 7 bytes, not ")
    assert packed.repository.pointers() == Pointers()


@pytest.mark.slow
def test_the_version_in_use_is_not_removed(packed: Terminal) -> None:
    packed.printed("models", "use", "two", 1)
    message = packed.refusal("models", "remove", "two", 1)
    assert message.endswith("choose another: flask models use two VERSION|newest")


@pytest.mark.slow
def test_the_output_for_a_staged_version_says_how_to_use_it(packed: Terminal) -> None:
    printed = packed.printed("models", "add", packed.artifact, "--name", "two", "--stage").splitlines()
    assert "version 2 answers; for this one to: flask models use two 3" in printed
    assert "curl http://127.0.0.1:8000/models/two/versions/3/predict" in printed[-1]
    assert [line[-1] for line in rows(packed.printed("models", "list"))] == ["role", "-", "answers", "staged"]


def test_list_warns_of_missing_versions_in_repository_json(packed: Terminal) -> None:
    path = packed.repository.root / POINTERS
    path.write_text('{"aliases": {"two": {"champion": 9}}}')
    result = packed.run("models", "list")
    said = f"Warning: {path}: model 'two': alias 'champion' is 9, which is not there; there are: 1, 2\n"
    assert (result.exit_code, result.stderr) == (0, said)


def test_reload_without_a_server_is_an_error(packed: Terminal) -> None:
    assert packed.refusal("models", "reload").startswith(f"no server of {packed.repository.root} runs on this machine")


def test_show_prints_each_thing_once(packed: Terminal) -> None:
    shown = json.loads(packed.printed("models", "show", "two"))
    assert not {"inputs", "outputs"} & set(shown)
    assert set(shown["signature"]) == {"inputs", "outputs"}


def test_show_leaves_the_counts_of_histograms_to_json() -> None:
    described = ["models", "show", "penguins"]
    command = runner(Settings(models_dir=EXAMPLE_MODELS))
    shown, every = (command.invoke(args=[*described, *options]).stdout for options in ([], ["--json"]))
    document, whole = json.loads(shown), json.loads(every)
    assert every.count("\n") == 1
    assert len(whole["profile"]["inputs"]["body_mass_g"]["counts"]) == 16
    assert document["profile"]["inputs"]["body_mass_g"] == {"from": 2700.0, "to": 6300.0, "missing": 2}
    for each in whole["profile"]["inputs"].values():
        each.pop("counts", None)
    assert document == whole
    assert '\n  "classes": ["Adelie", "Chinstrap", "Gentoo"],\n' in shown
    assert shown.count("\n") < 200


@pytest.mark.slow
def test_a_version_is_packed_again(packed: Terminal) -> None:
    packed.printed("models", "use", "two", 1)
    first, *remarks = packed.printed("models", "repack", "two", "--stage").splitlines()
    assert first == "two version 3 packed"
    assert remarks[0] == "  it gives the same answers as version 1 on 3 examples and 300 recorded rows"
    was, now = packed.repository.manifest("two", 1), packed.repository.manifest("two", 3)
    assert (now.examples, now.signature, now.files["model.joblib"]) == (
        was.examples,
        was.signature,
        was.files["model.joblib"],
    )
    assert packed.printed("models", "verify", "two").count("AVAILABLE") == 3
    packed.damage(2)
    assert packed.refusal("models", "repack", "two", 2).startswith("model.joblib has 7 bytes, not ")


@pytest.mark.slow
def test_two_versions_are_compared(terminal: Terminal) -> None:
    frame = flowers()[["petals", "species"]]
    for turn, target in enumerate((frame["species"], frame["species"].shift(9, fill_value="rose"))):
        artifact = saved(LogisticRegression().fit(frame[["petals"]], target), terminal.folder / f"{turn}.joblib")
        terminal.printed("models", "add", artifact, "--name", "flowers")
    data = terminal.folder / "rows.csv"
    frame.to_csv(data, index=False)
    arguments = ("--data", data, "--target", "species")
    agree, differ, head, *lines = terminal.printed("models", "compare", "flowers", 1, 2, *arguments).splitlines()
    assert agree.startswith("versions 1 and 2 agree on ")
    assert " of 60 rows (" in agree
    assert differ.startswith("their probabilities differ by ")
    assert head == "rows that differ most, counted from 0:"
    assert len(lines) == 10
    assert all(line.startswith("row ") and line.endswith(" apart") for line in lines)
    same = terminal.printed("models", "compare", "flowers", 1, 1, *arguments)
    assert same == "versions 1 and 1 agree on 60 of 60 rows (100.0 %)\n"
    (terminal.folder / "two.csv").write_text("length,width\n1,2\n")
    assert (
        terminal.refusal("models", "compare", "flowers", 1, 2, "--data", terminal.folder / "two.csv")
        == "the file lacks petals, which version 1 takes"
    )
    data.write_text("petals\n1\nmany\n")
    message = terminal.refusal("models", "compare", "flowers", 1, 2, "--data", data)
    assert message.startswith("version 1 does not accept row 0 of the file: petals must be ")


@pytest.mark.slow
def test_a_model_of_several_targets_is_added_and_compared(terminal: Terminal) -> None:
    frame = flowers()[["petals", "species"]].assign(big=flowers()["petals"] > 4)
    fitted = MultiOutputClassifier(LogisticRegression()).fit(frame[["petals"]], frame[["species", "big"]].astype(str))
    rows = terminal.folder / "rows.csv"
    frame.to_csv(rows, index=False)
    added = ["models", "add", saved(fitted, terminal.folder / "both.joblib"), "--name", "both", "--sample", rows]
    targets = ["--target", "species", "--target", "big"]
    assert terminal.refusal(*added, "--target", "species").startswith("the sample adds big; the model takes: petals;")
    said = f"sample {rows} has no target column 'bigger'; it has: petals, species, big"
    assert terminal.refusal(*added, *targets, "--target", "bigger") == said
    printed = terminal.printed(*added, *targets)
    assert "input petals: integer, " in printed
    assert "agree with" not in printed
    compared = terminal.printed("models", "compare", "both", 1, 1, "--data", rows, *targets)
    assert compared == "versions 1 and 1 agree on 60 of 60 rows (100.0 %)\n"


class Clock:
    """A clock that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)


def test_progress_is_a_plain_line_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    with Progress() as progress:
        for _ in range(120):
            clock.now_s += 0.25
            seconds = clock.now_s - 100.0
            progress.stage(Stage("reading") if seconds < 15 else Stage("comparing", int(seconds - 15) * 100, 3000))
    assert capsys.readouterr().err.splitlines() == [
        "10 s: reading",
        "20 s: comparing, 500 of 3,000 rows, about 25 s left",
        "30 s: comparing, 1,500 of 3,000 rows, about 15 s left",
    ]


def test_progress_is_one_line_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    Clock(monkeypatch)
    with Progress() as progress:
        progress.stage(Stage("reading"))
        progress.line("making an environment")
        progress.stage(Stage("comparing", 0, 3000))
    erased = "\r\033[K"
    said = f"{erased}0 s: reading{erased}making an environment\n{erased}0 s: comparing, 0 of 3,000 rows{erased}"
    assert capsys.readouterr().err in (said, said.replace("\033[K", ""))


@pytest.mark.parametrize(("misspelled", "meant"), [("model", "models"), ("scor", "score"), ("setings", "settings")])
def test_a_misspelled_command_gets_a_suggestion(misspelled: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_RUN_FROM_CLI", "true")  # as the group sets it
    flask = FlaskGroup(create_app=lambda: create_app(Settings(models_dir=EXAMPLE_MODELS)))
    result = CliRunner().invoke(flask, [misspelled])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"Error: No such command '{misspelled}'. Did you mean '{meant}'?"
