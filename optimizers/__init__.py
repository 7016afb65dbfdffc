"""Optimizers for anyone's training loop, and the table of those that Fisherbench compares.

To add one: write ``optimizers/<name>.py`` with its ``SPEC``, and add the specification to :data:`REGISTRY`.
"""

import importlib

from . import adafactor, adafisher, adahessian, adam, eva, kfac, sgd, shampoo
from .adafisher import AdaFisher, AdaFisherW
from .adahessian import AdaHessian
from .base import Categorical, Float, OptimizerSpec, Placebo, Refreshing, level_shares
from .eva import Eva
from .foreign import spec_of
from .kfac import KFAC
from .shampoo import Shampoo

__all__ = [
    "KFAC",
    "REGISTRY",
    "AdaFisher",
    "AdaFisherW",
    "AdaHessian",
    "Categorical",
    "Eva",
    "Float",
    "OptimizerSpec",
    "Placebo",
    "Refreshing",
    "Shampoo",
    "find",
    "level_shares",
    "spec_of",
]

REGISTRY: dict[str, OptimizerSpec] = {
    "sgd": sgd.SPEC,
    "adam": adam.SPEC,
    "adamw": adam.W_SPEC,
    "adafactor": adafactor.SPEC,
    "adafisher": adafisher.SPEC,
    "adafisherw": adafisher.W_SPEC,
    "adafisher_released": adafisher.RELEASED_SPEC,
    "adahessian": adahessian.SPEC,
    "kfac": kfac.SPEC,
    "shampoo": shampoo.SPEC,
    "eva": eva.SPEC,
}


def find(name: str) -> OptimizerSpec:
    """Return the specification of an optimizer.

    Args:
        name: A key of :data:`REGISTRY`; ``package.module.Class``, an optimizer class such as ``torch.optim.NAdam``; or
            ``package.module:SPEC``, a specification of a user's own.

    Returns:
        The specification.

    Raises:
        ValueError: If there is none of that name, or if it is a class that cannot be an arm.
    """
    if name in REGISTRY:
        return REGISTRY[name]
    if ":" not in name:
        if "." in name:
            return spec_of(name)
        raise ValueError(
            f"no optimizer {name!r}; known: {', '.join(REGISTRY)}, package.module.Class, or package.module:SPEC"
        )
    module, _, attribute = name.partition(":")
    try:
        spec = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise ValueError(f"no optimizer {name!r}: {error}") from error
    if not isinstance(spec, OptimizerSpec):
        raise ValueError(f"{name!r} must be an OptimizerSpec, but is a {type(spec).__name__}")
    return spec
