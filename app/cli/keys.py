"""`flask keys create`, `list`, `revoke` and `rotate`: API keys of the server."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import click

from app.cli.group import RetortGroup, context, print_table, print_warnings
from app.storage.keys import SCOPES, StoredKey, ended, make_key, remade

keys = RetortGroup("keys", help="Make, list, revoke and rotate API keys.")

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
LONGEST_S = 36_500 * UNITS_S["d"]
MAX_NAME_CHARS = 200


def _seconds(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    """Read a duration: 90d, 12h, 30m or 45s."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text.strip())
    if match is None or not 0 < (seconds := int(match[1]) * UNITS_S[match[2]]) <= LONGEST_S:
        raise click.BadParameter(f"{text!r} is no duration: write it as 90d, 12h, 30m or 45s")
    return seconds


def _scopes(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> frozenset[str]:
    scopes = [word for text in texts for word in text.replace(",", " ").split()]
    wrong = sorted({*scopes} - {*SCOPES})
    if wrong or not scopes:
        raise click.BadParameter(f"must be of: {', '.join(SCOPES)}" + (f"; not {', '.join(wrong)}" if wrong else ""))
    return frozenset(scopes)


def _name(_: click.Context, __: click.Parameter, text: str) -> str:
    if not (text.strip() and text.isprintable() and len(text) <= MAX_NAME_CHARS):
        raise click.BadParameter(f"must be one line of 1 to {MAX_NAME_CHARS} characters")
    return text.strip()


def _duration(flag: str, text: str) -> Callable[[Any], Any]:
    return click.option(flag, metavar="DURATION", callback=_seconds, help=text)


@keys.command("create")
@click.option("--name", required=True, callback=_name, help="Who uses the key; only for you.")
@click.option("--scope", "scopes", multiple=True, default=("predict",), callback=_scopes, help=", ".join(SCOPES))
@click.option("--model", "models", multiple=True, help="Limit the key to this model; may be repeated.")
@_duration("--expires", "The key ends after this time: 90d, 12h, 30m.")
@click.option("--print-hash", is_flag=True, help="Store nothing; print an entry for RETORT_API_KEYS.")
def create(name: str, scopes: frozenset[str], models: tuple[str, ...], expires: int | None, print_hash: bool) -> None:
    """Make a key and print it. It is shown this once; only its hash is stored."""
    existing = context().repository.models()
    print_warnings(
        f"there is no model {model!r} yet; there are: {', '.join(existing)}"
        for model in models
        if model not in existing
    )
    if wrong := [model for model in models if not model.strip() or len(model.split()) > 1]:
        raise click.BadParameter(f"{wrong[0]!r} cannot be the name of a model", param_hint="--model")
    key, stored = make_key(name, scopes, models or None, expires, context().settings.key_secret)
    if print_hash:
        click.echo("Nothing was stored. Add this entry to RETORT_API_KEYS, after a comma if there are others:")
        click.echo(stored.entry())
    else:
        context().keys.store().add(stored)
    _print_key(key, stored)


@keys.command("list")
def list_keys() -> None:
    """List the keys, without their secrets."""
    given, now_s = {key.id for key in context().keys.given}, time.time()
    rows = [
        (
            key.id,
            key.name,
            ",".join(sorted(key.scopes)),
            "all" if key.models is None else ",".join(sorted(key.models)),
            _day(key.created_at),
            _day(key.expires_at),
            key.state(now_s),
            "RETORT_API_KEYS" if key.id in given else "database",
        )
        for key in context().keys.read()
    ]
    print_table(("id", "name", "scopes", "models", "created", "expires", "state", "from"), rows)
    if context().keys.unusable:
        print_warnings([f"no key is read from DATABASE_URL: {context().keys.unusable}"])


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
def revoke(key_id: str) -> None:
    """Revoke a key. Running servers refuse it within 5 seconds."""
    _refuse_given(key_id)
    store = context().keys.store()
    key = store.key(key_id)
    store.change(ended(key))
    click.echo(f"{key.id} ({key.name}) is revoked")


@keys.command("rotate")
@click.argument("key_id", metavar="ID")
@_duration("--overlap", "The old key holds for this time, such as 1h; by default it is revoked at once.")
def rotate(key_id: str, overlap: int | None) -> None:
    """Make a key with the same name, scopes, models and lifetime in place of another, and print it."""
    _refuse_given(key_id)
    store = context().keys.store()
    old = store.key(key_id)
    if (state := old.state(time.time())) != "valid":
        raise click.ClickException(f"{old.id} is {state}: make a new key with flask keys create")
    key, stored = remade(old, context().settings.key_secret)
    store.add(stored, instead_of=ended(old, overlap or 0))
    click.echo(f"{old.id} holds until {_day(int(time.time()) + overlap)}" if overlap else f"{old.id} is revoked")
    _print_key(key, stored)


def _refuse_given(key_id: str) -> None:
    if key_id in {key.id for key in context().keys.given}:
        raise click.ClickException(f"{key_id} is in RETORT_API_KEYS: remove its entry there, and restart the servers")


def _print_key(key: str, stored: StoredKey) -> None:
    """Print the key as the last word, so that a script can take it."""
    models = "all models" if stored.models is None else ", ".join(sorted(stored.models))
    ends = "" if stored.expires_at is None else f", until {_day(stored.expires_at)}"
    click.echo(f"{stored.id} ({stored.name}): {', '.join(sorted(stored.scopes))}; {models}{ends}")
    click.echo(f"The key, which is not shown again: {key}")


def _day(at_s: int | None) -> str:
    return "-" if at_s is None else time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at_s))
