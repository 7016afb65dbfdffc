"""Seeds: every random draw of a run is a pure function of the run's seed and of where in the run it happens.

Nothing hangs on the state of a generator, so there is none to save: a resumed run draws what an unbroken one draws.
"""

import hashlib

import torch
from torch import Tensor


def derive(seed: int, *path: str | int) -> int:
    """Return the seed of one purpose.

    Args:
        seed: Of the run.
        *path: The purpose and its coordinates, e.g. ``"order", epoch``.

    Returns:
        A number in [0, 2**63); different paths give independent ones.
    """
    digest = hashlib.sha256(repr((seed, *path)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def permutation(seed: int, epoch: int, num_samples: int) -> Tensor:
    """Return the order in which an epoch visits the samples.

    Args:
        seed: Of the run.
        epoch: From 0.
        num_samples: Samples in the training split.

    Returns:
        Shape ``[num_samples]``, a permutation of the indices.
    """
    generator = torch.Generator().manual_seed(derive(seed, "order", epoch))
    return torch.randperm(num_samples, generator=generator)


def uniforms(seed: int, epoch: int, num_samples: int, num_draws: int) -> Tensor:
    """Return what the augmentations of an epoch are made of: a row of random numbers for each sample.

    Args:
        seed: Of the run.
        epoch: From 0.
        num_samples: Samples in the training split.
        num_draws: Numbers a sample.

    Returns:
        Uniform in [0, 1), shape ``[num_samples, num_draws]``; row i belongs to sample i wherever it comes in the epoch.
    """
    generator = torch.Generator().manual_seed(derive(seed, "augment", epoch))
    return torch.rand(num_samples, num_draws, generator=generator)


def seed_initialization(seed: int) -> None:
    """Seed torch's global generators for building the model: the same on all workers and for all arms.

    Args:
        seed: Of the run.
    """
    torch.manual_seed(derive(seed, "init"))


def seed_step(seed: int, step: int, rank: int, device: torch.device) -> None:
    """Seed torch's global generators for the randomness of one training step, such as dropout.

    Args:
        seed: Of the run.
        step: From 0.
        rank: Of the worker.
        device: Where the model trains.
    """
    number = derive(seed, "step", step, rank)
    torch.default_generator.manual_seed(number)  # torch.manual_seed asks every backend: 150 µs a step instead of 1
    if device.type == "cuda":
        torch.cuda.manual_seed(number)
