"""What to say when a batch does not fit into memory. Called by training/loop.py."""

from __future__ import annotations

from collections.abc import Callable

import torch

from datagen.errors import TrainingError

# PyTorch's allocator, and oneDNN, which says no more than this.
_CPU_TEXTS = ("can't allocate memory", "could not create a primitive")


def is_out_of_memory(error: BaseException) -> bool:
    """Of the GPU, or of the machine."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _CPU_TEXTS)


def too_large(
    batch_size: int, step: int, try_step: Callable[[int], object], *, num_processes: int = 1
) -> TrainingError:
    """The error that names the batch size which would fit, found by trying halves.

    batch_size: of all processes. try_step: one step on the first so many images of this one; the
    objective is not used afterwards.
    """
    message = f"out of memory at step {step} with schedule.batch_size {batch_size}: "
    size = batch_size // num_processes // 2
    while size > 0:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            try_step(size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            size //= 2
        else:
            return TrainingError(
                message + f"{size * num_processes} fits; the last checkpoint is kept"
            )
    return TrainingError(
        message + "not even 1 image fits: lower data.image_size or the sizes under network"
    )
