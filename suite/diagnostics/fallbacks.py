"""How often an optimizer did something else than asked, because its linear algebra failed."""

from torch import nn
from torch.optim import Optimizer

from suite.diagnostics.base import Diagnostic, Finding, Moment


def fallbacks(model: nn.Module, optimizer: Optimizer) -> dict[str, float]:
    """Return how often an optimizer fell back, since the start of the run.

    Args:
        model: The bare module.
        optimizer: Any; those that can fall back have a method ``fallbacks``.

    Returns:
        ``fallbacks/<kind>`` by kind; empty for one that cannot.
    """
    counts: dict[str, int] = getattr(optimizer, "fallbacks", dict)()
    return {f"fallbacks/{kind}": float(count) for kind, count in counts.items()}


def _measure(moment: Moment) -> Finding:
    return Finding(values=fallbacks(moment.model, moment.optimizer))


FALLBACKS = Diagnostic(name="fallbacks", measure=_measure)
