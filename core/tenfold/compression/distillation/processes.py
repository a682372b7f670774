"""The processes that train together: one, or those of a process group."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler


@dataclass(frozen=True)
class Processes:
    """This process's `rank` among `count`."""

    rank: int = 0
    count: int = 1

    def wrapped(self, model: Module) -> Module:
        """The model, its gradients averaged over the processes."""
        return model if self.count == 1 else DistributedDataParallel(model)

    def share(self, batches: Iterable[Any], epoch: int) -> Iterator[Any]:
        """This process's batches, as many as every other's.

        Of `count` batches each takes one; where the last ones are fewer, some are taken twice. A
        `DataLoader` whose sampler is a `DistributedSampler` has shared out already.
        """
        if isinstance(batches, DataLoader) and isinstance(batches.sampler, DistributedSampler):
            batches.sampler.set_epoch(epoch)
            yield from batches
            return
        together: list[Any] = []
        for batch in batches:
            together.append(batch)
            if len(together) == self.count:
                yield together[self.rank]
                together = []
        if together:
            yield together[self.rank % len(together)]

    def steps(self, batches: Iterable[Any]) -> int | None:
        """How many batches are this process's; None where that is not known before."""
        if not isinstance(batches, Sized):
            return None
        if isinstance(batches, DataLoader) and isinstance(batches.sampler, DistributedSampler):
            return len(batches)
        return -(-len(batches) // self.count)

    def first(self, value: float) -> float:
        """The first process's value, in each of them."""
        if self.count == 1:
            return value
        place = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        shared = torch.tensor([value], dtype=torch.float64, device=place)
        distributed.broadcast(shared, 0)
        return float(shared)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            distributed.barrier()


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """The processes of the group that there is, or of the one that `torchrun` stands ready for."""
    if not distributed.is_available():
        yield Processes()
    elif distributed.is_initialized():
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    elif distributed.is_torchelastic_launched() and int(os.environ["WORLD_SIZE"]) > 1:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        try:
            yield Processes(distributed.get_rank(), distributed.get_world_size())
        finally:
            distributed.destroy_process_group()
    else:
        yield Processes()
