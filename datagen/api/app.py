"""The service put together: settings in, an ASGI application out.

Built by the server's command and by tests; whoever builds it passes in how workers are woken and
how the broker is pinged, so that nothing here knows of a broker.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache

from fastapi import APIRouter, FastAPI

from datagen import __version__
from datagen.api import (
    audit,
    datasets,
    events,
    evidence,
    health,
    jobs,
    keys,
    lineage,
    metrics,
    models,
    previews,
    recipes,
    refilters,
    schedules,
    sources,
    trainings,
    usage,
    webhooks,
)
from datagen.api.auth import Authentication, Authenticator
from datagen.api.dependencies import Service, Wake
from datagen.api.limits import Limits
from datagen.api.metrics import Latency, Metrics
from datagen.api.openapi import describe
from datagen.api.problems import install, problem_responses
from datagen.catalog.catalog import Catalog
from datagen.settings import Settings
from datagen.store import open_store

_ROUTERS: tuple[Callable[[], APIRouter], ...] = (
    recipes.router,
    jobs.router,
    events.router,
    previews.router,
    datasets.router,
    evidence.router,
    refilters.router,
    lineage.router,
    models.router,
    sources.router,
    trainings.router,
    schedules.router,
    webhooks.router,
    keys.router,
    audit.router,
    usage.router,
    health.router,
    metrics.router,
)
# Open streams, what was looked at a moment ago: of one application each.
_WITH_STATE = frozenset({events.router, health.router, trainings.router})


def create_app(settings: Settings, *, wake: Wake, ping_broker: Callable[[], None]) -> FastAPI:
    """wake(queue, job id, messages) must not raise; ping_broker raises if the broker is away.

    Opens the catalog, which must have its tables, and the store; the app's end closes them.
    """
    catalog = Catalog(settings.database_url, tenant=None)
    store = open_store(settings.store_url, endpoint_url=settings.s3_endpoint_url)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        catalog.close()

    app = FastAPI(
        title="datagen",
        version=__version__,
        summary="Labelled synthetic image data sets: exact, traceable and reproducible.",
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        responses=problem_responses(),
    )
    app.state.service = Service(settings, catalog, store, wake, ping_broker)
    app.state.metrics = Metrics()
    for make_router in _ROUTERS:
        router = make_router() if make_router in _WITH_STATE else _made_once(make_router)
        app.include_router(router, prefix="/v1")
    describe(app)
    install(app)
    # The last added is the outermost.
    app.add_middleware(Authentication, authenticator=Authenticator(catalog, settings))
    app.add_middleware(Latency, metrics=app.state.metrics)
    app.add_middleware(Limits)
    return app


@cache
def _made_once(make_router: Callable[[], APIRouter]) -> APIRouter:
    """For every application of this process: to make all of them takes 0.1 s."""
    return make_router()
