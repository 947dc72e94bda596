"""Who asks: an API key, or a token of an OpenID provider. Answered before a route is looked for and
before a byte of the body is read.

Called by app.py, which puts the Authentication around the app.
"""

from __future__ import annotations

import hmac
import re
from typing import Any

from anyio import to_thread
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from datagen.api.dependencies import SCOPES, Principal
from datagen.api.problems import error_response
from datagen.catalog.audit import append_audit
from datagen.catalog.catalog import Catalog
from datagen.catalog.keys import KeyRow, find_key, hash_of
from datagen.errors import AuthError, DatagenError, RetryableError
from datagen.settings import Settings

PUBLIC_PATHS = frozenset({"/v1/healthz", "/v1/readyz", "/v1/openapi.json"})
# Whose log the refusals of keys that nobody has ever had are written to.
NOBODY = "-"

_KEY = re.compile(r"dg_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_DUMMY_HASH = "0" * 64
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")
_JWKS_TIMEOUT_S = 5
_REMEDY = "send 'Authorization: Bearer dg_...' with a key of `datagen keys create`"


class Authenticator:
    """catalog: of all tenants."""

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self._catalog = catalog
        self._tokens = _TokenReader(settings) if settings.oidc_issuer else None

    def authenticate(self, header: str | None, *, target: str) -> Principal:
        """target: method and path, for the audit log. Raises AuthError, after the refusal of
        whatever looked like a key was audited."""
        scheme, _, credential = (header or "").partition(" ")
        credential = credential.strip()
        if scheme.lower() != "bearer" or not credential:
            raise AuthError(f"this needs a key: {_REMEDY}")
        match = _KEY.fullmatch(credential)
        if match is None and self._tokens is not None and credential.count(".") == 2:
            return self._of_token(self._tokens, credential, target=target)
        key_id, secret = match.groups() if match else ("0" * 16, credential)
        return self._of_key(key_id, secret, target=target)

    def _of_key(self, key_id: str, secret: str, *, target: str) -> Principal:
        """The same work for every refusal: how long it takes says nothing about the key."""
        row = find_key(self._catalog, key_id)
        expected = row.secret_sha256 if row else _DUMMY_HASH
        is_right = hmac.compare_digest(hash_of(secret), expected)
        reason = _refusal(row, is_right=is_right)
        if reason is None and row is not None:
            return Principal(row.tenant, row.id, frozenset(row.scopes))
        self._note(row.tenant if row else NOBODY, key_id, target, str(reason))
        raise AuthError(f"this key is unknown, expired or revoked; {_REMEDY}")

    def _of_token(self, tokens: _TokenReader, token: str, *, target: str) -> Principal:
        try:
            return tokens.read(token)
        except AuthError as error:
            self._note(NOBODY, "oidc", target, str(error))
            raise

    def _note(self, tenant: str, actor: str, target: str, reason: str) -> None:
        append_audit(
            self._catalog,
            tenant=tenant,
            actor=actor,
            action="auth.refused",
            target=target,
            detail={"reason": reason},
        )


def _refusal(row: KeyRow | None, *, is_right: bool) -> str | None:
    """Why, for the audit log; the client is not told which."""
    if row is None or not is_right:
        return "unknown"
    if row.revoked_at is not None:
        return "revoked"
    return "expired" if row.is_expired else None


class _TokenReader:
    """Claims: sub, tenant, and scope (of `read`, `submit`, `admin`, separated by blanks)."""

    def __init__(self, settings: Settings) -> None:
        import jwt

        self._issuer, self._audience = settings.oidc_issuer, settings.oidc_audience
        address = settings.oidc_jwks_url or f"{settings.oidc_issuer}/.well-known/jwks.json"
        self._keys = jwt.PyJWKClient(address, timeout=_JWKS_TIMEOUT_S)

    def read(self, token: str) -> Principal:
        """Raises AuthError, or RetryableError if the provider's keys cannot be fetched."""
        import jwt

        try:
            signing_key = self._keys.get_signing_key_from_jwt(token)
            claims = jwt.decode(
                token,
                signing_key.key,
                algorithms=list(_ALGORITHMS),
                issuer=self._issuer,
                audience=self._audience,
                options={"require": ["exp", "iss", "sub", *(["aud"] if self._audience else [])]},
            )
        except jwt.PyJWKClientConnectionError:
            raise RetryableError(
                "the OpenID provider's keys cannot be fetched; check DATAGEN_OIDC_JWKS_URL"
            ) from None
        except jwt.PyJWTError as error:
            raise AuthError(f"this token is refused: {error}; get a new one") from None
        return _principal_of(claims)


def _principal_of(claims: dict[str, Any]) -> Principal:
    tenant, scope = claims.get("tenant"), claims.get("scope", "")
    if not isinstance(tenant, str) or not _TENANT.fullmatch(tenant):
        raise AuthError("this token names no tenant; the provider must add a claim 'tenant'")
    words = scope.split() if isinstance(scope, str) else []
    scopes = frozenset(word for word in words if word in SCOPES)
    return Principal(tenant, f"oidc:{claims['sub']}"[:63], scopes)


class Authentication:
    """ASGI: puts the principal into the request's state, or answers 401."""

    def __init__(self, app: ASGIApp, *, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PUBLIC_PATHS:
            await self._app(scope, receive, send)
            return
        target = f"{scope['method']} {scope['path']}"
        header = Headers(scope=scope).get("authorization")

        def authenticate() -> Principal:
            return self._authenticator.authenticate(header, target=target)

        try:
            scope["state"]["principal"] = await to_thread.run_sync(authenticate)
        except DatagenError as error:
            response = error_response(error, request_id=scope["state"]["request_id"])
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)
