"""Several processes, one GPU each, that train one model. Called by training/session.py and loop.py.

`accelerate launch` (or torchrun) starts them. Each takes its part of every batch; gradients are
averaged before each descent, so that all hold the same weights. The first alone judges, writes and
speaks.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import distributed

from datagen.errors import MachineError


@dataclass(frozen=True)
class Processes:
    """num: that train together; rank: of this one, from 0. device: of this one."""

    num: int
    rank: int
    device: str

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def average(self, gradients: list[torch.Tensor]) -> None:
        """In place, over the processes: one exchange for all of them."""
        from accelerate.utils import reduce

        flat = torch.cat([gradient.flatten() for gradient in gradients])
        parts = reduce(flat, "mean").split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def agree(self, value: bool) -> bool:
        """What the first process says."""
        if self.num == 1:
            return value
        from accelerate.utils import broadcast_object_list

        said = [value]
        broadcast_object_list(said)
        return said[0]

    def wait(self) -> None:
        """Until all are here."""
        if self.num > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


@functools.cache
def launched_processes(device: str) -> Processes:
    """This process among those that were launched with it; alone, on `device`, if it was not.

    Raises MachineError if the GPU is not there.
    """
    if not distributed.is_torchelastic_launched():
        check_device(device)
        return Processes(1, 0, device)
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu")
    own = "cpu" if state.device.type == "cpu" else str(state.device)
    return Processes(state.num_processes, state.process_index, own)


def check_device(device: str) -> None:
    """Raises MachineError if the GPU is not there."""
    if device == "cpu":
        return
    num = torch.cuda.device_count()
    index = int(device.partition(":")[2] or 0)
    if index >= num:
        raise MachineError(
            f"device {device}: this machine has {num} GPUs that PyTorch can use; set "
            "DATAGEN_DEVICE=cpu, or install a PyTorch build for the GPU"
        )
