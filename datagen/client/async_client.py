"""The client for asyncio and trio: what client.py has, to be awaited. Called by users' programs."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import anyio.to_thread
import httpx

from datagen.client import calls
from datagen.client.calls import Call
from datagen.client.client import (
    MAX_RETRIES,
    POLL_S,
    PREVIEW_POLL_S,
    STREAM_PAUSE_S,
    TIMEOUT_S,
    Client,
)
from datagen.client.connection import Connection, open_connection
from datagen.client.event_stream import EventReader, Position
from datagen.client.model_files import open_model_files
from datagen.client.patience import Patience
from datagen.client.problems import ServiceUnavailableError, error_of, unreachable
from datagen.client.recipes import (
    RecipeSource,
    located,
    model_recipe,
    read_recipe,
    text_to_check,
)
from datagen.client.results import (
    CANCELLED,
    FAILED,
    TERMINAL_STATES,
    Attachment,
    Dataset,
    Delivery,
    Derived,
    Event,
    FileEntry,
    Job,
    Key,
    Model,
    Page,
    Plan,
    Preview,
    Progress,
    Pulled,
    Revocation,
    Sample,
    Schedule,
    SignOff,
    Source,
    Training,
    TrainingProgress,
    Usage,
    Validation,
    Version,
    Webhook,
    checked_bytes,
    checked_end,
    checked_preview,
    checked_training,
    newest_report,
    read_json,
)
from datagen.manifest import Manifest

T = TypeVar("T")


class AsyncClient:
    """As Client. Close it with `await client.aclose()`, or use `async with`."""

    def __init__(
        self,
        api_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        max_retries: int = MAX_RETRIES,
    ) -> None:
        self._connection: Connection = open_connection(
            api_url, api_key, timeout_s=timeout_s, max_retries=max_retries
        )
        self._http = httpx.AsyncClient(
            headers=self._connection.headers(), timeout=self._connection.timeout()
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    # --- recipes ----------------------------------------------------------------------------------

    async def validate(self, recipe: RecipeSource) -> Validation:
        """Every fault of a recipe, found by the service; none is raised."""
        return await self._send(calls.validate(text_to_check(recipe)))

    async def plan(self, recipe: RecipeSource) -> Plan:
        document = read_recipe(recipe)
        with located(document):
            return await self._send(calls.plan(document))

    # --- jobs -------------------------------------------------------------------------------------

    async def submit(
        self,
        recipe: RecipeSource,
        *,
        idempotency_key: str | None = None,
        priority: str | None = None,
    ) -> Job:
        """The recipe's job: a new one, or the one that it has already.

        recipe: a path, YAML text, or plain values. idempotency_key: else derived from the recipe,
        so that the same call again, from anywhere, answers with the same job, unless that failed or
        was cancelled: then it is tried again.
        """
        document = read_recipe(recipe)
        call = calls.submit(document, key=idempotency_key, priority=priority)
        with located(document):
            job = await self._send(call)
        while idempotency_key is None and job.state in (FAILED, CANCELLED):
            call = calls.again(call, job)
            job = await self._send(call)
        return job

    async def job(self, job_id: str) -> Job:
        return await self._send(calls.job(job_id))

    async def job_report(self, job_id: str) -> bytes:
        """The newest report, as one HTML page, also of a job that its gates refused."""
        return await self._send(calls.job_report(job_id))

    async def job_evaluation(self, job_id: str) -> dict[str, Any]:
        """The figures of the newest evaluation, also of a job that its gates refused."""
        return await self._send(calls.job_evaluation(job_id))

    def jobs(
        self,
        *,
        state: str | None = None,
        name: str | None = None,
        created_after: str | None = None,
        created_before: str | None = None,
    ) -> AsyncIterator[Job]:
        """Newest first; pages are fetched as they are needed."""
        return self._pages(
            calls.jobs(
                state=state,
                name=name,
                created_after=created_after,
                created_before=created_before,
            )
        )

    async def events(self, job_id: str, *, after: str | None = None) -> AsyncIterator[Event]:
        """Each event once, until the job has ended; a broken connection is taken up where it broke.

        after: the id of the last event seen. Events of type "progress" have no id and may be
        missed.
        """
        path = f"/jobs/{calls.part(job_id)}/events"
        position = Position(after)
        patience = Patience(
            is_repeatable=True,
            max_retries=self._connection.max_retries,
            url=self._connection.url(path),
        )
        while True:
            try:
                async with self._http.stream(
                    "GET",
                    self._connection.url(path),
                    headers=position.headers(),
                    timeout=self._connection.stream_timeout(),
                ) as answer:
                    if answer.is_success:
                        reader = EventReader()
                        async for chunk in answer.aiter_bytes():
                            patience.refresh()
                            for event in reader.feed(chunk):
                                position.note(event)
                                yield event
                        pause_s = None
                    else:
                        body = await answer.aread()
                        pause_s = patience.after_answer(answer.status_code, answer.headers, body)
            except httpx.TransportError as error:
                pause_s = None if position.has_ended else patience.after_failure(error)
            if pause_s is None:
                if position.has_ended or (
                    position.num_new == 0 and (await self.job(job_id)).has_ended
                ):
                    return
                pause_s = STREAM_PAUSE_S
            await anyio.sleep(pause_s)

    async def wait(
        self, job_id: str, *, on_progress: Callable[[Progress], None] = lambda progress: None
    ) -> Job:
        """The job once it is published. Follows its events or, where a proxy lets none through,
        asks again and again. Raises JobError if it failed or was cancelled."""
        while True:
            job = await self.job(job_id)
            if job.progress is not None:
                on_progress(job.progress)
            if job.has_ended:
                return checked_end(job)
            try:
                async for event in self.events(job_id):
                    if event.progress is not None:
                        on_progress(event.progress)
            except ServiceUnavailableError:
                await anyio.sleep(POLL_S)

    async def cancel(self, job_id: str) -> Job:
        """Raises ConflictError once it is being published."""
        return await self._send(calls.cancel(job_id))

    async def retry(self, job_id: str) -> Job:
        """A failed job goes on: its failed units alone are tried again."""
        return await self._send(calls.retry(job_id))

    async def restart(self, job_id: str) -> Job:
        """From the start, under the fingerprint that the service has now."""
        return await self._send(calls.restart(job_id))

    async def set_priority(self, job_id: str, priority: str) -> Job:
        """priority: interactive or batch."""
        return await self._send(calls.set_priority(job_id, priority))

    async def top_up(
        self, job_id: str, classes: Mapping[str, int], *, idempotency_key: str | None = None
    ) -> Job:
        """A job for the grown recipe; what exists is reused. classes: name -> its new count."""
        return await self._send(calls.top_up(job_id, classes, key=idempotency_key))

    # --- previews ---------------------------------------------------------------------------------

    async def preview(self, recipe: RecipeSource) -> Preview:
        """The first 8 images of each class, made now. Raises JobError if they cannot be made.

        The recipe's own job, if it follows, makes the same attempts and finds them in the cache.
        """
        document = read_recipe(recipe)
        with located(document):
            job = await self._send(calls.start_preview(document))
        while True:
            found = await self._send(calls.preview(job.id))
            if found.state in TERMINAL_STATES:
                return checked_preview(found, job)
            await anyio.sleep(PREVIEW_POLL_S)

    async def discard_preview(self, job_id: str) -> None:
        await self._send(calls.discard_preview(job_id))

    # --- data sets --------------------------------------------------------------------------------

    def datasets(self) -> AsyncIterator[Dataset]:
        return self._pages(calls.datasets())

    def versions(self, name: str) -> AsyncIterator[Version]:
        return self._pages(calls.versions(name))

    async def version(self, version: str) -> Version:
        """version: NAME, or NAME@3 for its version 3, here and below."""
        return await self._send(calls.version(version))

    async def manifest(self, version: str) -> Manifest:
        return Manifest.from_bytes(await self._send(calls.manifest(version)))

    def samples(
        self,
        version: str,
        *,
        class_name: str | None = None,
        split: str | None = None,
        model: str | None = None,
        min_score: str | None = None,
        max_score: str | None = None,
    ) -> AsyncIterator[Sample]:
        """In (class, ordinal) order. min_score, max_score: a filter and a bound, as blank:0.2."""
        return self._pages(
            calls.samples(
                version,
                class_name=class_name,
                split=split,
                model=model,
                min_score=min_score,
                max_score=max_score,
            )
        )

    async def files(self, version: str, *, use: str | None = None) -> tuple[FileEntry, ...]:
        """Every object of a version, with an address that works for a short time.

        use: what for; the version must be signed off for it then.
        """
        return await self._send(calls.files(version, use=use))

    async def pull(
        self,
        version: str,
        out: Path | str,
        *,
        layout: str | None = None,
        use: str | None = None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Pulled:
        """Writes a version into a new folder. Given again after a failure, fetches only the rest.

        layout: such as webdataset, imagefolder or coco (docs/formats.md); else the first of the
            recipe's formats.
        use: what for; the version must be signed off for it then. on_progress: images done, and of
        how many. Raises VerifyError if an object was changed.
        """
        with Client(
            self._connection.api_url,
            self._connection.api_key,
            timeout_s=self._connection.timeout_s,
            max_retries=self._connection.max_retries,
        ) as client:
            work = partial(
                client.pull, version, out, layout=layout, use=use, on_progress=on_progress
            )
            return await anyio.to_thread.run_sync(work)

    async def attachments(self, version: str) -> tuple[Attachment, ...]:
        """What was found out about a version, the newest first."""
        return await self._send(calls.attachments(version))

    async def attached(self, version: str, attachment: Attachment) -> bytes:
        """Its bytes. Raises VerifyError if they are not those that were attached."""
        return checked_bytes(await self._send(calls.attached(version, attachment)), attachment)

    async def report(self, version: str) -> Attachment:
        """The newest report. Raises NotFoundError that says how to make one."""
        return newest_report(await self.attachments(version), version)

    async def evaluation(self, version: str) -> dict[str, Any]:
        """The figures of the newest evaluation."""
        return await self._send(calls.evaluation(version))

    async def approvals(self, version: str) -> tuple[SignOff, ...]:
        """Who signed a version off, for what, the newest first."""
        return await self._send(calls.approvals(version))

    async def approve(
        self,
        version: str,
        state: str,
        *,
        use: str,
        until: datetime.date | None = None,
        note: str = "",
    ) -> SignOff:
        """state: reviewed, approved, or draft, which takes back what was signed for the use."""
        return await self._send(calls.approve(version, state, use=use, until=until, note=note))

    async def refilter(
        self,
        version: str,
        *,
        options: Mapping[str, Any] | None = None,
        marks: bytes | None = None,
        drop_flagged: bool = False,
        idempotency_key: str | None = None,
    ) -> Job:
        """A job for the version with other filters; attempts that exist are used as they are.

        options: "blank.min_contrast" -> 0.05, or a filter -> "off". marks: marks.json of a report.
        """
        call = calls.refilter(
            version,
            options=options or {},
            marks=marks,
            drop_flagged=drop_flagged,
            key=idempotency_key,
        )
        job = await self._send(call)
        while idempotency_key is None and job.state in (FAILED, CANCELLED):
            call = calls.again(call, job)
            job = await self._send(call)
        return job

    async def diff(self, before: str, after: str) -> dict[str, Any]:
        """What differs between two versions of one data set."""
        return await self._send(calls.diff(before, after))

    async def deprecate(self, version: str, reason: str) -> Version:
        return await self._send(calls.deprecate(version, reason))

    async def revoke(self, version: str, reason: str, *, dry_run: bool = False) -> Revocation:
        """Takes a version away for ever: its bytes are deleted, its digest is kept.

        dry_run: only tells what would go.
        """
        return await self._send(calls.revoke(version, reason, dry_run=dry_run))

    async def lineage_of_model(self, name: str) -> dict[str, Any]:
        """Everything that a model made."""
        return await self._send(calls.lineage("models", name))

    async def lineage_of_sample(self, version: str, key: str) -> dict[str, Any]:
        """Everything behind an image."""
        name, _, number = version.partition("@")
        return await self._send(calls.lineage("samples", name, number or "latest", key))

    async def lineage_of_source(self, sha256: str) -> dict[str, Any]:
        """Everything that came of training data. sha256: as a model's training names it."""
        return await self._send(calls.lineage("sources", sha256))

    async def revoke_source(self, sha256: str, reason: str, *, dry_run: bool = False) -> Revocation:
        """Training data with every model and version that came of it."""
        return await self._send(calls.revoke_source(sha256, reason, dry_run=dry_run))

    # --- models, sources, schedules, webhooks, keys -----------------------------------------------

    def models(self) -> AsyncIterator[Model]:
        return self._pages(calls.models())

    async def model(self, name: str) -> Model:
        return await self._send(calls.model(name))

    async def register_model(self, name: str, folder: Path | str) -> Model:
        """folder: config.json and, where they are there, model.safetensors and README.md."""
        url = self._connection.url("/models")
        with open_model_files(Path(folder)) as files:
            try:
                answer = await self._http.post(url, data={"name": name}, files=files)
            except httpx.TransportError as error:
                raise unreachable(url, error) from error
        if not answer.is_success:
            raise error_of(answer.status_code, answer.content, url=url)
        registered: Model = read_json(Model, answer.content)
        return registered

    async def deprecate_model(self, name: str, reason: str) -> Model:
        return await self._send(calls.deprecate_model(name, reason))

    async def revoke_model(self, name: str, reason: str, *, dry_run: bool = False) -> Revocation:
        """With everything that it made. dry_run: only tells what would go."""
        return await self._send(calls.revoke_model(name, reason, dry_run=dry_run))

    def sources(self) -> AsyncIterator[Source]:
        """By name and version, withdrawn ones as well; without what was derived from them."""
        return self._pages(calls.sources())

    async def source(self, name: str) -> Source:
        """With all that was derived from it. name: NAME for its newest version, or NAME@VERSION."""
        return await self._send(calls.source(name))

    async def register_source(
        self,
        name: str,
        location: str,
        *,
        licence: str,
        permitted_use: str,
        consent: str,
        contact: str,
        permitted_uses: Sequence[str] = (),
        expires_on: datetime.date | None = None,
        description: str | None = None,
        format: str = "auto",
        allow_synthetic: bool = False,
    ) -> Source:
        """Real images, which the service reads, with their terms; other images or terms are the
        name's next version.

        location: s3://bucket/prefix, or a folder that the service may read. permitted_uses: by
        name. consent: or another legal basis. description: else the name.
        """
        call = calls.register_source(
            name,
            location,
            licence=licence,
            permitted_use=permitted_use,
            permitted_uses=permitted_uses,
            consent=consent,
            contact=contact,
            expires_on=expires_on,
            description=description,
            format=format,
            allow_synthetic=allow_synthetic,
        )
        return await self._send(call)

    async def withdraw_source(self, name: str, reason: str, *, dry_run: bool = False) -> Derived:
        """For ever, with the models trained on it and all that they made; NAME is all versions.
        dry_run: only tells what would go."""
        return await self._send(calls.withdraw_source(name, reason, dry_run=dry_run))

    async def submit_training(
        self, recipe: RecipeSource, *, idempotency_key: str | None = None
    ) -> Training:
        """A model recipe's training: a new one, or the one that it has already; see submit.

        recipe: its images lie where the service reads them, as s3://bucket/prefix does.
        """
        with model_recipe(recipe) as (text, checked):
            call = calls.submit_training(text, checked, key=idempotency_key)
            training = await self._send(call)
            while idempotency_key is None and training.state in (FAILED, CANCELLED):
                call = calls.again(call, training)
                training = await self._send(call)
            return training

    async def training(self, training_id: str) -> Training:
        return await self._send(calls.training(training_id))

    def trainings(
        self, *, state: str | None = None, name: str | None = None
    ) -> AsyncIterator[Training]:
        """Newest first, without recipes. name: of the model."""
        return self._pages(calls.trainings(state=state, name=name))

    async def wait_training(
        self,
        training_id: str,
        *,
        on_progress: Callable[[TrainingProgress], None] = lambda progress: None,
    ) -> Training:
        """The training once its model is there. Raises TrainingError if it failed or was
        cancelled."""
        while True:
            training = await self.training(training_id)
            if training.progress is not None:
                on_progress(training.progress)
            if training.has_ended:
                return checked_training(training)
            await anyio.sleep(POLL_S)

    async def cancel_training(self, training_id: str) -> Training:
        """Raises ConflictError once its model is being registered."""
        return await self._send(calls.cancel_training(training_id))

    async def retry_training(self, training_id: str) -> Training:
        """A failed training goes on from its last checkpoint."""
        return await self._send(calls.retry_training(training_id))

    def schedules(self) -> AsyncIterator[Schedule]:
        return self._pages(calls.schedules())

    async def schedule(self, schedule_id: str) -> Schedule:
        return await self._send(calls.schedule(schedule_id))

    async def create_schedule(
        self,
        name: str,
        *,
        cron: str,
        recipe: RecipeSource,
        timezone: str = "UTC",
        new_seed: bool = True,
        priority: str | None = None,
    ) -> Schedule:
        """new_seed: each fire makes other images. timezone: such as Europe/Berlin."""
        document = read_recipe(recipe)
        call = calls.create_schedule(
            document,
            name=name,
            cron=cron,
            timezone=timezone,
            new_seed=new_seed,
            priority=priority,
        )
        with located(document):
            return await self._send(call)

    async def pause_schedule(self, schedule_id: str) -> Schedule:
        return await self._send(calls.pause_schedule(schedule_id, paused=True))

    async def resume_schedule(self, schedule_id: str) -> Schedule:
        return await self._send(calls.pause_schedule(schedule_id, paused=False))

    async def delete_schedule(self, schedule_id: str) -> None:
        await self._send(calls.delete_schedule(schedule_id))

    def webhooks(self) -> AsyncIterator[Webhook]:
        return self._pages(calls.webhooks())

    async def create_webhook(self, url: str, events: Sequence[str]) -> Webhook:
        """Its secret is shown this once."""
        return await self._send(calls.create_webhook(url, events))

    async def delete_webhook(self, webhook_id: str) -> None:
        await self._send(calls.delete_webhook(webhook_id))

    def deliveries(self, webhook_id: str) -> AsyncIterator[Delivery]:
        return self._pages(calls.deliveries(webhook_id))

    async def redeliver(self, webhook_id: str, delivery_id: int) -> Delivery:
        return await self._send(calls.redeliver(webhook_id, delivery_id))

    def keys(self) -> AsyncIterator[Key]:
        return self._pages(calls.keys())

    async def create_key(
        self, name: str, scopes: Sequence[str], *, expires_in_days: int | None = None
    ) -> Key:
        """The key itself is shown this once."""
        return await self._send(calls.create_key(name, scopes, expires_in_days=expires_in_days))

    async def revoke_key(self, key_id: str) -> None:
        await self._send(calls.revoke_key(key_id))

    async def usage(self) -> Usage:
        """Cost and quota of the tenant."""
        return await self._send(calls.usage())

    # --- sending ----------------------------------------------------------------------------------

    async def _send(self, call: Call[T]) -> T:
        url = self._connection.url(call.path)
        patience = Patience(
            is_repeatable=call.is_repeatable,
            max_retries=self._connection.max_retries,
            url=url,
            has_key=calls.IDEMPOTENCY_KEY in call.headers,
        )
        while True:
            try:
                answer = await self._http.request(
                    call.method,
                    url,
                    params=dict(call.query),
                    headers=dict(call.headers),
                    content=call.body,
                )
            except httpx.TransportError as error:
                pause_s = patience.after_failure(error)
            else:
                if answer.is_success:
                    return call.read(answer.content)
                pause_s = patience.after_answer(answer.status_code, answer.headers, answer.content)
            await anyio.sleep(pause_s)

    async def _pages(self, call: Call[Page[T]]) -> AsyncIterator[T]:
        following: Call[Page[T]] | None = call
        while following is not None:
            page = await self._send(following)
            for item in page.items:
                yield item
            following = calls.next_page(following, page)
