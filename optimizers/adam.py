"""Adam and AdamW: ``torch.optim.Adam`` and ``torch.optim.AdamW``."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .base import (
    BETA,
    DECOUPLED_WEIGHT_DECAY,
    WEIGHT_DECAY,
    Categorical,
    Float,
    OptimizerSpec,
    SearchSpace,
    require,
    trainable,
)
from .grids import paper_spaces


@dataclass(frozen=True, kw_only=True, slots=True)
class AdamConfig:
    """Hyperparameters of Adam and AdamW.

    Args:
        lr: Learning rate, >= 0.
        beta1: Decay of the mean of gradients, in [0, 1).
        beta2: Decay of the mean of squared gradients, in [0, 1).
        eps: Added to the root of the second moment, > 0.
        weight_decay: Adam adds it to the gradient times the parameter, AdamW decouples it; >= 0.

    Raises:
        ValueError: If a value breaks its rule.
    """  # noqa: DOC502

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.lr < math.inf, "lr", "finite and >= 0", self.lr)
        require(0 <= self.beta1 < 1, "beta1", "in [0, 1)", self.beta1)
        require(0 <= self.beta2 < 1, "beta2", "in [0, 1)", self.beta2)
        require(0 < self.eps < math.inf, "eps", "finite and > 0", self.eps)
        require(0 <= self.weight_decay < math.inf, "weight_decay", "finite and >= 0", self.weight_decay)

    @property
    def torch_options(self) -> dict[str, Any]:
        """The keyword arguments of the torch classes."""
        betas = (self.beta1, self.beta2)
        return {"lr": self.lr, "betas": betas, "eps": self.eps, "weight_decay": self.weight_decay}


def build_adam(model: nn.Module, config: AdamConfig) -> torch.optim.Adam:
    """Return Adam over the trainable parameters of a model."""
    return torch.optim.Adam(trainable(model), **config.torch_options)


def build_adamw(model: nn.Module, config: AdamConfig) -> torch.optim.AdamW:
    """Return AdamW over the trainable parameters of a model."""
    return torch.optim.AdamW(trainable(model), **config.torch_options)


SEARCH_SPACE: SearchSpace = {"lr": Float(low=1e-4, high=1e-1, log=True)}
# Kingma and Ba ask for beta1² < sqrt(beta2), which all pairs meet; 0.9 and 0.999, the usual ones, are not at the ends.
WIDE: SearchSpace = {
    **SEARCH_SPACE,
    "weight_decay": WEIGHT_DECAY,
    "beta1": BETA,
    "beta2": Categorical(choices=(0.95, 0.99, 0.999, 0.9999)),
}
W_SEARCH_SPACE: SearchSpace = {**SEARCH_SPACE, "weight_decay": DECOUPLED_WEIGHT_DECAY}

SPEC = OptimizerSpec(
    name="adam",
    config=AdamConfig,
    build=build_adam,
    search_space=SEARCH_SPACE,
    spaces={"wide": WIDE, **paper_spaces()},
    reference="Kingma and Ba (2015), Adam: A Method for Stochastic Optimization, ICLR",
)
W_SPEC = OptimizerSpec(
    name="adamw",
    config=AdamConfig,
    build=build_adamw,
    search_space=W_SEARCH_SPACE,
    spaces={"wide": {**WIDE, **W_SEARCH_SPACE}, **paper_spaces()},
    defaults={"weight_decay": 0.01},
    reference="Loshchilov and Hutter (2019), Decoupled Weight Decay Regularization, ICLR",
)
