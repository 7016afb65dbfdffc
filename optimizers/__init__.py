"""Optimizers for anyone's training loop, and the table of those that Fisherbench compares.

To add one: write ``optimizers/<name>.py`` with its ``SPEC``, and add the specification to :data:`REGISTRY`.
"""

import importlib

from . import adafactor, adafisher, adam, sgd
from .adafisher import AdaFisher, AdaFisherW
from .base import Categorical, Float, OptimizerSpec, Refreshing, level_shares

__all__ = [
    "REGISTRY",
    "AdaFisher",
    "AdaFisherW",
    "Categorical",
    "Float",
    "OptimizerSpec",
    "Refreshing",
    "find",
    "level_shares",
]

REGISTRY: dict[str, OptimizerSpec] = {
    "sgd": sgd.SPEC,
    "adam": adam.SPEC,
    "adamw": adam.W_SPEC,
    "adafactor": adafactor.SPEC,
    "adafisher": adafisher.SPEC,
    "adafisherw": adafisher.W_SPEC,
    "adafisher_released": adafisher.RELEASED_SPEC,
}


def find(name: str) -> OptimizerSpec:
    """Return the specification of an optimizer.

    Args:
        name: A key of :data:`REGISTRY`, or ``package.module:SPEC`` for one of a user's own.

    Returns:
        The specification.

    Raises:
        ValueError: If there is none of that name.
    """
    if name in REGISTRY:
        return REGISTRY[name]
    if ":" not in name:
        raise ValueError(f"no optimizer {name!r}; known: {', '.join(REGISTRY)}, or package.module:SPEC")
    module, _, attribute = name.partition(":")
    try:
        spec = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise ValueError(f"no optimizer {name!r}: {error}") from error
    if not isinstance(spec, OptimizerSpec):
        raise ValueError(f"{name!r} must be an OptimizerSpec, but is a {type(spec).__name__}")
    return spec
