"""A test executes or checks every block of README and docs: a block without a test fails here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import BLOCKS, Block
from tests.docs.test_examples import CLIENTS, COMMANDS, PROXIES, REQUESTS, SNIPPETS

HERE = Path(__file__).parent
RUN = {*CLIENTS, *COMMANDS, *PROXIES, *REQUESTS, *SNIPPETS}
"""Blocks that `test_examples.py` runs."""
USED = {
    ("docs/tutorial.md", "train_mass.py"): "test_examples.py::test_commands_and_scripts_run",
    ("docs/inputs.md", "build/image.json"): "test_modules.py::test_the_file_that_declares_an_image_can_be_read",
    ("docs/inputs.md", "build/pixels.json"): "test_modules.py::test_the_file_that_declares_an_array_can_be_read",
    ("docs/packing.md", "build/inputs.json"): "test_modules.py::test_the_file_that_declares_a_timestamp_can_be_read",
    ("docs/steps.md", "my_steps.py"): "test_modules.py::test_the_module_of_steps_has_two_steps",
    ("docs/steps.md", "my_async_steps.py"): "test_modules.py::test_the_async_step_writes_what_was_answered",
    ("docs/steps.md", "my_factories.py"): "test_modules.py::test_the_module_of_factories_has_one",
    ("docs/steps.md", "test_loans.py"): "test_modules.py::test_the_test_of_a_user_replaces_a_factory",
    ("docs/configuration.md", ".env"): "test_modules.py::test_the_file_of_settings_can_be_read",
    ("docs/deployment.md", "nginx.conf"): "../end_to_end/test_two_hosts.py::test_one_of_two_hosts_may_stop_and_return",
    ("docs/jobs.md", "worker.sh"): "../end_to_end/test_jobs.py::test_the_commands_of_the_page_run",
    ("docs/jobs.md", "jobs.sh"): "../end_to_end/test_jobs.py::test_the_commands_of_the_page_run",
    ("docs/jobs.md", "jobs.py"): "../end_to_end/test_jobs.py::test_the_commands_of_the_page_run",
    ("docs/operations.md", ".env"): "test_modules.py::test_the_variables_of_traces_switch_them_on",
    (
        "docs/runbook.md",
        "backup.sh",
    ): "../end_to_end/test_runbook.py::test_a_backup_is_all_that_a_server_needs",
    (
        "docs/runbook.md",
        "restore.sh",
    ): "../end_to_end/test_runbook.py::test_a_backup_is_all_that_a_server_needs",
    ("docs/runbook.md", "rotate.sh"): "../end_to_end/test_runbook.py::test_a_key_is_rotated_without_a_refused_request",
    ("docs/runbook.md", "revoke.sh"): "../end_to_end/test_runbook.py::test_a_key_is_rotated_without_a_refused_request",
    ("docs/public-names.md", "my_first_step.py"): "test_modules.py::test_the_first_step_adds_an_age",
    ("docs/your-repository.md", "tests/own/test_first_step.py"): "test_modules.py::test_the_own_test_passes",
    ("docs/security.md", "wsgi.py"): "test_modules.py::test_the_views_need_what_their_decorators_say",
    ("docs/extending.md", "wsgi.py"): "test_modules.py::test_the_view_and_the_interceptor_work",
}
"""The test that uses a block with a title."""
NOT_RUN = {
    ("docs/bulk.md", "PYTHONPATH=/srv/retort dask scheduler"): "../jobs/test_dask.py starts them in the same way",
    ("docs/deployment.md", "docker build --tag retort ."): "test_image.py runs the steps of the Dockerfile",
    (
        "docs/deployment.md",
        "docker compose run --rm retort flask keys create --name me --scope predict",
    ): "it needs containers",
    ("docs/deployment.md", "fly launch --no-deploy --copy-config"): "it needs an account",
    (
        "docs/deployment.md",
        'kubectl create secret generic retort --from-literal=api-keys="$KEYS"',
    ): "it needs a cluster",
    ("docs/deployment.md", "kubectl apply --filename deploy/kserve/inferenceservice.yaml"): "it needs a cluster",
}
"""Blocks that no test can run, by page and first line, and the reason."""


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_test_runs_the_block(block: Block) -> None:
    answers = {run.answer for run in REQUESTS}
    if block in RUN or block in answers or block.language == "text":
        return  # a text is a drawing, or the output of a command, which is compared where the command runs
    if (block.page, block.text.partition("\n")[0]) in NOT_RUN:
        return
    assert block.title, f"nothing runs this block of the language {block.language!r}"
    assert (block.page, block.title) in USED, "no test is named for this block"


@pytest.mark.parametrize(("used", "test"), USED.items(), ids=str)
def test_the_named_test_uses_the_block(used: tuple[str, str], test: str) -> None:
    page, title = used
    module, name = test.split("::")
    source = (HERE / module).read_text("utf-8")
    [body] = re.findall(
        rf"^def {name}\(.*?(?=^\S|\Z)", source.replace("\n) ->", "\n    ) ->"), re.MULTILINE | re.DOTALL
    )
    if module == "test_examples.py":
        mentions = [block.text for block in COMMANDS if block.page == page]
        assert any(title in text for text in mentions), f"no command of {page} uses {title}"
    else:
        assert title in body
    assert any((block.page, block.title) == used for block in BLOCKS), f"{page} has no block {title!r}"


def test_the_list_of_blocks_without_a_test_has_no_other_blocks() -> None:
    assert NOT_RUN.keys() <= {(block.page, block.text.partition("\n")[0]) for block in BLOCKS}
