"""Stochastic gradient descent with momentum: ``torch.optim.SGD``."""

import math
from dataclasses import asdict, dataclass

import torch
from torch import nn

from .base import WEIGHT_DECAY, Categorical, Float, OptimizerSpec, SearchSpace, require, trainable
from .grids import MOMENTUM, paper_spaces


@dataclass(frozen=True, kw_only=True, slots=True)
class SGDConfig:
    """Hyperparameters of SGD.

    Args:
        lr: Learning rate, >= 0.
        momentum: Weight of the old velocity, in [0, 1].
        weight_decay: Added to the gradient times the parameter, >= 0.
        nesterov: Whether to look ahead; needs momentum.

    Raises:
        ValueError: If a value breaks its rule.
    """  # noqa: DOC502

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        require(0 <= self.lr < math.inf, "lr", "finite and >= 0", self.lr)
        require(0 <= self.momentum <= 1, "momentum", "in [0, 1]", self.momentum)
        require(0 <= self.weight_decay < math.inf, "weight_decay", "finite and >= 0", self.weight_decay)
        require(not self.nesterov or self.momentum > 0, "momentum", "> 0 with nesterov", self.momentum)


def build(model: nn.Module, config: SGDConfig) -> torch.optim.SGD:
    """Return SGD over the trainable parameters of a model."""
    return torch.optim.SGD(trainable(model), **asdict(config))


SEARCH_SPACE: SearchSpace = {"lr": Float(low=1e-3, high=1.0, log=True), "momentum": Float(low=0.0, high=0.99)}
WIDE: SearchSpace = {
    **SEARCH_SPACE,
    "momentum": Float(low=0.01, high=0.99),  # Nesterov's needs some
    "weight_decay": WEIGHT_DECAY,
    "nesterov": Categorical(choices=(True, False)),
}

SPEC = OptimizerSpec(
    name="sgd",
    config=SGDConfig,
    build=build,
    search_space=SEARCH_SPACE,
    spaces={"wide": WIDE, **paper_spaces(momentum=MOMENTUM)},
    cost_fields=frozenset({"nesterov"}),
    reference="Sutskever et al. (2013), On the importance of initialization and momentum in deep learning, ICML",
)
