"""Whether the service is alive, and whether what it stands on answers. Called without a key, by
supervisors and load balancers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from datagen.api.dependencies import Service, service_of
from datagen.catalog.schema import has_schema
from datagen.errors import DatagenError

_OK = "ok"
RECENT_S = 1.0


class Health(BaseModel):
    status: Literal["ok"]


class Readiness(BaseModel):
    """Each is "ok", or why it is not."""

    database: str
    store: str
    broker: str


def router() -> APIRouter:
    routes = APIRouter(tags=["service"])

    @routes.get("/healthz")
    def is_alive() -> Health:
        """The process answers; nothing behind it is asked."""
        return Health(status="ok")

    recent = _Recent()

    @routes.get("/readyz", responses={503: {"model": Readiness, "description": "Not ready"}})
    def is_ready(request: Request, response: Response) -> Readiness:
        """Database, store and broker, each asked within the last second."""
        found = recent.look(service_of(request))
        if {found.database, found.store, found.broker} != {_OK}:
            response.status_code = 503
        return found

    return routes


class _Recent:
    """Anybody may ask, and asking the store writes an object: once a second is enough."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: Readiness | None = None
        self._until = 0.0

    def look(self, service: Service) -> Readiness:
        with self._lock:
            if self._found is None or time.monotonic() > self._until:
                self._found = Readiness(
                    database=_state(lambda: _check_database(service)),
                    store=_state(service.store.check),
                    broker=_state(service.ping_broker),
                )
                self._until = time.monotonic() + RECENT_S
            return self._found


def _check_database(service: Service) -> None:
    if not has_schema(service.catalog):
        raise DatagenError("the database has no tables; run the migrations")


def _state(check: Callable[[], None]) -> str:
    """Addresses and passwords may stand in a message: strangers are told what kind it is."""
    try:
        check()
    except DatagenError as error:
        return type(error).__name__
    except Exception as error:  # whatever the broker's client raises
        return type(error).__name__
    return _OK
