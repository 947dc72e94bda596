"""The only reader of the environment. Built once at the edge and passed in."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from datagen.errors import InputError

# open: whoever may read may pull. Else a version must be signed off as this, or as more.
PULL_POLICIES = ("open", "reviewed", "approved")


@dataclass(frozen=True)
class Settings:
    """Where things are kept, and how long a lease lasts.

    home holds the embedded catalog (catalog.sqlite3), objects (objects/), trained models (models/)
    and worker locks (workers/). device: cpu or cuda, cuda:N. pull_policy: what a version must be
    signed off as before its images are given out. The rest matters to a service alone:
    training_data_dir: folder whose images trainings may read, besides S3.
    webhook_networks: private networks that webhooks may reach. prices: in `currency`.
    model_memory_gb: of models that a worker keeps loaded; None for the two last used.
    pipeline_sources: folders and hub ids (owner/name, owner/*) whose pipelines may run; None for
    any folder, in this process alone. licences: that a pipeline may have; None for any that is
    stated. allow_unlicensed: also such as state none. allow_network: pipelines may be fetched from
    the hub. prompt_rules: a YAML file, see prompt_rules.py; None for the built-in ones.
    failpoints: faults to inject, see failpoints.py.
    """

    home: Path
    database_url: str
    store_url: str
    s3_endpoint_url: str | None = None
    tenant: str = "local"
    device: str = "cpu"
    threads_per_worker: int = 1
    lease_s: float = 90.0
    heartbeat_s: float = 15.0
    max_tries: int = 5
    sweep_s: float = 5.0
    broker_url: str = "redis://127.0.0.1:6379/0"
    api_url: str | None = None
    api_key: str | None = None
    oidc_issuer: str | None = None
    oidc_audience: str | None = None
    oidc_jwks_url: str | None = None
    training_data_dir: Path | None = None
    price_per_device_hour: float = 0.0
    price_per_gb_month: float = 0.0
    currency: str = "USD"
    webhook_networks: tuple[str, ...] = ()
    pull_policy: str = "open"
    model_memory_gb: float | None = None
    pipeline_sources: tuple[str, ...] | None = None
    licences: tuple[str, ...] | None = None
    allow_unlicensed: bool = False
    allow_network: bool = False
    prompt_rules: Path | None = None
    failpoints: str = ""
    failpoints_dir: Path | None = None

    @property
    def models_dir(self) -> Path:
        return self.home / "models"

    @property
    def references_dir(self) -> Path:
        """Names of real data, each tenant's its own: see evaluation/named_data.py."""
        folder = self.home / "references"
        return folder if self.tenant == "local" else folder / "tenants" / self.tenant

    def of(self, tenant: str) -> Settings:
        """The same settings for another tenant's objects."""
        return replace(self, tenant=tenant)


def load_settings(environ: Mapping[str, str] = os.environ, *, home: Path | None = None) -> Settings:
    """Raises InputError if a variable is malformed."""
    root = (home or Path(environ.get("DATAGEN_HOME") or "datagen-home")).absolute()
    if root.exists() and not root.is_dir():
        raise InputError(f"home {root} is not a folder; name another with --home or DATAGEN_HOME")
    return Settings(
        home=root,
        database_url=environ.get("DATAGEN_DATABASE_URL") or f"sqlite:///{root / 'catalog.sqlite3'}",
        store_url=environ.get("DATAGEN_STORE_URL") or (root / "objects").as_uri(),
        s3_endpoint_url=environ.get("DATAGEN_S3_ENDPOINT_URL") or None,
        tenant=_tenant(environ),
        device=_device(environ),
        threads_per_worker=_threads(environ),
        lease_s=_number(environ, "DATAGEN_LEASE_S", 90.0),
        heartbeat_s=_number(environ, "DATAGEN_HEARTBEAT_S", 15.0),
        sweep_s=_number(environ, "DATAGEN_SWEEP_S", 5.0),
        broker_url=_secret(environ, "DATAGEN_BROKER_URL") or "redis://127.0.0.1:6379/0",
        api_url=environ.get("DATAGEN_API_URL") or None,
        api_key=environ.get("DATAGEN_API_KEY") or None,
        oidc_issuer=environ.get("DATAGEN_OIDC_ISSUER") or None,
        oidc_audience=environ.get("DATAGEN_OIDC_AUDIENCE") or None,
        oidc_jwks_url=environ.get("DATAGEN_OIDC_JWKS_URL") or None,
        training_data_dir=_folder(environ, "DATAGEN_TRAINING_DATA_DIR"),
        price_per_device_hour=_price(environ, "DATAGEN_PRICE_PER_DEVICE_HOUR"),
        price_per_gb_month=_price(environ, "DATAGEN_PRICE_PER_GB_MONTH"),
        currency=environ.get("DATAGEN_CURRENCY") or "USD",
        webhook_networks=_networks(environ, "DATAGEN_WEBHOOK_NETWORKS"),
        pull_policy=_pull_policy(environ),
        model_memory_gb=_optional_number(environ, "DATAGEN_MODEL_MEMORY_GB"),
        pipeline_sources=_words(environ, "DATAGEN_PIPELINE_SOURCES"),
        licences=_words(environ, "DATAGEN_PIPELINE_LICENCES"),
        allow_unlicensed=_flag(environ, "DATAGEN_ALLOW_UNLICENSED"),
        allow_network=_flag(environ, "DATAGEN_HUB_DOWNLOADS"),
        prompt_rules=_folder(environ, "DATAGEN_PROMPT_RULES"),
        failpoints=environ.get("DATAGEN_FAILPOINTS") or "",
        failpoints_dir=_folder(environ, "DATAGEN_FAILPOINTS_DIR"),
    )


def _secret(environ: Mapping[str, str], name: str) -> str | None:
    """The variable, or the content of the file that {name}_FILE names: secrets come as files."""
    path = environ.get(f"{name}_FILE")
    if environ.get(name) or not path:
        return environ.get(name) or None
    try:
        return Path(path).read_text().strip() or None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"environment variable {name}_FILE={path!r} cannot be read ({error}); name a file that "
            "holds one line"
        ) from None


def _price(environ: Mapping[str, str], name: str) -> float:
    return _number(environ, name, 0.0) if (environ.get(name) or "0") != "0" else 0.0


def _networks(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    networks = tuple(filter(None, (environ.get(name) or "").replace(",", " ").split()))
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            raise InputError(
                f"environment variable {name}: {network!r} is no network; expected such as "
                "10.0.0.0/8, several separated by blanks"
            ) from None
    return networks


def _pull_policy(environ: Mapping[str, str]) -> str:
    policy = environ.get("DATAGEN_PULL_POLICY") or "open"
    if policy not in PULL_POLICIES:
        raise InputError(
            f"environment variable DATAGEN_PULL_POLICY={policy!r}: expected one of "
            f"{', '.join(PULL_POLICIES)}"
        )
    return policy


def _folder(environ: Mapping[str, str], name: str) -> Path | None:
    text = environ.get(name)
    return Path(text).absolute() if text else None


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise InputError(f"environment variable {name}={text!r}: expected a number above 0")
    return value


def _optional_number(environ: Mapping[str, str], name: str) -> float | None:
    return _number(environ, name, 0.0) if environ.get(name) else None


def _words(environ: Mapping[str, str], name: str) -> tuple[str, ...] | None:
    """Separated by commas; None if the variable is not set, () if it is empty."""
    text = environ.get(name)
    if text is None:
        return None
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _flag(environ: Mapping[str, str], name: str) -> bool:
    text = environ.get(name) or "no"
    if text not in ("yes", "no"):
        raise InputError(f"environment variable {name}={text!r}: expected yes or no")
    return text == "yes"


def _tenant(environ: Mapping[str, str]) -> str:
    tenant = environ.get("DATAGEN_TENANT") or "local"
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", tenant):
        raise InputError(
            f"environment variable DATAGEN_TENANT={tenant!r}: expected 1 to 63 of a-z, 0-9 and -"
        )
    return tenant


def _device(environ: Mapping[str, str]) -> str:
    device = environ.get("DATAGEN_DEVICE") or "cpu"
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,2})?", device):
        raise InputError(
            f"environment variable DATAGEN_DEVICE={device!r}: expected cpu, cuda or cuda:N"
        )
    return device


def _threads(environ: Mapping[str, str]) -> int:
    text = environ.get("DATAGEN_THREADS_PER_WORKER") or "1"
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= 256:
        raise InputError(
            f"environment variable DATAGEN_THREADS_PER_WORKER={text!r}: expected a whole number "
            "from 1 to 256"
        )
    return int(text)
