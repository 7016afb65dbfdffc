"""Randomness without a state to be saved: every draw is a function of a seed and of where in training it is made."""

import hashlib

import torch


def generator_of(device: torch.device | str, seed: int, *path: int) -> torch.Generator:
    """Return a generator that a seed and a path alone decide, on devices of one kind.

    Args:
        device: Where it draws.
        seed: Of the optimizer.
        *path: The coordinates of the draw, such as the step.

    Returns:
        A new generator.
    """
    digest = hashlib.sha256(repr((seed, *path)).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
