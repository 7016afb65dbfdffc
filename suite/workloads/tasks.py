"""What a workload asks of a model: losses and metrics of classification and of language modelling.

B samples, T positions, V vocabulary or classes.
"""

import math

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

MAX_LOSS = 700.0  # nats; a greater one has no exponential in float64


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return whether each sample's most likely class is the right one (top-1).

    Args:
        outputs: Logits, shape ``[B, V]``.
        targets: Class indices, shape ``[B]``.

    Returns:
        Shape ``[B]``, 0 or 1.
    """
    return (outputs.argmax(dim=1) == targets).float()


def top5_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return whether the right class is among each sample's five most likely ones.

    Args:
        outputs: Logits, shape ``[B, V]``, V >= 5.
        targets: Class indices, shape ``[B]``.

    Returns:
        Shape ``[B]``, 0 or 1.
    """
    return (outputs.topk(5, dim=1).indices == targets[:, None]).any(dim=1).float()


def token_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the cross entropy of the next token, in nats, mean over samples and positions.

    Args:
        outputs: Logits, shape ``[B, T, V]``.
        targets: Tokens, shape ``[B, T]``.

    Returns:
        A scalar.
    """
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def sample_token_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return each sample's cross entropy of the next token, in nats, mean over positions.

    Args:
        outputs: Logits, shape ``[B, T, V]``.
        targets: Tokens, shape ``[B, T]``.

    Returns:
        Shape ``[B]``.
    """
    return F.cross_entropy(outputs.transpose(1, 2), targets, reduction="none").mean(dim=1)


def perplexity(mean_loss: float) -> float:
    """Return the perplexity of a mean cross entropy.

    Args:
        mean_loss: In nats; all samples of the same length, so that the mean over them is the mean over tokens.

    Returns:
        Its exponential; that of :data:`MAX_LOSS` where the loss is greater.
    """
    return math.exp(min(mean_loss, MAX_LOSS))
