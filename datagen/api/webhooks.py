"""Webhooks: who is told of what happens, and what was sent to whom. For administrators: the
addresses of receivers are often secrets."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Response
from pydantic import AfterValidator, BaseModel, Field

from datagen.api.dependencies import Admin, Context, audit
from datagen.api.job_view import optional_time, time_text
from datagen.api.paging import Page, Paging
from datagen.api.problems import field_problem, problem_responses
from datagen.api.recipe_body import Body
from datagen.catalog.webhooks import (
    Delivery,
    Webhook,
    create_webhook,
    delete_webhook,
    get_webhook,
    list_deliveries,
    list_webhooks,
    redeliver,
)
from datagen.webhooks import (
    MAX_URL_LENGTH,
    TargetError,
    new_secret,
    parse_target,
    resolve_host,
    vetted_addresses,
)

_LOOK_UP_TIMEOUT_S = 5.0

WebhookId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="32 hex digits")]
DeliveryId = Annotated[int, Path(ge=1, lt=2**63)]
EventType = Literal[
    "job.published",
    "job.failed",
    "job.cancelled",
    "dataset.revoked",
    "dataset.approved",
    "dataset.withdrawn",
    "training.published",
    "training.failed",
    "training.cancelled",
    "*",
]


def _check_url(url: str) -> str:
    parse_target(url)
    return url


class WebhookRequest(Body):
    url: Annotated[str, Field(max_length=MAX_URL_LENGTH), AfterValidator(_check_url)] = Field(
        description="http or https, of a public host; redirects are not followed",
        examples=["https://example.com/hooks/datagen"],
    )
    events: list[EventType] = Field(min_length=1, max_length=5, description="* is all of them")


class WebhookView(BaseModel):
    """disabled_at: since when nothing is sent, because the receiver answered 410."""

    id: str
    url: str
    events: list[EventType]
    created_at: str
    disabled_at: str | None


class NewWebhookView(WebhookView):
    """secret: of the signatures; shown here and never again."""

    secret: str


class DeliveryView(BaseModel):
    """state: PENDING until it is DELIVERED, or FAILED after the last of its tries."""

    id: int
    event_id: str
    event_type: str
    state: Literal["PENDING", "DELIVERED", "FAILED"]
    tries: int
    next_at: str | None
    last_status: int | None
    last_error: str | None
    created_at: str
    delivered_at: str | None
    body: dict[str, Any]


def router() -> APIRouter:
    routes = APIRouter(prefix="/webhooks", tags=["webhooks"])
    _add_webhooks(routes)
    _add_deliveries(routes)
    return routes


def _add_webhooks(routes: APIRouter) -> None:
    @routes.get("")
    def list_all_webhooks(context: Admin, page: Paging) -> Page[WebhookView]:
        after = page.after(context.tenant, "webhooks", (str,))
        found = list_webhooks(
            context.catalog, limit=page.limit + 1, after_id=str(after[0]) if after else None
        )
        last = found[page.limit - 1].id if len(found) > page.limit else None
        items = [_view(webhook) for webhook in found]
        return page.page(items, context.tenant, "webhooks", None if last is None else [last])

    @routes.post("", status_code=201, responses=problem_responses(429))
    def make_webhook(context: Admin, body: WebhookRequest, response: Response) -> NewWebhookView:
        """Messages are signed as the Standard Webhooks specification says."""
        _check_target(context, body.url)
        webhook = create_webhook(
            context.catalog,
            url=body.url,
            secret=new_secret(),
            events=list(dict.fromkeys(body.events)),
            created_by=context.principal.actor,
        )
        audit(context, "webhook.create", webhook.id, {"events": list(webhook.events)})
        response.headers["Location"] = f"/v1/webhooks/{webhook.id}"
        return NewWebhookView(**_view(webhook).model_dump(), secret=webhook.secret)

    @routes.get("/{webhook_id}")
    def read_webhook(context: Admin, webhook_id: WebhookId) -> WebhookView:
        return _view(get_webhook(context.catalog, webhook_id))

    @routes.delete("/{webhook_id}", status_code=204)
    def remove_webhook(context: Admin, webhook_id: WebhookId) -> None:
        """With its delivery log; what is still owed is not sent."""
        delete_webhook(context.catalog, webhook_id)
        audit(context, "webhook.delete", webhook_id, {})


def _add_deliveries(routes: APIRouter) -> None:
    @routes.get("/{webhook_id}/deliveries")
    def list_all_deliveries(
        context: Admin, webhook_id: WebhookId, page: Paging
    ) -> Page[DeliveryView]:
        """Newest first."""
        scope = f"deliveries/{webhook_id}"
        after = page.after(context.tenant, scope, (int,))
        found = list_deliveries(
            context.catalog,
            webhook_id,
            limit=page.limit + 1,
            before_id=int(after[0]) if after else None,
        )
        last = found[page.limit - 1].id if len(found) > page.limit else None
        items = [_delivery_view(delivery) for delivery in found]
        return page.page(items, context.tenant, scope, None if last is None else [last])

    @routes.post(
        "/{webhook_id}/deliveries/{delivery_id}/redeliver",
        status_code=202,
        responses=problem_responses(409),
    )
    def deliver_again(
        context: Admin, webhook_id: WebhookId, delivery_id: DeliveryId
    ) -> DeliveryView:
        """One that was delivered or has failed is sent once more, under the same webhook-id."""
        delivery = redeliver(context.catalog, webhook_id, delivery_id)
        audit(context, "webhook.redeliver", webhook_id, {"delivery": delivery_id})
        return _delivery_view(delivery)


def _check_target(context: Context, url: str) -> None:
    """Sending checks again: what a name resolves to may change."""
    networks = context.settings.webhook_networks
    try:
        vetted_addresses(parse_target(url), resolve_host, networks, timeout_s=_LOOK_UP_TIMEOUT_S)
    except TargetError as error:
        raise field_problem("url", url, f"a host that may be reached: {error}") from None


def _view(webhook: Webhook) -> WebhookView:
    return WebhookView(
        id=webhook.id,
        url=webhook.url,
        events=list(webhook.events),  # type: ignore[arg-type]  # pydantic checks them
        created_at=time_text(webhook.created_at),
        disabled_at=optional_time(webhook.disabled_at),
    )


def _delivery_view(delivery: Delivery) -> DeliveryView:
    return DeliveryView(
        id=delivery.id,
        event_id=delivery.event_id,
        event_type=delivery.event_type,
        state=delivery.state,  # type: ignore[arg-type]
        tries=delivery.tries,
        next_at=optional_time(delivery.next_at),
        last_status=delivery.last_status,
        last_error=delivery.last_error,
        created_at=time_text(delivery.created_at),
        delivered_at=optional_time(delivery.delivered_at),
        body=json.loads(delivery.body),
    )
