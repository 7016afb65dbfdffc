"""Communication between the workers of a run: one fused collective at a time, nothing without a process group."""

import weakref
from typing import TYPE_CHECKING, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from .factors import spread

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

# The group made for each default group; gone with it, so that a process may destroy its group and start another.
_own_groups: "weakref.WeakKeyDictionary[ProcessGroup, ProcessGroup]" = weakref.WeakKeyDictionary()


def resolve_group(process_group: "ProcessGroup | Literal[False] | None") -> "ProcessGroup | None":
    """Return the group to communicate in, or None where there is nobody to talk to.

    By default it is a group of our own over the workers of the default group, so that our collectives never interleave
    with those of DistributedDataParallel. It is made once for the life of the default group: a worker that trains many
    runs in a row uses one. Making it is a collective: all workers must call this at the same point.

    Args:
        process_group: A group to use, None for our own over the default group, False for none.

    Returns:
        The group, or None without a process group, with a single worker, or for False.
    """
    if process_group is False or not (dist.is_available() and dist.is_initialized()):
        return None
    if dist.get_world_size(process_group) == 1:
        return None
    return process_group or _own_group()


def mean_over_workers(
    values: Tensor, present: Tensor, sizes: Tensor, group: "ProcessGroup | None"
) -> tuple[Tensor, Tensor]:
    """Return the mean of each segment over the workers that have it, in one all-reduce.

    Non-finite entries of any worker make those entries non-finite on all.

    Args:
        values: Shape ``[n]``; zeros in the segments that this worker lacks.
        present: Shape ``[num_segments]``: 1 for each segment that this worker has, else 0.
        sizes: Shape ``[num_segments]``, integers: the lengths of the segments; they sum to n.
        group: The workers, or None for this one alone.

    Returns:
        The means, shape ``[n]``, and how many workers had each segment, shape ``[num_segments]``.
    """
    if group is None:
        return values, present
    buffer = torch.cat([values, present])
    dist.all_reduce(buffer, group=group)
    total, num_present = torch.split(buffer, [values.numel(), present.numel()])
    return total / spread(num_present.clamp(min=1), sizes, values.numel()), num_present


def _own_group() -> "ProcessGroup":
    default = dist.group.WORLD
    assert default is not None
    if default not in _own_groups:
        own = dist.new_group()
        assert not isinstance(own, int)  # a worker of the default group is a member
        _own_groups[default] = own
    return _own_groups[default]
