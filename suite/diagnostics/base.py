"""What a diagnostic is given, and what it gives back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.optim import Optimizer


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What a diagnostic sees of a run: at an evaluation, on rank 0, with the clock stopped.

    It changes none of it: whatever differentiates works on a deep copy of the model, which carries no hooks of the
    optimizer.

    Args:
        model: The bare network, in training mode.
        optimizer: Its optimizer.
        loss: ``loss(outputs, targets)``: mean over the samples.
        inputs: Training samples, the same at every moment of a run and for every arm, not augmented, ``[n, ...]``.
        targets: Theirs.
        seed: Of the run.
        step: Training steps taken.
        frac: Of the budget that is used, in (0, 1].
    """

    model: nn.Module
    optimizer: Optimizer
    loss: Callable[[Tensor, Tensor], Tensor]
    inputs: Tensor
    targets: Tensor
    seed: int
    step: int
    frac: float


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a diagnostic found.

    Args:
        values: For the table ``metrics``, by name.
        arrays: For the table ``arrays``, by name; one or two dimensions.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    arrays: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Diagnostic:
    """A diagnostic as the registry knows it.

    Args:
        name: As a study asks for it.
        measure: Measures.
        at: Fractions of the budget, ascending, at which it is called: at the first evaluation that has used as much.
            ``None``: at every evaluation.
    """

    name: str
    measure: Callable[[Moment], Finding]
    at: tuple[float, ...] | None = None
