"""Communication between the workers of a run: one fused collective at a time, nothing without a process group."""

import weakref
from collections.abc import Sequence
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


def mean_of_each(tensors: Sequence[Tensor], group: "ProcessGroup") -> list[Tensor]:
    """Return the mean of each tensor over all workers, in one all-reduce.

    Args:
        tensors: Of the same shapes on all workers, on one device; zeros for one that this worker lacks.
        group: The workers.

    Returns:
        The means, of the same shapes and dtypes.
    """
    buffer = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(buffer, group=group)
    buffer /= dist.get_world_size(group)
    means = buffer.split([tensor.numel() for tensor in tensors])
    return [mean.view(tensor.shape).to(tensor.dtype) for mean, tensor in zip(means, tensors, strict=True)]


def average_gradients(params: Sequence[Tensor], group: "ProcessGroup") -> None:
    """Replace the gradient of each parameter by its mean over all workers, in one all-reduce.

    As in DistributedDataParallel, a worker without a gradient counts as zeros, and one that no worker has stays None.
    Only where this worker lacks one does the host wait for the device, to learn which it is.

    Args:
        params: The same on all workers, on one device, in the same order.
        group: The workers.
    """
    present = params[0].new_ones(len(params))
    lacking = [index for index, param in enumerate(params) if param.grad is None]
    for index in lacking:
        present[index] = 0
    *means, present = mean_of_each([*map(_gradient_or_zeros, params), present], group)
    is_held = present.tolist() if lacking else [1.0] * len(params)
    for param, mean, held in zip(params, means, is_held, strict=True):
        if param.grad is not None:
            param.grad.copy_(mean)
        elif held:
            param.grad = mean.clone()


def _gradient_or_zeros(param: Tensor) -> Tensor:
    return torch.zeros_like(param) if param.grad is None else param.grad


def _own_group() -> "ProcessGroup":
    default = dist.group.WORLD
    assert default is not None
    if default not in _own_groups:
        own = dist.new_group()
        assert not isinstance(own, int)  # a worker of the default group is a member
        _own_groups[default] = own
    return _own_groups[default]
