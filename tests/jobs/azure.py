"""A real server that speaks Azure's Blob Storage, on this machine: Azurite, Microsoft's own, from npm."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from urllib.request import Request, urlopen

from tests.clients.venvs import node_modules

PACKAGES = Path(__file__).resolve().parent / "azurite"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The key of this account is published in Azurite's documentation: it protects nothing."""
VERSION = "2021-12-02"
STARTS_WITHIN_S = 60.0


@contextmanager
def blob_server(folder: Path) -> Iterator[str]:
    """Start a server that keeps its blobs in a folder; yield its URL."""
    program = node_modules(PACKAGES) / "azurite" / "dist" / "src" / "blob" / "main.js"
    options = ("--blobHost", "127.0.0.1", "--blobPort", "0", "--location", str(folder), "--skipApiVersionCheck")
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(["node", str(program), *options], stdout=said, stderr=subprocess.STDOUT)
    try:
        yield _url_of(process, folder / "said")
    finally:
        process.kill()
        process.wait()


def _url_of(process: subprocess.Popen[bytes], said: Path) -> str:
    deadline_s = time.monotonic() + STARTS_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline_s:
        if match := re.search(r"successfully listens on (http://\S+)", said.read_text()):
            return match[1]
        time.sleep(0.05)
    raise AssertionError(said.read_text())


def make_container(url: str, name: str) -> None:
    """Make a container, by a request signed with the key of the account.

    Source: https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
    """
    sent = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": VERSION}
    lines = [f"{header}:{value}" for header, value in sent.items()]
    lines += [f"/{ACCOUNT}/{ACCOUNT}/{name}", "restype:container"]
    signed = hmac.digest(base64.b64decode(KEY), "\n".join(["PUT", *[""] * 11, *lines]).encode(), hashlib.sha256)
    sent["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signed).decode()}"
    request = Request(f"{url}/{ACCOUNT}/{name}?restype=container", method="PUT", headers=sent)
    with urlopen(request, timeout=20) as answer:
        assert answer.status == 201
