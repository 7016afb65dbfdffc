"""The step of ``torch.optim.SGD`` along a direction that is not the gradient."""

from torch import Tensor


def momentum_update(
    param: Tensor,
    direction: Tensor,
    velocity: Tensor,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    shrink: Tensor | None = None,
) -> None:
    r"""Move a parameter and its velocity in place.

    .. math:: v \leftarrow \mu v + \nu p + \eta \theta, \qquad \theta \leftarrow \theta - \alpha v

    Args:
        param: θ, any shape.
        direction: p, its shape.
        velocity: v, its shape.
        lr: α.
        momentum: μ.
        weight_decay: η.
        shrink: ν, shape ``[]``; None for 1.
    """
    velocity.mul_(momentum)
    velocity.add_(direction) if shrink is None else velocity.addcmul_(direction, shrink)
    if weight_decay:
        velocity.add_(param, alpha=weight_decay)
    param.add_(velocity, alpha=-lr)
