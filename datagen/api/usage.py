"""What the tenant uses and what it costs, beside its quotas."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from datagen.api.dependencies import Reader
from datagen.api.job_view import JobCost
from datagen.catalog.tenants import device_seconds, get_quota, tenant_use
from datagen.usage import cost_of


class QuotaView(BaseModel):
    """null: unlimited."""

    max_running_jobs: int | None
    max_images_per_day: int | None
    max_bytes: int | None


class UsageView(BaseModel):
    """images_last_day: asked for in 24 hours. cost: device seconds of the last 30 days; the bytes
    of now, by the month."""

    tenant: str
    running_jobs: int
    images_last_day: int
    bytes: int
    quota: QuotaView
    cost: JobCost


_MONTH_S = 30 * 86_400.0


def router() -> APIRouter:
    routes = APIRouter(tags=["usage"])

    @routes.get("/usage")
    def read_usage(context: Reader) -> UsageView:
        use = tenant_use(context.catalog, context.tenant)
        quota = get_quota(context.catalog, context.tenant)
        seconds = device_seconds(context.catalog, context.tenant, since_s=_MONTH_S)
        cost = cost_of(context.settings, device_seconds=seconds, num_bytes=use.bytes)
        return UsageView(
            tenant=context.tenant,
            running_jobs=use.running_jobs,
            images_last_day=use.images_last_day,
            bytes=use.bytes,
            quota=QuotaView(
                max_running_jobs=quota.max_running_jobs,
                max_images_per_day=quota.max_images_per_day,
                max_bytes=quota.max_bytes,
            ),
            cost=JobCost(
                device_seconds=cost.device_seconds,
                bytes=cost.bytes,
                amount=cost.amount,
                currency=cost.currency,
            ),
        )

    return routes
