"""How the entries of the Fisher diagonal are distributed while training goes on (Figs 4 and 11)."""

import torch
from torch import Tensor

from suite.diagnostics.base import Diagnostic, Finding, Moment
from suite.diagnostics.factors import histogram_layers
from suite.diagnostics.fisher import Diagonals, estimates, fisher_diagonals, some_samples

LOWEST, HIGHEST = -12, 3  # decades
NUM_BINS = 64


def edges() -> Tensor:
    """Return the edges of the bins, evenly spaced in the logarithm; shape ``[65]``."""
    return torch.logspace(LOWEST, HIGHEST, NUM_BINS + 1, dtype=torch.float64)


def histogram(values: Tensor) -> Tensor:
    """Return how many entries are in each bin, the lower edge included.

    Args:
        values: Any shape.

    Returns:
        Shape ``[66]``, float64: first those below the lowest edge, zeros among them, last those from the highest edge
        on and those that are no number.
    """
    places = torch.bucketize(values.detach().flatten().double().cpu(), edges(), right=True)
    return torch.bincount(places, minlength=NUM_BINS + 2).double()


def fisher_histograms(moment: Moment) -> Finding:
    """Return histograms of the Fisher diagonal of three layers, weight and bias together.

    Args:
        moment: The moment, of a classifier.

    Returns:
        ``fisher_histogram/<role>/estimate``, if the optimizer has one, and ``fisher_histogram/<role>/true``, roles as
        :func:`~suite.diagnostics.factors.histogram_layers`; ``fisher_histogram/edges``.
    """
    layers = histogram_layers(moment.model)
    params = {
        role: [
            f"{name}.{key}".lstrip(".")
            for key, param in moment.model.get_submodule(name).named_parameters(recurse=False)
            if param.requires_grad
        ]
        for role, name in layers.items()
    }
    wanted = {name for names in params.values() for name in names}
    truth = fisher_diagonals(some_samples(moment), wanted).exact
    found = estimates(moment)
    arrays = {"fisher_histogram/edges": edges()}
    for role, names in params.items():
        for which, diagonals in (("estimate", found), ("true", truth)):
            if names and all(name in diagonals for name in names):
                arrays[f"fisher_histogram/{role}/{which}"] = histogram(_joined(diagonals, names))
    return Finding(arrays=arrays)


def _joined(diagonals: Diagonals, names: list[str]) -> Tensor:
    return torch.cat([diagonals[name].flatten() for name in names])


FISHER_HISTOGRAMS = Diagnostic(name="fisher_histograms", measure=fisher_histograms, at=(0.25, 0.5, 0.75, 1.0))
