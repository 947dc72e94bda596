"""The tables. Changed only together with a migration (tests compare the two).

Times are seconds since the epoch by the database's clock. Digests are hex.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    or_,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows automatically only for a column of exactly INTEGER.
_ROW_ID = BigInteger().with_variant(Integer, "sqlite")

models = Table(
    "models",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("name", String(80), nullable=False),
    Column("generator", String(63), nullable=False),
    Column("config", Text, nullable=False),
    Column("seconds_per_image", Float),  # measured by the last units that used it, one worker
    Column("created_at", Float, nullable=False),
)

recipes = Table(
    "recipes",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("name", String(63), nullable=False),
    Column("body", Text, nullable=False),  # canonical JSON of the resolved recipe
    Column("created_at", Float, nullable=False),
)

# What raw images depend on besides class, ordinal and attempt.
contexts = Table(
    "contexts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("tenant", String(63), nullable=False, server_default="local"),
    Column("digest", String(64), nullable=False),
    Column("model_digest", String(64), ForeignKey("models.digest"), nullable=False),
    Column("body", Text, nullable=False),
    Column("conditioner_digest", String(64)),  # of the model that draws the conditions, if any
    UniqueConstraint("tenant", "digest"),
)


def uses_model(digest: ColumnElement[str] | str) -> ColumnElement[bool]:
    """Whether a context's images, or their conditions, were drawn by the model."""
    return or_(contexts.c.model_digest == digest, contexts.c.conditioner_digest == digest)


def uses_any_model(digests: Sequence[str]) -> ColumnElement[bool]:
    return or_(contexts.c.model_digest.in_(digests), contexts.c.conditioner_digest.in_(digests))


jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uid", String(32), nullable=False, unique=True),  # the id that the API shows
    Column("tenant", String(63), nullable=False, server_default="local"),
    Column("kind", String(16), nullable=False, server_default="dataset"),
    Column("priority", String(16), nullable=False, server_default="batch"),
    Column("name", String(80), nullable=False),
    Column("version", Integer, nullable=False),
    Column("recipe_digest", String(64), ForeignKey("recipes.digest"), nullable=False),
    Column("context_id", Integer, ForeignKey("contexts.id"), nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("unit_size", Integer, nullable=False),
    Column("batch_size", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("error", Text),
    Column("shortfall", Text),  # JSON: class name -> ordinals that stay empty
    Column("num_images", BigInteger, nullable=False, server_default="0"),  # asked for
    # Which workers may claim: see queues.py. Null in jobs of before the service existed.
    Column("generate_queue", String(96)),
    Column("cpu_queue", String(96)),
    Column("woken_at", Float),  # when its queues were last woken
    Column("created_by", String(63)),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("expires_at", Float),  # of a preview
    Column("publication", Text),  # JSON, while PUBLISHING: see stages/publication.py
    Column("collected_at", Float),  # when the objects that its end left behind were deleted
    UniqueConstraint("tenant", "name", "version"),
    Index(
        "uq_jobs_live_recipe",
        "tenant",
        "name",
        "recipe_digest",
        unique=True,
        sqlite_where=text("state != 'CANCELLED'"),
        postgresql_where=text("state != 'CANCELLED'"),
    ),
    Index(None, "state"),
    Index(None, "tenant", "id"),
)

# What happened to a job, in order: the source of its event stream and of webhooks.
job_events = Table(
    "job_events",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id"), nullable=False),
    Column("type", String(32), nullable=False),
    Column("body", Text, nullable=False),  # JSON
    Column("created_at", Float, nullable=False),
    Index(None, "job_id", "id"),
)

units = Table(
    "units",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("round", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("payload", Text),  # JSON: explicit attempt requests of a refill
    Column("state", String(16), nullable=False),
    Column("owner", String(64)),
    Column("fence", Integer, nullable=False),  # claims so far: grows for ever
    Column("tries", Integer, nullable=False),
    Column("lease_until", Float),
    Column("error", Text),
    Column("num_generated", Integer),  # images the model really made
    Column("seconds", Float),
    UniqueConstraint("job_id", "kind", "round", "position"),
    Index(None, "job_id", "state", "id"),
)

objects = Table(
    "objects",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("key", String(1024), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("job_id", Integer, ForeignKey("jobs.id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("split", String(32)),
    Column("num_samples", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Index(None, "job_id", "kind", "position"),
)

# A cache: one row for each raw image ever made, with every score measured on it.
attempts = Table(
    "attempts",
    metadata,
    Column("context_id", Integer, ForeignKey("contexts.id"), primary_key=True),
    Column("class_name", String(63), primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("object_id", _ROW_ID, ForeignKey("objects.id"), nullable=False),
    Column("position", Integer, nullable=False),  # row of the object's array
    Column("raw_sha256", String(64), nullable=False),
    Column("scores", Text, nullable=False),  # JSON: filter -> score
    sqlite_with_rowid=False,
)

# The attempts a job passed over. A sample's image is the attempt after its last rejected one.
rejections = Table(
    "rejections",
    metadata,
    Column("job_id", Integer, ForeignKey("jobs.id"), primary_key=True),
    Column("class_name", String(63), primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("reason", String(63), nullable=False),
    sqlite_with_rowid=False,
)

samples = Table(
    "samples",
    metadata,
    Column("job_id", Integer, ForeignKey("jobs.id"), primary_key=True),
    Column("class_name", String(63), primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("split", String(32), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("attempt_key", String(64), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("augmentation_seed", BigInteger, nullable=False),
    Column("raw_sha256", String(64), nullable=False),
    Column("image_sha256", String(64), nullable=False),
    Column("shard", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("size", Integer, nullable=False),
    Column("attributes", Text, nullable=False),
    Column("scores", Text, nullable=False),
    Column("augmentations", Text, nullable=False),
    Column("labels", Text, nullable=False, server_default="{}"),
    Index(None, "job_id", "split", "class_name", "ordinal"),
    sqlite_with_rowid=False,
)

dataset_versions = Table(
    "dataset_versions",
    metadata,
    Column("tenant", String(63), primary_key=True, server_default="local"),
    Column("name", String(80), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id"), nullable=False, unique=True),
    Column("digest", String(64), nullable=False),
    Column("manifest_sha256", String(64), nullable=False),
    Column("num_samples", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("published_at", Float, nullable=False),
    Column("deprecated_at", Float),
    Column("deprecated_reason", Text),
    Column("revoked_at", Float),
    Column("revoked_reason", Text),
    Column("erased_at", Float),  # when the last byte of a revoked version was deleted
)

# --- the service: who may do what, and who did ----------------------------------------------------

# Quotas; null is unlimited. A tenant without a row has none.
tenants = Table(
    "tenants",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("max_running_jobs", Integer),
    Column("max_images_per_day", BigInteger),
    Column("max_bytes", BigInteger),
    Column("attempt_retention_days", Float),
    Column("created_at", Float, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("tenant", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("secret_sha256", String(64), nullable=False),
    Column("scopes", String(63), nullable=False),  # separated by blanks
    Column("created_by", String(63)),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
    Index(None, "tenant"),
)

# job_id: null while the first request with the key is being answered, until locked_until.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("body_sha256", String(64), nullable=False),
    Column("job_id", Integer, ForeignKey("jobs.id")),
    Column("locked_until", Float, nullable=False),
    Column("created_at", Float, nullable=False),
)

# Append-only. hash: sha256 over the row and previous_hash, a chain per tenant.
audit_log = Table(
    "audit_log",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("at", Float, nullable=False),
    Column("actor", String(63), nullable=False),
    Column("action", String(63), nullable=False),
    Column("target", String(255), nullable=False),
    Column("detail", Text, nullable=False),  # JSON
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)

schedules = Table(
    "schedules",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("cron", String(255), nullable=False),
    Column("timezone", String(63), nullable=False),
    Column("recipe", Text, nullable=False),  # canonical JSON, as submitted
    Column("new_seed", Integer, nullable=False),  # 1: each fire derives a seed of its own
    Column("priority", String(16), nullable=False),
    Column("paused", Integer, nullable=False),
    Column("next_fire_at", Float),  # null: never again
    Column("created_by", String(63)),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("tenant", "name"),
    Index(None, "next_fire_at"),
)

# fire_at: the scheduled moment. The primary key is what makes one job of it, whoever ticks.
schedule_fires = Table(
    "schedule_fires",
    metadata,
    Column("schedule_id", String(32), ForeignKey("schedules.id"), primary_key=True),
    Column("fire_at", BigInteger, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id")),
    Column("error", Text),
    Column("locked_until", Float, nullable=False),
    Column("created_at", Float, nullable=False),
    Index(
        "ix_schedule_fires_open",
        "locked_until",
        sqlite_where=text("job_id IS NULL AND error IS NULL"),
        postgresql_where=text("job_id IS NULL AND error IS NULL"),
    ),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(63), nullable=False),
    Column("url", String(2048), nullable=False),
    Column("secret", String(128), nullable=False),
    Column("events", String(255), nullable=False),  # separated by blanks
    Column("created_by", String(63)),
    Column("created_at", Float, nullable=False),
    Column("disabled_at", Float),
    Index(None, "tenant"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("webhook_id", String(32), ForeignKey("webhooks.id"), nullable=False),
    Column("event_id", String(64), nullable=False),
    Column("event_type", String(32), nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),  # PENDING, DELIVERED, FAILED
    Column("tries", Integer, nullable=False),
    Column("next_at", Float),  # when it is due, or when a sender's claim on it runs out
    Column("last_status", Integer),
    Column("last_error", Text),
    Column("created_at", Float, nullable=False),
    Column("delivered_at", Float),
    UniqueConstraint("webhook_id", "event_id"),
    Index(None, "state", "next_at"),
)

# One row per worker process alive or lately so.
workers = Table(
    "workers",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("queues", Text, nullable=False),  # JSON: the queues that it may claim from
    Column("fingerprint", Text, nullable=False),  # JSON
    Column("started_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("claimed_at", Float),
)

# Models that a tenant registered. The files lie under {tenant}/models/{name}/{digest}/.
registered_models = Table(
    "registered_models",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False, server_default="1"),
    Column("digest", String(64), nullable=False),
    Column("config", Text, nullable=False),
    Column("training_data_sha256", String(64)),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_by", String(63)),
    Column("created_at", Float, nullable=False),
    Column("deprecated_at", Float),
    Column("deprecated_reason", Text),
    Column("revoked_at", Float),
    Column("revoked_reason", Text),
    Index(None, "digest"),
)

# Sets of real images that may train. The same images under other terms are another version.
sources = Table(
    "sources",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("digest", String(64), nullable=False),  # of pixels and classes: Reading.content_digest
    Column("class_digests", Text, nullable=False),  # JSON: sorted, one of each class
    Column("num_images", BigInteger, nullable=False),
    Column("depth", Integer, nullable=False),  # of generation: 0 for real images
    Column("licence", String(200), nullable=False),
    Column("description", String(1000), nullable=False),  # where the images come from
    Column("permitted_use", String(500), nullable=False),
    Column("permitted_uses", Text, nullable=False),  # JSON: short names, such as research
    Column("consent", String(500), nullable=False),  # or another legal basis
    Column("contact", String(200), nullable=False),
    Column("expires_on", String(10)),  # the last day, as 2027-01-31; null: never
    Column("location", String(2048), nullable=False),  # a folder, or s3://bucket/prefix
    Column("format", String(16), nullable=False),
    Column("profile", String(127)),  # of the AWS configuration, never a secret
    Column("created_by", String(63)),
    Column("created_at", Float, nullable=False),
    Column("withdrawn_at", Float),
    Column("withdrawn_reason", Text),
    Index(None, "tenant", "digest"),
)

# data_sha256: of the images as that training read them. Private models do not tell it themselves.
source_uses = Table(
    "source_uses",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("model_digest", String(64), primary_key=True),
    Column("source_name", String(63), primary_key=True),
    Column("source_version", Integer, primary_key=True),
    Column("model_name", String(80), nullable=False),
    Column("data_sha256", String(64), nullable=False),
    Column("trained_at", Float, nullable=False),
    Index(None, "tenant", "source_name", "source_version"),
)

# Trainings of models. Times of waiting and of work are told by the events.
trainings = Table(
    "trainings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uid", String(32), nullable=False, unique=True),  # the id that the API shows
    Column("tenant", String(63), nullable=False),
    Column("name", String(63), nullable=False),  # of the model
    Column("recipe", Text, nullable=False),  # canonical JSON of the model recipe
    Column("recipe_digest", String(64), nullable=False),
    Column("num_images", BigInteger, nullable=False),  # to be shown
    Column("state", String(16), nullable=False),
    Column("error", Text),
    Column("owner", String(64)),
    Column("fence", Integer, nullable=False),  # claims so far: grows for ever
    Column("tries", Integer, nullable=False),  # claims since the last stored checkpoint
    Column("lease_until", Float),
    Column("woken_at", Float),  # when workers were last told of it
    Column("progress", Text),  # JSON: see catalog/trainings.py
    Column("checkpoint", Text),  # JSON: file name -> sha256, which is the object's name as well
    Column("checkpoint_images_seen", BigInteger),
    # Set before the model is registered: from then on the training cannot be cancelled.
    Column("model_digest", String(64)),
    Column("idempotency_key", String(255), nullable=False),
    Column("created_by", String(63)),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("collected_at", Float),  # when the checkpoints that its end left behind were deleted
    UniqueConstraint("tenant", "idempotency_key"),
    Index(
        "uq_trainings_live_name",
        "tenant",
        "name",
        unique=True,
        sqlite_where=text("state IN ('QUEUED', 'RUNNING')"),
        postgresql_where=text("state IN ('QUEUED', 'RUNNING')"),
    ),
    Index(None, "state"),
    Index(None, "tenant", "id"),
)

training_events = Table(
    "training_events",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("training_id", Integer, ForeignKey("trainings.id"), nullable=False),
    Column("type", String(32), nullable=False),
    Column("body", Text, nullable=False),  # JSON
    Column("created_at", Float, nullable=False),
    Index(None, "training_id", "id"),
)

# What was revoked, for ever. kind: source, model or version; digest: of what was taken away.
tombstones = Table(
    "tombstones",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("tenant", String(63), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", String(63), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("erased_at", Float),  # when the last byte was deleted
    UniqueConstraint("tenant", "kind", "subject"),
)

# What was found out about a version after it was made: evaluation, report, review. Objects beside
# the data, named by content; the version itself does not change.
attachments = Table(
    "attachments",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("tenant", String(63), nullable=False),
    Column("job_id", Integer, ForeignKey("jobs.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("file_name", String(127), nullable=False),
    Column("key", String(1024), nullable=False, unique=True),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("summary", Text, nullable=False),  # JSON: the main figures
    Column("seconds", Float),  # that making it took
    Column("created_by", String(63)),
    Column("created_at", Float, nullable=False),  # or attached again
    Index(None, "job_id", "kind", "created_at"),
)

# Append-only: each sign-off of a version is a row; catalog/approvals.py tells which one holds.
approvals = Table(
    "approvals",
    metadata,
    Column("id", _ROW_ID, primary_key=True),
    Column("tenant", String(63), nullable=False),
    Column("job_id", Integer, ForeignKey("jobs.id"), nullable=False),
    Column("state", String(16), nullable=False),  # draft, reviewed or approved
    Column("use", String(200), nullable=False),  # what it is signed off for
    Column("signed_by", String(127), nullable=False),
    Column("expires_at", Float),  # from then on, the row does not hold; null: it always does
    Column("note", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Index(None, "job_id", "use", "id"),
)
