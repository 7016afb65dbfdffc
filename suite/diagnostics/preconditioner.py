"""How far a diagonal preconditioner is from a constant: whether curvature acted at all.

A preconditioner with spread 1 divides every entry of the gradient by the same number: SGD with another learning rate.
The paper's min-max puts the extremes at λ and 1 + λ by construction, so the ratio of percentiles says more there.
"""

import torch
from torch import nn
from torch.optim import Optimizer

from suite.diagnostics.base import Diagnostic, Finding, Moment

MAX_ENTRIES = 1_000_000  # quantiles of larger networks are taken over evenly spaced entries


def preconditioner_spread(model: nn.Module, optimizer: Optimizer) -> dict[str, float]:
    """Return max F̃ / min F̃ over the network and per parameter, and the ratio of the 95th to the 5th percentile.

    Args:
        model: The bare module.
        optimizer: Any; those without a ``fisher_diag`` have no such preconditioner.

    Returns:
        ``preconditioner_spread``, ``preconditioner_spread_p95_p05`` and ``preconditioner_spread/<parameter>``; empty
        without a preconditioner.
    """
    fisher_diag = getattr(optimizer, "fisher_diag", None)
    if fisher_diag is None:
        return {}
    diagonals = {name: fisher_diag(p).detach().flatten() for name, p in model.named_parameters() if p.requires_grad}
    everything = torch.cat([d.float() for d in diagonals.values()])
    stride = -(-len(everything) // MAX_ENTRIES)
    low, high = torch.quantile(everything[::stride], torch.tensor([0.05, 0.95], device=everything.device)).tolist()
    return {
        "preconditioner_spread": (everything.max() / everything.min()).item(),
        "preconditioner_spread_p95_p05": high / low,
        **{f"preconditioner_spread/{name}": (d.max() / d.min()).item() for name, d in diagonals.items()},
    }


def _measure(moment: Moment) -> Finding:
    return Finding(values=preconditioner_spread(moment.model, moment.optimizer))


PRECONDITIONER_SPREAD = Diagnostic(name="preconditioner_spread", measure=_measure)
