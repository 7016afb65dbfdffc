"""What is measured about curvature while a run trains. No Ray, no files."""

from suite.diagnostics.fallbacks import fallbacks
from suite.diagnostics.preconditioner import preconditioner_spread

__all__ = ["fallbacks", "preconditioner_spread"]
