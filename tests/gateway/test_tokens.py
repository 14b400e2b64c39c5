"""Tokens of an issuer, which publishes its keys on a loopback server."""

from __future__ import annotations

import functools
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from app.errors import InvalidSettings
from app.gateway import tokens
from app.gateway.credentials import CredentialsRefused
from app.gateway.key_table import KeysUnavailable, key_table
from app.gateway.tokens import IssuerTokens
from app.settings import Settings

AUDIENCE = "retort"
RSA, OTHER, CURVE = "rsa", "other", "curve"
"""Names of private keys."""


@functools.cache
def private(name: str) -> Any:
    """Return a private key, which takes some time to make."""
    return ec.generate_private_key(ec.SECP256R1()) if name == CURVE else rsa.generate_private_key(65537, 2048)


def jwk(key_id: str, public: Any, **members: str) -> dict[str, Any]:
    algorithm: Any = RSAAlgorithm if isinstance(public, rsa.RSAPublicKey) else ECAlgorithm
    algorithm = OKPAlgorithm if isinstance(public, ed25519.Ed25519PublicKey) else algorithm
    return {**json.loads(algorithm.to_jwk(public)), "kid": key_id, "use": "sig", **members}


class Issuer:
    """An issuer of OpenID Connect."""

    def __init__(self) -> None:
        self.keys = [
            jwk("rsa", private(RSA).public_key(), alg="RS256"),
            jwk("curve", private(CURVE).public_key(), alg="ES256"),
        ]
        self.named = ""
        self.asked: list[str] = []
        self.status = 200
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                self.send_response(issuer.status)
                self.send_header("Location", f"{issuer.url}/elsewhere")
                self.end_headers()
                self.wfile.write(json.dumps(issuer.documents().get(self.path)).encode())

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/realms/main"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def documents(self) -> dict[str, Any]:
        configuration = {"issuer": self.named or self.url, "jwks_uri": f"{self.url}/keys"}
        return {
            "/realms/main/.well-known/openid-configuration": configuration,
            "/realms/main/keys": {"keys": self.keys},
        }

    def token(self, key: Any = RSA, key_id: str = "rsa", algorithm: str = "RS256", **claims: Any) -> str:
        now = int(time.time())
        usual = {"iss": self.url, "aud": AUDIENCE, "sub": "ann", "exp": now + 60, "scope": "predict openid"}
        known = {name: value for name, value in {**usual, **claims}.items() if value is not None}
        secret = private(key) if key in (RSA, OTHER, CURVE) else key
        return jwt.encode(known, secret, algorithm, headers={"kid": key_id} if key_id else None)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def running() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.close()


@pytest.fixture
def issuer(running: Issuer) -> Issuer:
    running.__dict__.update(status=200, named="", asked=[], keys=running.keys[:2])
    return running


@pytest.fixture
def checked(issuer: Issuer) -> Iterator[IssuerTokens]:
    made = IssuerTokens(issuer.url, AUDIENCE)
    made.begin()
    yield made
    made.stop()


def test_a_token_names_its_holder_its_scopes_and_its_end(issuer: Issuer, checked: IssuerTokens) -> None:
    expires_at = int(time.time()) + 30
    principal, until = checked.principal(issuer.token(exp=expires_at, aud=["other", AUDIENCE]))
    assert (principal.id, principal.name, principal.scopes, principal.models) == (
        "oidc:ann",
        "ann",
        {"predict", "openid"},
        None,
    )
    assert until == expires_at + tokens.LEEWAY_S
    assert issuer.asked == ["/realms/main/.well-known/openid-configuration", "/realms/main/keys"]


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": None, "scp": "predict admin"}, {"predict", "admin"}),
        ({"scope": None, "scp": ["predict", 7]}, {"predict"}),
        ({"scope": None, "scp": 7}, set()),
        ({"scope": None}, set()),
        ({"scope": {"predict": 1}}, set()),
    ],
)
def test_scopes_are_words_or_a_list(
    issuer: Issuer, checked: IssuerTokens, claims: dict[str, Any], scopes: set[str]
) -> None:
    assert checked.principal(issuer.token(**claims))[0].scopes == scopes


def test_a_key_of_a_curve_counts_too(issuer: Issuer, checked: IssuerTokens) -> None:
    assert checked.principal(issuer.token(CURVE, "curve", "ES256"))[0].name == "ann"


KEY_OF_ALGORITHM: dict[str, Callable[[], Any]] = {
    **dict.fromkeys(("RS384", "RS512", "PS256", "PS384", "PS512"), lambda: private(RSA)),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


@pytest.mark.parametrize("algorithm", KEY_OF_ALGORITHM)
def test_every_asymmetric_algorithm_is_allowed(issuer: Issuer, checked: IssuerTokens, algorithm: str) -> None:
    key = KEY_OF_ALGORITHM[algorithm]()
    issuer.keys.append(jwk("more", key.public_key(), alg=algorithm))
    checked.fetch()
    assert checked.principal(issuer.token(key, "more", algorithm))[0].name == "ann"


def test_keys_may_be_fetched_from_this_machine_without_https(issuer: Issuer) -> None:
    made = IssuerTokens(issuer.url, AUDIENCE, f"{issuer.url}/keys".replace("127.0.0.1", "localhost"))
    made.begin()
    try:
        assert made.principal(issuer.token())[0].name == "ann"
    finally:
        made.stop()


@pytest.mark.parametrize(
    ("url", "failure"), [("http://[::1]:1/keys", "URLError"), ("http://192.0.2.1:1/keys", "ValueError")]
)
def test_no_other_machine_is_asked_without_https(caplog: pytest.LogCaptureFixture, url: str, failure: str) -> None:
    IssuerTokens("https://issuer.example", AUDIENCE, url).fetch()
    assert caplog.messages == [f"the keys of the issuer https://issuer.example cannot be fetched: {failure}"]


def test_the_only_key_of_an_issuer_needs_no_id(
    issuer: Issuer, checked: IssuerTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = {name: value for name, value in issuer.keys[0].items() if name != "kid"}
    monkeypatch.setattr(issuer, "keys", [only])
    checked.fetch()
    assert checked.principal(issuer.token(key_id=""))[0].name == "ann"


def unsigned(issuer: Issuer) -> str:
    return jwt.encode(jwt.decode(issuer.token(), options={"verify_signature": False}), None, "none", {"kid": "rsa"})


def signed_with_the_public_key(issuer: Issuer) -> str:
    """Return a token whose HMAC has the public key as its secret, against libraries that trust its algorithm."""
    return issuer.token(issuer.keys[0]["n"], "rsa", "HS256")


WRONG: dict[str, tuple[Callable[[Issuer], str], str]] = {
    "expired": (lambda issuer: issuer.token(exp=int(time.time()) - 60), "the token has expired"),
    "another audience": (lambda issuer: issuer.token(aud="shop"), "not valid for this server"),
    "no audience": (lambda issuer: issuer.token(aud=None), "not valid for this server"),
    "another issuer": (lambda issuer: issuer.token(iss="https://evil.example"), "not valid for this server"),
    "no end": (lambda issuer: issuer.token(exp=None), "not valid for this server"),
    "no subject": (lambda issuer: issuer.token(sub=None), "not valid for this server"),
    "not yet": (lambda issuer: issuer.token(nbf=int(time.time()) + 60), "not valid for this server"),
    "another key": (lambda issuer: issuer.token(OTHER), "not valid for this server"),
    "an unknown key": (lambda issuer: issuer.token(OTHER, "mine"), "a key that the issuer does not list"),
    "no key id": (lambda issuer: issuer.token(OTHER, ""), "a key that the issuer does not list"),
    "unsigned": (unsigned, "an algorithm that is not allowed"),
    "the public key as a secret": (signed_with_the_public_key, "an algorithm that is not allowed"),
    "another algorithm of the key": (
        lambda issuer: issuer.token(algorithm="RS512"),
        "an algorithm that is not allowed",
    ),
    "cut short": (lambda issuer: issuer.token()[:-5], "not valid for this server"),
    "no JSON": (lambda issuer: "a.b.c", "not valid for this server"),
    "not ASCII": (lambda issuer: issuer.token() + "\xe9", "not valid for this server"),
}


@pytest.mark.parametrize(("make", "message"), WRONG.values(), ids=WRONG)
def test_any_other_token_is_refused(
    issuer: Issuer, checked: IssuerTokens, make: Callable[[Issuer], str], message: str
) -> None:
    with pytest.raises(CredentialsRefused) as raised:
        checked.principal(make(issuer))
    assert message in raised.value.detail
    assert raised.value.name == "key-refused"


def test_an_unknown_key_makes_us_fetch_the_keys_again(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "SOONEST_S", 0.01)
    checked = IssuerTokens(issuer.url, AUDIENCE)
    checked.begin()
    issuer.keys = [*issuer.keys, jwk("new", private(OTHER).public_key(), alg="RS256")]
    token, found, deadline_s = issuer.token(OTHER, "new"), None, time.monotonic() + 10
    while found is None and time.monotonic() < deadline_s:
        try:
            found = checked.principal(token)
        except CredentialsRefused:
            time.sleep(0.005)
    checked.stop()
    assert found is not None


def test_many_unknown_keys_ask_the_issuer_once(issuer: Issuer, checked: IssuerTokens) -> None:
    for number in range(50):
        with pytest.raises(CredentialsRefused):
            checked.principal(issuer.token(OTHER, f"key-{number}"))
    assert len(issuer.asked) == 2


def test_keys_hold_for_a_while_when_the_issuer_is_gone(
    issuer: Issuer, checked: IssuerTokens, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    token = issuer.token()
    issuer.status = 503
    checked.fetch()
    checked.fetch()
    assert checked.principal(token)
    assert caplog.text.count("cannot be fetched") == 1
    monkeypatch.setattr(tokens, "MAX_AGE_S", -1.0)
    with pytest.raises(KeysUnavailable):
        checked.principal(token)


@pytest.mark.parametrize(("status", "named"), [(302, ""), (500, ""), (200, "https://evil.example")])
def test_redirects_errors_and_the_configuration_of_another_issuer_are_not_followed(
    issuer: Issuer, status: int, named: str
) -> None:
    issuer.status, issuer.named = status, named
    checked = IssuerTokens(issuer.url, AUDIENCE)
    checked.begin()
    with pytest.raises(KeysUnavailable):
        checked.principal(issuer.token())
    checked.stop()
    assert len(issuer.asked) == 1


def test_the_place_of_the_keys_can_be_given(issuer: Issuer) -> None:
    checked = IssuerTokens(issuer.url, AUDIENCE, f"{issuer.url}/keys")
    assert checked.principal(issuer.token())
    checked.stop()
    assert issuer.asked == ["/realms/main/keys"]


def test_an_audience_is_needed() -> None:
    with pytest.raises(InvalidSettings, match="RETORT_OIDC_ISSUER needs RETORT_OIDC_AUDIENCE"):
        key_table(Settings(oidc_issuer="https://login.example.org"))


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.gateway.key_table.find_spec", lambda name: None)
    with pytest.raises(InvalidSettings, match=r"pip install 'pyjwt\[crypto\]'"):
        key_table(Settings(oidc_issuer="https://login.example.org", oidc_audience="retort"))


def test_tokens_and_keys_are_distinguished(issuer: Issuer) -> None:
    table = key_table(Settings(oidc_issuer=issuer.url, oidc_audience=AUDIENCE))
    table.source._file = table.source._file.with_name("none")
    assert table.required
    table.begin()
    assert table.find({"HTTP_AUTHORIZATION": f"Bearer {issuer.token()}"})[0].id == "oidc:ann"
    with pytest.raises(CredentialsRefused, match=r"^the key is not valid$"):
        table.find({"HTTP_AUTHORIZATION": "Bearer retort_a"})
    table.close()
