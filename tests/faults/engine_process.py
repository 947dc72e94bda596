"""A worker process without a broker: steps the jobs named on its command line until all have ended.

    python engine_process.py JOB_ID...

Started by fleet.py. Settings, failpoints included, come from the environment. POISON_SEED, if set,
is the seed of the one image at which the model reaches the failpoint "poison".
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Sequence
from uuid import uuid4

from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import get_job
from datagen.catalog.rows import ACTIVE_STATES
from datagen.engine import Worker
from datagen.errors import RetryableError
from datagen.failpoints import arm, failpoint
from datagen.generators.interface import Images
from datagen.generators.noise.sample import NoiseSampler
from datagen.interruption import Interruption
from datagen.settings import load_settings
from datagen.store import open_store

_PAUSE_S = 0.05


def main(job_ids: list[int]) -> None:
    settings = load_settings()
    arm(settings.failpoints, settings.failpoints_dir)
    if "POISON_SEED" in os.environ:
        _poison(int(os.environ["POISON_SEED"]))
    catalog = Catalog(settings.database_url, None)
    store = open_store(settings.store_url, endpoint_url=settings.s3_endpoint_url)
    with Interruption() as interruption:
        worker = Worker(
            catalog,
            store,
            settings,
            owner=f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}",
            check_stop=interruption.check,
        )
        while job_ids:
            interruption.check()
            try:
                worked = [worker.step(job_id) for job_id in job_ids]  # a unit of each in turn
                if not any(worked):
                    job_ids = [job_id for job_id in job_ids if _is_active(catalog, job_id)]
                    time.sleep(_PAUSE_S)
            except RetryableError as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                time.sleep(_PAUSE_S)


def _is_active(catalog: Catalog, job_id: int) -> bool:
    job = get_job(catalog, job_id)
    return job is not None and job.state in ACTIVE_STATES


def _poison(poison_seed: int) -> None:
    """The model dies of one image: of a real model, a driver or library would."""
    sound = NoiseSampler.sample

    def sample(self: NoiseSampler, seeds: Sequence[int], class_ids: Sequence[int]) -> Images:
        if poison_seed in seeds:
            failpoint("poison")
        return sound(self, seeds, class_ids)

    NoiseSampler.sample = sample  # type: ignore[method-assign]


if __name__ == "__main__":
    try:
        main([int(text) for text in sys.argv[1:]])
    except KeyboardInterrupt:
        raise SystemExit(130) from None
