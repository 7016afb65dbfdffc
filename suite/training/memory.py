"""Memory of a run: exact bytes of parameters and optimizer state, and what the process or the device peaked at."""

import ctypes
import os
import resource
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_MAX_INT = 2**31 - 1


def keep_freed_memory() -> None:
    """Have this process keep the memory that a training step frees, for the next one.

    glibc gives freed memory back to the system, block by block or where it lies at the top of the heap, and the next
    step pays for each page anew: a fifth of a step of a small GPT. Whether it does hangs on which small tensor happens
    to lie on top, so that it would slow one arm and not another. Without glibc nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _MAX_INT)


def parameter_bytes(model: nn.Module) -> tuple[int, int]:
    """Count the trainable parameters.

    Args:
        model: Any module.

    Returns:
        Their number and their bytes.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    return sum(p.numel() for p in parameters), sum(p.numel() * p.element_size() for p in parameters)


def optimizer_state_bytes(optimizer: Optimizer) -> int:
    """Count the bytes of every tensor that an optimizer holds beside the parameters, each storage once.

    Args:
        optimizer: Its attributes are followed, whatever they are nested in; modules, parameters and gradients are not.

    Returns:
        Bytes.
    """
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in _tensors(vars(optimizer), set())}
    return sum(storages.values())


def reset_peaks(device: torch.device) -> None:
    """Forget earlier peaks of the device; those of the process cannot be forgotten.

    Args:
        device: Where the model trains.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peaks(device: torch.device) -> dict[str, int | None]:
    """Return the peaks since :func:`reset_peaks`, and of the process since its start.

    Args:
        device: Where the model trains.

    Returns:
        ``peak_rss_bytes``, ``peak_cuda_allocated_bytes`` and ``peak_cuda_reserved_bytes``; the latter null on the CPU.
    """
    is_cuda = device.type == "cuda"
    unit = 1 if sys.platform == "darwin" else 1024  # Linux reports KiB
    return {
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        "peak_cuda_allocated_bytes": torch.cuda.max_memory_allocated(device) if is_cuda else None,
        "peak_cuda_reserved_bytes": torch.cuda.max_memory_reserved(device) if is_cuda else None,
    }


def resident_bytes() -> int | None:
    """Return the memory of this process that is resident now; ``None`` where there is no ``/proc``."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if sys.platform == "linux" else None


def _tensors(value: object, seen: set[int]) -> Iterator[Tensor]:
    """Yield the tensors that can be reached from a value."""
    if id(value) in seen or isinstance(value, nn.Module | nn.Parameter | type):
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item, seen)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item, seen)
    elif type(value).__module__.partition(".")[0] not in sys.stdlib_module_names:
        names = (name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ()))
        yield from _tensors({**getattr(value, "__dict__", {}), **{n: getattr(value, n, None) for n in names}}, seen)
