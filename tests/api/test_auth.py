"""Who may do what: keys of every kind, tokens of a real provider, and what is audited."""

from __future__ import annotations

import hmac
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from datagen.api.auth import NOBODY, Authenticator
from datagen.catalog.audit import list_audit, verify_chain
from datagen.catalog.keys import find_key, revoke_key
from datagen.errors import AuthError
from datagen.settings import Settings
from tests.api.conftest import ACME, Api, run_api

NEVER_MADE = f"dg_{'0' * 16}_{'x' * 43}"


def refusals(api: Api, tenant: str = ACME) -> list[tuple[str, str]]:
    rows = list_audit(api.catalog.of(tenant), limit=50)
    return [(row.action, json.loads(row.detail).get("reason", "")) for row in reversed(rows)]


def test_without_a_key_nothing_is_told(api: Api) -> None:
    with api.client() as client:
        for path in ("/jobs", "/keys", "/metrics", "/nothing"):
            response = client.get(path)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["type"] == "urn:datagen:problem:unauthorized"


def test_whoever_has_no_key_is_answered_before_the_body(api: Api) -> None:
    with api.client() as client:
        response = client.post("/jobs", content=b"{", headers={"Content-Type": "application/json"})
    assert response.status_code == 401


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Basic abc", "Bearer a.b.c", "Bearer dg_x_y", "dg_x"]
)
def test_what_is_no_key_is_refused(api: Api, header: str) -> None:
    with api.client() as client:
        assert client.get("/jobs", headers={"Authorization": header}).status_code == 401


def test_unknown_expired_and_revoked_keys_are_refused_alike_and_audited(any_api: Api) -> None:
    api = any_api
    good = api.key("read", name="good")
    expired = api.key("read", name="expired", expires_in_s=-1.0)
    revoked = api.key("read", name="revoked")
    revoke_key(api.catalog, revoked.split("_")[1])
    wrong_secret = f"{good.rsplit('_', 1)[0][:19]}_{'y' * 43}"
    details = set()
    for key in (expired, revoked, wrong_secret, NEVER_MADE):
        with api.client(key) as client:
            response = client.get("/jobs")
        assert response.status_code == 401
        details.add(response.json()["detail"])
    assert len(details) == 1, "the answer must not tell which it was"
    refused = [("auth.refused", reason) for reason in ("expired", "revoked", "unknown")]
    assert refusals(api) == refused
    assert refusals(api, NOBODY) == [("auth.refused", "unknown")]
    assert verify_chain(api.catalog, ACME).broken_at is None


def test_a_secret_is_compared_in_constant_time_even_if_the_key_is_unknown(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is compared, and that it is: the time itself is no matter for a test."""
    compared: list[tuple[str, str]] = []
    real = hmac.compare_digest

    def watch(a: str, b: str) -> bool:
        compared.append((a, b))
        return real(a, b)

    monkeypatch.setattr("datagen.api.auth.hmac.compare_digest", watch)
    authenticator = Authenticator(api.catalog, api.settings)
    for credential in (NEVER_MADE, "no key at all"):
        with pytest.raises(AuthError):
            authenticator.authenticate(f"Bearer {credential}", target="GET /x")
    assert [len(a) == len(b) == 64 for a, b in compared] == [True, True]


def test_a_secret_is_not_in_the_database(api: Api) -> None:
    key = api.key("read")
    row = find_key(api.catalog, key.split("_")[1])
    assert row is not None
    assert key[20:] not in repr(row)
    api.catalog.engine.dispose()
    raw = b"".join(path.read_bytes() for path in api.settings.home.glob("catalog.sqlite3*"))
    assert key[20:].encode() not in raw


@pytest.mark.parametrize(
    ("scope", "method", "path", "needs"),
    [
        ("read", "POST", "/jobs", "submit"),
        ("read", "POST", "/previews", "submit"),
        ("read", "GET", "/keys", "admin"),
        ("submit", "POST", "/keys", "admin"),
        ("submit", "GET", "/audit", "admin"),
        ("submit", "GET", "/metrics", "admin"),
    ],
)
def test_a_scope_that_does_not_reach_is_forbidden_and_audited(
    api: Api, scope: str, method: str, path: str, needs: str
) -> None:
    with api.client(api.key(scope)) as client:
        body = {"recipe": {}, "name": "x", "scopes": ["read"]}
        response = client.request(method, path, json=body if method == "POST" else None)
    assert response.status_code == 403
    assert response.json()["type"] == "urn:datagen:problem:forbidden"
    (row,) = list_audit(api.catalog.of(ACME), limit=5)
    assert (row.action, row.target) == ("auth.forbidden", f"{method} /v1{path}")
    assert json.loads(row.detail)["needs"] == needs


def test_a_scope_implies_the_lesser_ones(api: Api) -> None:
    with api.client(api.key("admin")) as client:
        assert client.get("/jobs").status_code == 200
    with api.client(api.key("submit")) as client:
        assert client.get("/jobs").status_code == 200


def test_a_revoked_key_opens_nothing_from_the_next_request_on(api: Api) -> None:
    key = api.key("read")
    with api.client(key) as client:
        assert client.get("/jobs").status_code == 200
        assert api.acme.delete(f"/keys/{key.split('_')[1]}").status_code == 204
        assert client.get("/jobs").status_code == 401


# --- tokens ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Provider:
    """An OpenID provider that serves the public key; `token` signs."""

    issuer: str
    private_key: rsa.RSAPrivateKey

    def token(self, **changes: Any) -> str:
        now = time.time()
        claims = {
            "iss": self.issuer,
            "aud": "datagen",
            "sub": "ci",
            "exp": now + 60,
            "tenant": ACME,
            "scope": "openid read",
        }
        claims |= changes
        kept = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(kept, self.private_key, algorithm="RS256", headers={"kid": "one"})


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(private_key.public_key()))
    answer = json.dumps({"keys": [public | {"kid": "one", "use": "sig", "alg": "RS256"}]}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Provider(f"http://127.0.0.1:{server.server_address[1]}", private_key)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def oidc_api(settings: Settings, provider: Provider) -> Iterator[Api]:
    jwks = f"{provider.issuer}/jwks.json"
    changed = replace(
        settings, oidc_issuer=provider.issuer, oidc_audience="datagen", oidc_jwks_url=jwks
    )
    with run_api(changed) as running:
        yield running


def test_a_token_of_the_provider_is_a_key(oidc_api: Api, provider: Provider) -> None:
    oidc_api.submit()
    with oidc_api.client(provider.token()) as client:
        assert len(client.get("/jobs").json()["items"]) == 1
        assert client.get("/keys").status_code == 403
    with oidc_api.client(provider.token(tenant="other")) as client:
        assert client.get("/jobs").json()["items"] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1},
        {"exp": None},
        {"iss": "https://elsewhere.example"},
        {"aud": "another"},
        {"aud": None},
        {"sub": None},
        {"tenant": None},
        {"tenant": "../other"},
        {"nbf": 4_000_000_000},
    ],
)
def test_a_token_that_is_not_for_us_is_refused(
    oidc_api: Api, provider: Provider, changes: dict[str, Any]
) -> None:
    with oidc_api.client(provider.token(**changes)) as client:
        assert client.get("/jobs").status_code == 401
    (row,) = list_audit(oidc_api.catalog.of(NOBODY), limit=5)
    assert (row.action, row.actor, row.target) == ("auth.refused", "oidc", "GET /v1/jobs")


def test_a_token_that_somebody_else_signed_is_refused(oidc_api: Api, provider: Provider) -> None:
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    forged = [
        replace(provider, private_key=stranger).token(),
        jwt.encode({"sub": "x"}, None, algorithm="none", headers={"kid": "one"}),
        jwt.encode({"sub": "x"}, "s" * 64, algorithm="HS256", headers={"kid": "one"}),
        "e30.e30.e30",
    ]
    for token in forged:
        with oidc_api.client(token) as client:
            assert client.get("/jobs").status_code == 401


def test_keys_that_cannot_be_fetched_are_a_fault_of_ours(
    settings: Settings, provider: Provider
) -> None:
    changed = replace(
        settings,
        oidc_issuer=provider.issuer,
        oidc_audience="datagen",
        oidc_jwks_url="http://127.0.0.1:9/jwks.json",
    )
    with run_api(changed) as api, api.client(provider.token()) as client:
        response = client.get("/jobs")
        assert response.status_code == 503
        assert response.headers["retry-after"]
