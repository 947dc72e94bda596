"""Every request of the wire contract as a value: what is sent, and what its answer is read into.

Nothing is sent here. Called by client.py and async_client.py, which send them.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

from datagen.client import results
from datagen.client.results import (
    Attachment,
    Dataset,
    Delivery,
    Derived,
    FileEntry,
    Job,
    Key,
    Model,
    Page,
    Plan,
    Preview,
    Revocation,
    Sample,
    Schedule,
    SignOff,
    Source,
    Training,
    Usage,
    Validation,
    Version,
    Webhook,
)
from datagen.errors import InputError
from datagen.recipe import RecipeDocument, canonical_json, recipe_digest_of
from datagen.training.model_recipe import ModelRecipe

T = TypeVar("T")

PAGE_LIMIT = 200
IDEMPOTENCY_KEY = "Idempotency-Key"

_VERSION = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]{0,62})(?:@v?(?P<version>[1-9][0-9]{0,8}))?")


@dataclass(frozen=True)
class Call(Generic[T]):
    """kind: what the answer is read into; None where nothing is answered, bytes as they come.

    is_repeatable: sending it twice does what sending it once does. path: below /v1.
    """

    method: str
    path: str
    kind: Any
    is_repeatable: bool = True
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None

    def read(self, answer: bytes) -> T:
        if self.kind is bytes or self.kind is None:
            return answer if self.kind is bytes else None  # type: ignore[return-value]
        value: T = results.read_json(self.kind, answer)
        return value


def next_page(call: Call[Page[T]], page: Page[T]) -> Call[Page[T]] | None:
    if page.next_cursor is None:
        return None
    return replace(call, query={**call.query, "cursor": page.next_cursor})


def get(path: str, kind: Any, query: Mapping[str, Any] | None = None) -> Call[Any]:
    return Call("GET", path, kind, query=query_of(query or {}))


def get_pages(path: str, kind: Any, query: Mapping[str, Any] | None = None) -> Call[Page[Any]]:
    wanted = {"limit": PAGE_LIMIT, **(query or {})}
    return Call("GET", path, Page[kind], query=query_of(wanted))


def send(
    method: str,
    path: str,
    kind: Any,
    content: Any = None,
    *,
    is_repeatable: bool = False,
    key: str | None = None,
) -> Call[Any]:
    """content: sent as JSON. key: an Idempotency-Key, which makes the call repeatable."""
    headers = {} if content is None else {"Content-Type": "application/json"}
    if key is not None:
        headers[IDEMPOTENCY_KEY] = check_key(key)
    body = None if content is None else json.dumps(content, ensure_ascii=False).encode()
    return Call(method, path, kind, is_repeatable or key is not None, headers=headers, body=body)


def part(name: str | int) -> str:
    """One part of a path, whatever is in it."""
    text = quote(str(name), safe="@")
    if not text or set(text) == {"."}:
        raise InputError(f"{str(name)!r}: expected a name or an id")
    return text


def query_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Without what is not asked for."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
        if value is not None
    }


def json_digest(content: Any) -> str:
    return recipe_digest_of(canonical_json(content))


def check_key(key: str) -> str:
    if not 1 <= len(key) <= 255 or not all("!" <= letter <= "~" for letter in key):
        raise InputError(
            f"idempotency key {key[:80]!r}: expected 1 to 255 visible ASCII characters"
        )
    return key


# --- recipes and jobs -----------------------------------------------------------------------------


def validate(text: bytes) -> Call[Validation]:
    """text: YAML or JSON, so that the answer can name lines."""
    headers = {"Content-Type": "application/yaml"}
    return Call("POST", "/recipes/validate", Validation, headers=headers, body=text)


def plan(document: RecipeDocument) -> Call[Plan]:
    content = {"recipe": document.recipe.to_json()}
    return send("POST", "/recipes/plan", Plan, content, is_repeatable=True)


def submit(document: RecipeDocument, *, key: str | None, priority: str | None) -> Call[Job]:
    """key: None derives it from the recipe and the priority, which are what is sent."""
    content: dict[str, Any] = {"recipe": document.recipe.to_json()}
    if priority is not None:
        content["priority"] = priority
    used = "recipe-" + json_digest(content) if key is None else key
    return send("POST", "/jobs", Job, content, key=used)


def again(call: Call[T], job: Job | Training) -> Call[T]:
    """The submission that follows one whose job is over: the same from everywhere."""
    key = "recipe-" + json_digest([call.headers[IDEMPOTENCY_KEY], job.id])
    return replace(call, headers={**call.headers, IDEMPOTENCY_KEY: key})


def job(job_id: str) -> Call[Job]:
    return get(f"/jobs/{part(job_id)}", Job)


def job_report(job_id: str) -> Call[bytes]:
    return get(f"/jobs/{part(job_id)}/report", bytes)


def job_evaluation(job_id: str) -> Call[dict[str, Any]]:
    return get(f"/jobs/{part(job_id)}/evaluation", dict[str, Any])


def jobs(
    *,
    state: str | None,
    name: str | None,
    created_after: str | None,
    created_before: str | None,
) -> Call[Page[Job]]:
    filters = {
        "state": state,
        "name": name,
        "created_after": created_after,
        "created_before": created_before,
    }
    return get_pages("/jobs", Job, filters)


def cancel(job_id: str) -> Call[Job]:
    return send("POST", f"/jobs/{part(job_id)}/cancel", Job, is_repeatable=True)


def retry(job_id: str) -> Call[Job]:
    return send("POST", f"/jobs/{part(job_id)}/retry", Job)


def restart(job_id: str) -> Call[Job]:
    return send("POST", f"/jobs/{part(job_id)}/restart", Job)


def set_priority(job_id: str, priority: str) -> Call[Job]:
    content = {"priority": priority}
    return send("PATCH", f"/jobs/{part(job_id)}", Job, content, is_repeatable=True)


def top_up(job_id: str, classes: Mapping[str, int], *, key: str | None) -> Call[Job]:
    """classes: name -> its new count."""
    path, content = f"/jobs/{part(job_id)}/top-up", {"classes": dict(classes)}
    used = key or "top-up-" + json_digest({"job": job_id, **content})
    return send("POST", path, Job, content, key=used)


def start_preview(document: RecipeDocument) -> Call[Job]:
    """The same recipe has one preview, so that asking twice makes no second one."""
    content = {"recipe": document.recipe.to_json()}
    return send("POST", "/previews", Job, content, is_repeatable=True)


def preview(job_id: str) -> Call[Preview]:
    return get(f"/previews/{part(job_id)}", Preview)


def discard_preview(job_id: str) -> Call[None]:
    return send("DELETE", f"/previews/{part(job_id)}", None, is_repeatable=True)


# --- data sets ------------------------------------------------------------------------------------


def datasets() -> Call[Page[Dataset]]:
    return get_pages("/datasets", Dataset)


def versions(name: str) -> Call[Page[Version]]:
    return get_pages(f"/datasets/{part(name)}/versions", Version)


def version_path(text: str) -> str:
    """NAME@2 => /datasets/NAME/versions/2; NAME => .../latest. Raises InputError."""
    match = _VERSION.fullmatch(text)
    if match is None:
        raise InputError(f"data set {text!r}: expected NAME or NAME@VERSION, such as fashion@2")
    return f"/datasets/{match['name']}/versions/{match['version'] or 'latest'}"


def version(text: str) -> Call[Version]:
    return get(version_path(text), Version)


def manifest(text: str) -> Call[bytes]:
    """As published, byte for byte: its sha256 is the version's manifest_sha256."""
    return get(version_path(text) + "/manifest", bytes)


def samples(
    text: str,
    *,
    class_name: str | None,
    split: str | None,
    model: str | None,
    min_score: str | None,
    max_score: str | None,
) -> Call[Page[Sample]]:
    filters = {
        "class_name": class_name,
        "split": split,
        "model": model,
        "min_score": min_score,
        "max_score": max_score,
    }
    return get_pages(version_path(text) + "/samples", Sample, filters)


def files(text: str, *, use: str | None = None) -> Call[tuple[FileEntry, ...]]:
    return get(version_path(text) + "/files", tuple[FileEntry, ...], {"use": use})


def object_path(text: str, path: str, *, use: str | None = None) -> str:
    query = "" if use is None else "?" + urlencode({"use": use})
    return f"{version_path(text)}/objects/{quote(path)}{query}"


def attachments(text: str) -> Call[tuple[Attachment, ...]]:
    return get(version_path(text) + "/attachments", tuple[Attachment, ...])


def attached(text: str, attachment: Attachment) -> Call[bytes]:
    return get(object_path(text, attachment.object), bytes)


def evaluation(text: str) -> Call[dict[str, Any]]:
    return get(version_path(text) + "/evaluation", dict[str, Any])


def approvals(text: str) -> Call[tuple[SignOff, ...]]:
    return get(version_path(text) + "/approvals", tuple[SignOff, ...])


def approve(
    text: str, state: str, *, use: str, until: datetime.date | None, note: str
) -> Call[SignOff]:
    content: dict[str, Any] = {"state": state, "use": use, "note": note}
    if until is not None:
        content["until"] = until.isoformat()
    return send("POST", version_path(text) + "/approvals", SignOff, content)


def refilter(
    text: str,
    *,
    options: Mapping[str, Any],
    marks: bytes | None,
    drop_flagged: bool,
    key: str | None,
) -> Call[Job]:
    """key: None derives it from the version and the changes."""
    content: dict[str, Any] = {"set": dict(options), "drop_flagged": drop_flagged}
    if marks is not None:
        content["marks"] = json.loads(marks)
    path = version_path(text) + "/refilter"
    used = "refilter-" + json_digest([path, content]) if key is None else key
    return send("POST", path, Job, content, key=used)


def diff(before: str, after: str) -> Call[dict[str, Any]]:
    name, _, number = after.partition("@")
    if name != before.partition("@")[0]:
        raise InputError(f"{before} and {after}: a service compares versions of one data set")
    return get(version_path(before) + "/diff", dict[str, Any], {"against": number or "latest"})


def deprecate(text: str, reason: str) -> Call[Version]:
    path = version_path(text) + "/deprecate"
    return send("POST", path, Version, {"reason": reason}, is_repeatable=True)


def revoke(text: str, reason: str, *, dry_run: bool) -> Call[Revocation]:
    content = {"reason": reason, "dry_run": dry_run}
    path = version_path(text) + "/revoke"
    return send("POST", path, Revocation, content, is_repeatable=True)


def lineage(kind: str, *names: str) -> Call[dict[str, Any]]:
    """kind: models NAME, samples DATASET VERSION KEY, or sources SHA256."""
    return get("/".join(["/lineage", part(kind), *map(part, names)]), dict[str, Any])


def revoke_source(sha256: str, reason: str, *, dry_run: bool) -> Call[Revocation]:
    content = {"reason": reason, "dry_run": dry_run}
    path = f"/lineage/sources/{part(sha256)}/revoke"
    return send("POST", path, Revocation, content, is_repeatable=True)


# --- models, sources, schedules, webhooks, keys ---------------------------------------------------


def models() -> Call[Page[Model]]:
    return get_pages("/models", Model)


def model(name: str) -> Call[Model]:
    return get(f"/models/{part(name)}", Model)


def deprecate_model(name: str, reason: str) -> Call[Model]:
    path = f"/models/{part(name)}/deprecate"
    return send("POST", path, Model, {"reason": reason}, is_repeatable=True)


def revoke_model(name: str, reason: str, *, dry_run: bool) -> Call[Revocation]:
    content = {"reason": reason, "dry_run": dry_run}
    path = f"/models/{part(name)}/revoke"
    return send("POST", path, Revocation, content, is_repeatable=True)


def sources() -> Call[Page[Source]]:
    return get_pages("/sources", Source)


def source(name: str) -> Call[Source]:
    return get(f"/sources/{part(name)}", Source)


def register_source(
    name: str,
    location: str,
    *,
    licence: str,
    permitted_use: str,
    permitted_uses: Sequence[str],
    consent: str,
    contact: str,
    expires_on: datetime.date | None,
    description: str | None,
    format: str,
    allow_synthetic: bool,
) -> Call[Source]:
    """The same images under the same terms stay what they are."""
    content = {
        "name": name,
        "location": location,
        "licence": licence,
        "permitted_use": permitted_use,
        "permitted_uses": list(permitted_uses),
        "consent": consent,
        "contact": contact,
        "expires_on": None if expires_on is None else expires_on.isoformat(),
        "description": name if description is None else description,
        "format": format,
        "allow_synthetic": allow_synthetic,
    }
    return send("POST", "/sources", Source, content, is_repeatable=True)


def withdraw_source(name: str, reason: str, *, dry_run: bool) -> Call[Derived]:
    content = {"reason": reason, "dry_run": dry_run}
    path = f"/sources/{part(name)}/withdraw"
    return send("POST", path, Derived, content, is_repeatable=True)


def submit_training(text: bytes, recipe: ModelRecipe, *, key: str | None) -> Call[Training]:
    """text: is sent as it is, so that faults have lines. key: None derives it from the recipe."""
    written = recipe.model_dump(mode="json", exclude_unset=True)
    used = "training-" + json_digest(written) if key is None else key
    headers = {"Content-Type": "application/yaml", IDEMPOTENCY_KEY: check_key(used)}
    return Call("POST", "/trainings", Training, headers=headers, body=text)


def trainings(*, state: str | None, name: str | None) -> Call[Page[Training]]:
    return get_pages("/trainings", Training, {"state": state, "name": name})


def training(training_id: str) -> Call[Training]:
    return get(f"/trainings/{part(training_id)}", Training)


def cancel_training(training_id: str) -> Call[Training]:
    path = f"/trainings/{part(training_id)}/cancel"
    return send("POST", path, Training, is_repeatable=True)


def retry_training(training_id: str) -> Call[Training]:
    return send("POST", f"/trainings/{part(training_id)}/retry", Training)


def schedules() -> Call[Page[Schedule]]:
    return get_pages("/schedules", Schedule)


def schedule(schedule_id: str) -> Call[Schedule]:
    return get(f"/schedules/{part(schedule_id)}", Schedule)


def create_schedule(
    document: RecipeDocument,
    *,
    name: str,
    cron: str,
    timezone: str,
    new_seed: bool,
    priority: str | None,
) -> Call[Schedule]:
    content = {
        "name": name,
        "cron": cron,
        "timezone": timezone,
        "recipe": document.recipe.to_json(),
        "new_seed": new_seed,
    }
    if priority is not None:
        content["priority"] = priority
    return send("POST", "/schedules", Schedule, content)


def pause_schedule(schedule_id: str, *, paused: bool) -> Call[Schedule]:
    path = f"/schedules/{part(schedule_id)}"
    return send("PATCH", path, Schedule, {"paused": paused}, is_repeatable=True)


def delete_schedule(schedule_id: str) -> Call[None]:
    return send("DELETE", f"/schedules/{part(schedule_id)}", None, is_repeatable=True)


def webhooks() -> Call[Page[Webhook]]:
    return get_pages("/webhooks", Webhook)


def create_webhook(url: str, events: Sequence[str]) -> Call[Webhook]:
    return send("POST", "/webhooks", Webhook, {"url": url, "events": list(events)})


def delete_webhook(webhook_id: str) -> Call[None]:
    return send("DELETE", f"/webhooks/{part(webhook_id)}", None, is_repeatable=True)


def deliveries(webhook_id: str) -> Call[Page[Delivery]]:
    return get_pages(f"/webhooks/{part(webhook_id)}/deliveries", Delivery)


def redeliver(webhook_id: str, delivery_id: int) -> Call[Delivery]:
    path = f"/webhooks/{part(webhook_id)}/deliveries/{part(delivery_id)}/redeliver"
    return send("POST", path, Delivery)


def keys() -> Call[Page[Key]]:
    return get_pages("/keys", Key)


def create_key(name: str, scopes: Sequence[str], *, expires_in_days: int | None) -> Call[Key]:
    content: dict[str, Any] = {"name": name, "scopes": list(scopes)}
    if expires_in_days is not None:
        content["expires_in_days"] = expires_in_days
    return send("POST", "/keys", Key, content)


def revoke_key(key_id: str) -> Call[None]:
    return send("DELETE", f"/keys/{part(key_id)}", None, is_repeatable=True)


def usage() -> Call[Usage]:
    return get("/usage", Usage)
