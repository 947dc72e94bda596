"""The batch shape of a job on this machine: measured once for a model, and remembered.

The shape decides an image's bits: it is chosen before the job exists, stored with it, and every
batch is padded to it ever after. Called by embedded.py, before a job is made; in a service, whose
API has no device, a model or a recipe says it.
"""

from __future__ import annotations

import hashlib
import json
import os
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, cast

from datagen.errors import DatagenError
from datagen.fingerprint import generation_print
from datagen.generators import GENERATORS
from datagen.generators.interface import PromptedSpec
from datagen.recipe import canonical_json
from datagen.resolve import ResolvedRecipe
from datagen.settings import Settings

if TYPE_CHECKING:
    from pydantic import BaseModel

    from datagen.generators.interface import ModelConfig

# A probe that takes longer is given up, and the family's own shape taken for this job.
_PROBE_S = 300.0
MAX_BATCH_SIZE = 64


def with_batch_shape(resolved: ResolvedRecipe, settings: Settings) -> ResolvedRecipe:
    """The recipe at the shape that suits this machine, where its family is probed and nobody has
    said another."""
    if resolved.chosen_batch_size is not None or not hasattr(resolved.spec, "probe_batch_size"):
        return resolved
    memo = _memo_path(resolved, settings)
    size = _read(memo)
    if size is None:
        size = _probe_apart(resolved, settings)
        if size is not None:
            _write(memo, size)
    return resolved if size is None else resolved.at_batch_size(size)


def _memo_path(resolved: ResolvedRecipe, settings: Settings) -> Path:
    """Named by all that the answer depends on."""
    content = {
        "model": resolved.model.digest,
        "options": resolved.options.model_dump(mode="json"),
        "image_size": resolved.config.image_size,
        "machine": generation_print(
            resolved.spec, device=settings.device, threads=settings.threads_per_worker
        ),
    }
    digest = hashlib.sha256(canonical_json(content)).hexdigest()[:32]
    return settings.home / "batch-shapes" / f"{digest}.json"


def _read(memo: Path) -> int | None:
    try:
        size = json.loads(memo.read_bytes())["batch_size"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return size if type(size) is int and 1 <= size <= MAX_BATCH_SIZE else None


def _write(memo: Path, size: int) -> None:
    """Whole or not at all; of two at once either is as good."""
    memo.parent.mkdir(parents=True, exist_ok=True)
    partial = memo.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps({"batch_size": size}))
    os.replace(partial, memo)


def _probe_apart(resolved: ResolvedRecipe, settings: Settings) -> int | None:
    """In a process of its own: what a full memory does to it leaves this one alone. A process that
    is killed has been asking for too much: then one image at a time. None if it took too long.
    Raises what went wrong in it."""
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    told = (resolved.config, resolved.options, settings.device, settings.threads_per_worker)
    child = context.Process(target=_probe, args=(resolved.spec.name, *told, sender), daemon=True)
    child.start()
    sender.close()
    try:
        if not receiver.poll(_PROBE_S):
            return None
        found: int | DatagenError = receiver.recv()
    except EOFError:
        return 1
    finally:
        receiver.close()
        child.terminate()
        child.join()
    if isinstance(found, DatagenError):
        raise found
    return found


def _probe(
    family: str,
    config: ModelConfig,
    options: BaseModel,
    device: str,
    threads: int,
    sender: Connection,
) -> None:
    import torch

    torch.set_num_threads(threads)
    spec = cast(PromptedSpec, GENERATORS[family])
    try:
        sender.send(spec.probe_batch_size(config, options, device=device))
    except DatagenError as error:
        sender.send(error)
