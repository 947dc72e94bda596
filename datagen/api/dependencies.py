"""What every endpoint gets: who asks, and the catalog and store as that tenant sees them.

    @routes.get("/things")
    def list_things(context: Reader, page: Paging) -> Page[Thing]: ...

Called by the routers. auth.py has found out who asks before a route is looked for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Depends, Request, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPBearer

from datagen.catalog.audit import append_audit
from datagen.catalog.catalog import Catalog
from datagen.errors import ForbiddenError
from datagen.settings import Settings
from datagen.store import Store

Scope = Literal["read", "submit", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "submit", "admin")  # each implies those before it

# wake(queue, job id, messages): tells workers that there is work; losing it is harmless.
Wake = Callable[[str, int, int], None]

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    description="An API key, dg_..., or a token of the OpenID provider",
)


@dataclass(frozen=True)
class Principal:
    """Who asks. actor: the key's id, or oidc: and the token's subject."""

    tenant: str
    actor: str
    scopes: frozenset[str]

    def may(self, scope: Scope) -> bool:
        return any(held in self.scopes for held in SCOPES[SCOPES.index(scope) :])


@dataclass(frozen=True)
class Service:
    """What create_app was given, and opened once. catalog: of all tenants."""

    settings: Settings
    catalog: Catalog
    store: Store
    wake: Wake
    ping_broker: Callable[[], None]


@dataclass(frozen=True)
class Context:
    """One request. settings and catalog are the tenant's."""

    settings: Settings
    catalog: Catalog
    store: Store
    wake: Wake
    principal: Principal
    request_id: str

    @property
    def tenant(self) -> str:
        return self.principal.tenant


def service_of(request: Request) -> Service:
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


def require(scope: Scope) -> Callable[..., Awaitable[Context]]:
    """A dependency: the request's context, or 403 (audited) if the key may not do this."""

    async def context(request: Request, _: Annotated[object, Security(_bearer)] = None) -> Context:
        service = service_of(request)
        principal: Principal = request.state.principal
        found = Context(
            settings=service.settings.of(principal.tenant),
            catalog=service.catalog.of(principal.tenant),
            store=service.store,
            wake=service.wake,
            principal=principal,
            request_id=request.state.request_id,
        )
        if not principal.may(scope):
            target = f"{request.method} {request.url.path}"
            await run_in_threadpool(audit, found, "auth.forbidden", target, {"needs": scope})
            raise ForbiddenError(
                f"this key may {' and '.join(sorted(principal.scopes)) or 'do nothing'}; "
                f"{scope!r} is needed: ask an administrator of the tenant for such a key"
            )
        return found

    return context


Reader = Annotated[Context, Depends(require("read"))]
Submitter = Annotated[Context, Depends(require("submit"))]
Admin = Annotated[Context, Depends(require("admin"))]


def audit(context: Context, action: str, target: str, detail: Mapping[str, Any]) -> None:
    """Appends to the tenant's audit log, in a transaction of its own."""
    append_audit(
        context.catalog,
        tenant=context.tenant,
        actor=context.principal.actor,
        action=action,
        target=target,
        detail={**detail, "request_id": context.request_id},
    )
