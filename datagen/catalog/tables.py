"""The tables. Changed only together with a migration (tests compare the two).

Times are seconds since the epoch by the database's clock. Digests are hex.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
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
    Column("name", String(63), nullable=False),
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
    Column("digest", String(64), nullable=False, unique=True),
    Column("model_digest", String(64), ForeignKey("models.digest"), nullable=False),
    Column("body", Text, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(63), nullable=False),
    Column("version", Integer, nullable=False),
    Column("recipe_digest", String(64), ForeignKey("recipes.digest"), nullable=False),
    Column("context_id", Integer, ForeignKey("contexts.id"), nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("unit_size", Integer, nullable=False),
    Column("batch_size", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("error", Text),
    Column("shortfall", Text),  # JSON: class name -> ordinals that stay empty
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    UniqueConstraint("name", "version"),
    UniqueConstraint("name", "recipe_digest"),
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
    Index(None, "job_id", "state"),
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
    sqlite_with_rowid=False,
)

dataset_versions = Table(
    "dataset_versions",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id"), nullable=False, unique=True),
    Column("digest", String(64), nullable=False),
    Column("manifest_sha256", String(64), nullable=False),
    Column("num_samples", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("published_at", Float, nullable=False),
)
