"""What the workers of a run tell each other, with a process group or alone."""

from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

COLLECTIVE_TIMEOUT_S = 300  # a worker that waits longer for the others takes the group down


class Workers:
    """The data-parallel workers of a run; alone, every exchange is a no-op.

    Numbers that steer a run travel over a gloo group on the CPU, so that they never wait for the accelerator's queue
    nor mix with the gradients' collectives.

    Args:
        group: A gloo group over all workers, or ``None`` without a process group.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group
        self.rank = 0 if group is None else dist.get_rank(group)
        self.num_workers = 1 if group is None else dist.get_world_size(group)

    @classmethod
    def join(cls) -> "Workers":
        """Join the workers of the default process group, if there is one; a collective call.

        Returns:
            The workers.
        """
        if not dist.is_initialized():
            return cls()
        group = dist.new_group(backend="gloo", timeout=timedelta(seconds=COLLECTIVE_TIMEOUT_S))
        assert isinstance(group, dist.ProcessGroup)  # all ranks are members
        return cls(group)

    def mean(self, values: Tensor) -> Tensor:
        """Average numbers over the workers.

        Args:
            values: Any shape; the same on every worker.

        Returns:
            Their mean, on the CPU, float64.
        """
        values = values.detach().to("cpu", torch.float64)
        if self._group is not None:
            dist.all_reduce(values, group=self._group)
        return values / self.num_workers

    def maximum(self, values: list[float]) -> list[float]:
        """Take the largest of each number over the workers.

        Args:
            values: As many on every worker.

        Returns:
            The maxima.
        """
        tensor = torch.tensor(values, dtype=torch.float64)
        if self._group is not None:
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self._group)
        return tensor.tolist()

    def start_broadcast(self, values: Tensor) -> dist.Work | None:
        """Begin to send numbers from rank 0 to all.

        Args:
            values: On the CPU; overwritten on the others once the work is waited for.

        Returns:
            The work under way, or ``None`` alone.
        """
        return dist.broadcast(values, src=0, group=self._group, async_op=True) if self._group is not None else None

    def share(self, value: T) -> T:
        """Send an object from rank 0 to all.

        Args:
            value: Picklable; that of rank 0 counts.

        Returns:
            Rank 0's value.
        """
        box = [value]
        if self._group is not None:
            dist.broadcast_object_list(box, src=0, group=self._group)
        return box[0]
