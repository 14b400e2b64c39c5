"""The page of licences lists the packages that are locked."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPYLEFT = re.compile(r"(?<!L)GPL|AGPL|SSPL", re.IGNORECASE)


def rows() -> list[list[str]]:
    lines = (ROOT / "docs" / "licences.md").read_text("utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\| [a-z0-9]", line)][
        1:
    ]


def test_the_page_lists_every_locked_package() -> None:
    text = (ROOT / "requirements.txt").read_text("utf-8")
    pinned = dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^ ;\\]+)", text, re.MULTILINE))  # one version of each
    assert [row[:2] for row in rows()] == sorted(map(list, pinned.items())), "run `make lock`"


def test_every_licence_is_known_and_permits_use_in_closed_products() -> None:
    for package, _, licence, _ in rows():
        assert licence, package
        assert not licence.startswith(("see", "not installed")), package
        assert not COPYLEFT.search(licence), (package, licence)
