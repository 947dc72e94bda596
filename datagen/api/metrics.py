"""Prometheus: what the catalog knows of queues and work, and how long answers take.

The catalog is asked when the page is scraped: every process of the API shows the same queues.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from datagen.api.dependencies import Admin, service_of
from datagen.catalog.catalog import Catalog
from datagen.catalog.measures import measure_queues, measure_work
from datagen.catalog.trainings import count_trainings

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """What one app counts by itself; nothing is kept in the process's own registry."""

    def __init__(self) -> None:
        self.latency = Histogram(
            "datagen_api_latency_seconds",
            "From the request's arrival to the end of its answer",
            ("method", "route", "status"),
            registry=None,
            buckets=_BUCKETS_S,
        )

    def page(self, catalog: Catalog) -> bytes:
        """catalog: of the tenant that asks, or of all."""
        registry = CollectorRegistry()
        registry.register(_CatalogCollector(catalog))
        registry.register(self.latency)
        return generate_latest(registry)


class _CatalogCollector(Collector):
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def describe(self) -> list[Metric]:
        return []  # or the registry would ask the catalog before it has tables

    def collect(self) -> Iterator[Metric]:
        depth = GaugeMetricFamily(
            "datagen_queue_units", "Units that wait for a worker", labels=["queue"]
        )
        oldest = GaugeMetricFamily(
            "datagen_queue_oldest_seconds", "How long the oldest has waited", labels=["queue"]
        )
        for queue in measure_queues(self._catalog):
            depth.add_metric([queue.queue], queue.num_units)
            oldest.add_metric([queue.queue], queue.oldest_s)
        yield depth
        yield oldest
        yield from self._work()

    def _work(self) -> Iterator[Metric]:
        work = measure_work(self._catalog)
        running = GaugeMetricFamily("datagen_jobs", "Jobs by state", labels=["state"])
        for state, count in work.jobs.items():
            running.add_metric([state], count)
        yield running
        trainings = GaugeMetricFamily(
            "datagen_trainings", "Trainings of models by state", labels=["state"]
        )
        for state, count in count_trainings(self._catalog).items():
            trainings.add_metric([state], count)
        yield trainings
        yield GaugeMetricFamily(
            "datagen_leases_expired", "Units whose worker fell silent", value=work.expired_leases
        )
        claims = CounterMetricFamily("datagen_unit_claims", "Claims of units", value=work.claims)
        yield claims
        yield CounterMetricFamily(
            "datagen_units_redone",
            "Claims beyond the first of a unit",
            value=work.redone,
        )
        made = CounterMetricFamily("datagen_attempts", "Images that a model made", labels=["model"])
        speed = GaugeMetricFamily(
            "datagen_model_images_per_second", "Of one worker, lately", labels=["model"]
        )
        for model in work.models:
            made.add_metric([model.name], model.num_generated)
            if model.images_per_s is not None:
                speed.add_metric([model.name], model.images_per_s)
        yield made
        yield speed
        rejected = GaugeMetricFamily(
            "datagen_rejections", "Attempts that active jobs rejected", labels=["reason"]
        )
        for reason, count in work.rejections.items():
            rejected.add_metric([reason], count)
        yield rejected


class Latency:
    """ASGI: observes every request under its route, not its path, so that labels stay few."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._latency = metrics.latency

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            route = getattr(scope.get("route"), "path", None) or "none"
            labels = (scope["method"] if route != "none" else "any", route, str(status))
            self._latency.labels(*labels).observe(time.perf_counter() - started)


def router() -> APIRouter:
    routes = APIRouter(tags=["service"])

    @routes.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}}},
    )
    def read_metrics(context: Admin, request: Request) -> Response:
        """The operator's own tenant sees the work of all tenants, another its own."""
        service, metrics = service_of(request), request.app.state.metrics
        is_operator = context.tenant == service.settings.tenant
        catalog = service.catalog if is_operator else context.catalog
        return Response(metrics.page(catalog), media_type=CONTENT_TYPE_LATEST)

    return routes
