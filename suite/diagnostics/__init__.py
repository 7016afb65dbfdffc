"""What is measured about curvature and memory while a run trains. No Ray, no files.

To add one: write ``suite/diagnostics/<name>.py`` with a :class:`Diagnostic`, and add it to :data:`REGISTRY`.
"""

from suite.diagnostics.base import Diagnostic, Finding, Moment
from suite.diagnostics.fallbacks import FALLBACKS, fallbacks
from suite.diagnostics.fisher import FISHER_ACCURACY
from suite.diagnostics.histograms import FISHER_HISTOGRAMS
from suite.diagnostics.preconditioner import PRECONDITIONER_SPREAD, preconditioner_spread
from suite.diagnostics.structure import KRONECKER_STRUCTURE
from suite.diagnostics.trajectory import LOSS_PLANE, TRAJECTORY

REGISTRY: dict[str, Diagnostic] = {
    diagnostic.name: diagnostic
    for diagnostic in (
        PRECONDITIONER_SPREAD,
        FALLBACKS,
        KRONECKER_STRUCTURE,
        FISHER_ACCURACY,
        FISHER_HISTOGRAMS,
        TRAJECTORY,
        LOSS_PLANE,
    )
}
ALWAYS = ("preconditioner_spread", "fallbacks")
MEMORY = "memory"  # measured after a run, by steps of its own

__all__ = [
    "ALWAYS",
    "MEMORY",
    "REGISTRY",
    "Diagnostic",
    "Finding",
    "Moment",
    "fallbacks",
    "preconditioner_spread",
]
