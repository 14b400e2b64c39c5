"""The hook that checks commit messages."""

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HOOK = Path(__file__).parents[1] / ".ci" / "commit-msg"


def check(folder: Path, message: str) -> subprocess.CompletedProcess[str]:
    file = folder / "message"
    file.write_text(message, "utf-8")
    return subprocess.run([str(HOOK), str(file)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "message",
    [
        "Add a codec for BSON\n",
        "Add a codec for BSON\n\nMongoDB's users asked for it.\n",
        f"{'ä' * 72}\n",
        f"Merge branch '{'x' * 80}'\n",
        "Add a codec\n# Please enter the commit message for your changes.\n",
    ],
)
def test_a_good_message_passes(tmp_path: Path, message: str) -> None:
    assert check(tmp_path, message).returncode == 0


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("\n", "the subject is empty"),
        (f"{'x' * 73}\n", "the subject has 73 characters; at most 72 are allowed"),
        ("Add a codec.\n", "the subject ends with a full stop"),
        ("Add a codec\nfor BSON\n", "line 2 is not empty"),
    ],
)
def test_a_bad_message_is_refused_with_its_reason(tmp_path: Path, message: str, reason: str) -> None:
    checked = check(tmp_path, message)
    assert (checked.returncode, reason in checked.stderr) == (1, True)
