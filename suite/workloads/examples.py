"""Made-up batches of the shapes that networks take: for tests, and for what a step costs before the data are there."""

import torch
from torch import Tensor


def images(num_samples: int, *, shape: tuple[int, int, int], num_classes: int) -> tuple[Tensor, Tensor]:
    """Return standardized noise and random classes.

    Args:
        num_samples: >= 1.
        shape: Channels, height, width.
        num_classes: Classes to draw from.

    Returns:
        Inputs, shape ``[num_samples, *shape]``, and targets, shape ``[num_samples]``; the same at every call.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(num_samples, *shape, generator=generator)
    return inputs, torch.randint(num_classes, (num_samples,), generator=generator)


def tokens(num_samples: int, *, length: int, vocab_size: int) -> tuple[Tensor, Tensor]:
    """Return random tokens, and the same a position later.

    Args:
        num_samples: >= 1.
        length: Positions.
        vocab_size: Tokens to draw from.

    Returns:
        Inputs and targets, each of shape ``[num_samples, length]``; the same at every call.
    """
    stream = torch.randint(vocab_size, (num_samples, length + 1), generator=torch.Generator().manual_seed(0))
    return stream[:, :-1], stream[:, 1:]
