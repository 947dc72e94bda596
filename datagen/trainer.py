"""The side of a worker that trains: claims a training, resumes it, stores its checkpoints, and
registers the model.

One claim at a time trains; it keeps its lease by a heartbeat, and stores the training's files after
each checkpoint, and before it stops, so that whoever claims next goes on from there. The objects
are named by content and put create-only; the catalog's row says which of them make up the
checkpoint. Called by workers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from datagen.catalog.catalog import Catalog
from datagen.catalog.registry import get_model_of_digest
from datagen.catalog.training_claims import (
    begin_registering,
    claim_training,
    collecting,
    commit_checkpoint,
    ended_trainings,
    fail_training,
    publish_training,
    release_training,
    renew_training,
)
from datagen.catalog.trainings import Training
from datagen.errors import (
    CatalogUnavailableError,
    DatagenError,
    LeaseLostError,
    MachineError,
    RetryableError,
    StoreError,
)
from datagen.failpoints import failpoint
from datagen.heartbeat import Heartbeat
from datagen.registrar import Registrar
from datagen.registry import models_dirs, register_model, renew_terms
from datagen.settings import Settings
from datagen.store import Store
from datagen.training.model_recipe import parse_model_recipe
from datagen.training.remote_images import local_images
from datagen.trainings import check_readable, located

if TYPE_CHECKING:
    from datagen.generators.model_directory import Model
    from datagen.training.checkpoint import Progress

logger = logging.getLogger(__name__)

# How often a training at work tells how far it is, and hears that it was cancelled, at most.
PROGRESS_S = 2.0
# After its end, a worker that has not heard of it may still store a checkpoint.
GRACE_S = 3_600.0
# How long one that failed may be retried from its checkpoint; afterwards, from the beginning.
FAILED_S = 30 * 86_400.0
_CHUNK = 100
# What of a training's folder is not needed to go on elsewhere.
_NOT_KEPT = ("lock", "shipped.safetensors")


class Trainer:
    """One worker process. catalog: of all tenants. check_stop: called at each step; what it raises
    ends the claim, and the training waits again. on_progress: called at each step."""

    def __init__(
        self,
        catalog: Catalog,
        store: Store,
        settings: Settings,
        *,
        owner: str,
        check_stop: Callable[[], None] = lambda: None,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self.catalog = catalog
        self.store = store
        self.settings = settings
        self.owner = owner
        self.check_stop = check_stop
        self.on_progress = on_progress

    def step(self) -> bool:
        """Claims the training that waits longest, and trains it. Returns False if none waits.

        Raises RetryableError, after giving it back, when the store or the database is full or out
        of reach; MachineError, after counting a try, when this machine is at fault, and others may
        do better. Every other failure is recorded with the training.
        """
        settings = self.settings
        claim = claim_training(
            self.catalog,
            owner=self.owner,
            lease_s=settings.lease_s,
            max_tries=settings.max_tries,
        )
        if claim is None:
            return False
        failpoint("training.claimed")
        try:
            self._train(claim)
        except LeaseLostError:
            return True
        except RetryableError as error:
            self._give_back(claim, error, count_try=False)
            raise
        except (MachineError, MemoryError, OSError) as error:
            self._give_back(claim, error, count_try=True)
            raise MachineError(self._told(error)) from error
        except DatagenError as error:
            fail_training(self.catalog, claim, error=self._told(error))
        except Exception as error:  # the edge of a task: recorded, tried again, then given up
            self._give_back(claim, error, count_try=True)
        except BaseException as error:  # interrupted: others may go on at once
            self._give_back(claim, error, count_try=False)
            raise
        return True

    def _train(self, claim: Training) -> None:
        def renew() -> bool:
            return renew_training(self.catalog, claim, lease_s=self.settings.lease_s)

        def check_stop() -> None:
            self.check_stop()
            self.on_progress()

        what = f"training {claim.uid}"
        with (
            _scratch_folder(self.settings, claim) as folder,
            Heartbeat(what, renew, self.settings, check_stop) as heartbeat,
        ):
            _Run(
                self.catalog.of(claim.tenant),
                self.store,
                self.settings.of(claim.tenant),
                claim,
                heartbeat,
                folder,
                files=claim.files,
                images_seen=claim.checkpoint_images_seen or 0,
            ).run()

    def _give_back(self, claim: Training, error: BaseException, *, count_try: bool) -> None:
        try:
            release_training(self.catalog, claim, error=self._told(error), count_try=count_try)
        except CatalogUnavailableError:
            return  # the lease will run out

    def _told(self, error: BaseException) -> str:
        """Without the folder of this machine."""
        text = str(error) if isinstance(error, DatagenError) else f"{type(error).__name__}: {error}"
        return text.replace(f"{_scratch_root(self.settings)}/", "")


@dataclass
class _Run:
    """One claim's work. catalog, settings: the tenant's. folder: for as long as it lasts.

    files: of the stored checkpoint, name -> sha256. images_seen: so far.
    """

    catalog: Catalog
    store: Store
    settings: Settings
    claim: Training
    heartbeat: Heartbeat
    folder: Path
    files: dict[str, str]
    images_seen: int
    told: float = field(default_factory=time.monotonic)

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def run(self) -> None:
        from datagen.training.session import train_model

        claim, settings = self.claim, self.settings
        if self._is_registered():
            publish_training(self.catalog, claim)
            return
        recipe = parse_model_recipe(claim.recipe.encode(), source="recipe")
        sources = Registrar(
            self.catalog, settings, recipe_name=recipe.name, created_by=claim.created_by
        )
        recipe = located(recipe, sources)
        self._fetch()
        place = local_images(
            check_readable(recipe.data, settings),
            folder=self.folder,
            endpoint_url=settings.s3_endpoint_url,
            profile=sources.profile,
        )
        named = [] if recipe.init is None else [recipe.init]
        with place as images:
            model = train_model(
                recipe,
                out=self.folder / "model" / recipe.name,
                work=self.work,
                data=images,
                models_dirs=models_dirs(self.catalog, self.store, settings, named),
                device=settings.device,
                report=self._report,
                on_check=lambda check: self.heartbeat.check(),
                admit=sources.admit,
                on_checkpoint=self._keep_checkpoint,
            )
        self._store_files()
        self._publish(model, sources)

    def _is_registered(self) -> bool:
        """By an earlier claim, which ended before it could say so."""
        digest = self.claim.model_digest
        return (
            digest is not None
            and get_model_of_digest(self.catalog, self.claim.name, digest) is not None
        )

    def _publish(self, model: Model, sources: Registrar) -> None:
        renew_terms(self.catalog, model)  # whoever claims next finds what is registered, and ends
        begin_registering(self.catalog, self.claim, model.digest)
        failpoint("training.before_register")
        sources.record(model)
        register_model(
            self.catalog, self.store, self.settings, model.path, created_by=self.claim.created_by
        )
        failpoint("training.before_publish")
        publish_training(self.catalog, self.claim)

    def _report(self, progress: Progress, losses: dict[str, float]) -> None:
        """After each step."""
        failpoint("training.step")
        self.images_seen = progress.images_seen
        self.heartbeat.check()
        if time.monotonic() - self.told >= min(PROGRESS_S, self.settings.heartbeat_s):
            self._tell(progress, losses)

    def _tell(self, progress: Progress, losses: dict[str, float]) -> None:
        """Also hears at once that the training was cancelled."""
        content = {
            "images_seen": progress.images_seen,
            "seconds": progress.seconds,
            "losses": losses,
            "best_distance": progress.best_distance,
            "best_images_seen": progress.best_images_seen,
        }
        try:
            held = renew_training(
                self.catalog,
                self.claim,
                lease_s=self.settings.lease_s,
                progress=json.dumps(content),
            )
        except CatalogUnavailableError:
            held = True  # the heartbeat knows for how long
        self.told = time.monotonic()
        if not held:
            self.heartbeat.lose()
            self.heartbeat.check()

    # --- checkpoints

    def _fetch(self) -> None:
        """The stored checkpoint. Raises StoreError if it is damaged."""
        self.work.mkdir(parents=True)
        for name, sha256 in self.files.items():
            key = checkpoint_prefix(self.claim) + sha256
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with self.store.open(key) as source, path.open("xb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            if _sha256(path) != sha256:
                raise StoreError(
                    f"{self.store.url(key)} is not the checkpoint that was stored; restore it from "
                    "a backup, or train anew"
                )

    def _keep_checkpoint(self, folder: Path) -> None:
        """A store or database that is out of reach for a while costs no step that was made: the
        next checkpoint is stored. A worker that is to stop stores this one first."""
        stop: BaseException | None = None
        try:
            self.heartbeat.check()
        except Exception:
            raise
        except BaseException as error:
            stop = error
        try:
            self._store_files()
        except RetryableError as error:
            logger.warning("training %s: checkpoint not stored: %s", self.claim.uid, error)
        if stop is not None:
            raise stop

    def _store_files(self) -> None:
        """What is new in the training's folder, then the row that names it."""
        prefix = checkpoint_prefix(self.claim)
        found = [path for path in self.work.rglob("*") if _is_kept(path)]
        paths = {path.relative_to(self.work).as_posix(): path for path in sorted(found)}
        files = {name: _sha256(path) for name, path in paths.items()}
        if files == self.files:
            return
        for name, sha256 in files.items():
            if sha256 not in self.files.values():
                self.store.put_file(prefix + sha256, paths[name])
        failpoint("training.before_checkpoint")
        commit_checkpoint(self.catalog, self.claim, files, images_seen=self.images_seen)
        former, self.files = set(self.files.values()), files
        for sha256 in former - set(files.values()):
            self.store.delete(prefix + sha256)


def checkpoint_prefix(training: Training) -> str:
    return f"{training.tenant}/trainings/{training.uid}/"


def _is_kept(path: Path) -> bool:
    return path.is_file() and path.name not in _NOT_KEPT and path.suffix != ".tmp"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _scratch_root(settings: Settings) -> Path:
    return settings.home / "trainings"


@contextmanager
def _scratch_folder(settings: Settings, claim: Training) -> Iterator[Path]:
    """Of this claim alone; what earlier claims of the training left on this machine goes, too."""
    root = _scratch_root(settings)
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob(f"{claim.uid}-*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = root / f"{claim.uid}-{claim.fence}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- leftovers ------------------------------------------------------------------------------------


def collect_trainings(
    catalog: Catalog, store: Store, *, grace_s: float = GRACE_S, failed_s: float = FAILED_S
) -> int:
    """Deletes the checkpoints of trainings that have ended. Returns objects deleted."""
    num_deleted = 0
    for training in ended_trainings(catalog, grace_s=grace_s, failed_s=failed_s, limit=_CHUNK):
        with collecting(catalog, training) as is_same:
            if is_same:
                found = [each.key for each in store.list(checkpoint_prefix(training))]
                for key in found:
                    store.delete(key)
                num_deleted += len(found)
    return num_deleted
