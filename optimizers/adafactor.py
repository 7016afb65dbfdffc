"""Adafactor: ``torch.optim.Adafactor``."""

import math
from dataclasses import asdict, dataclass

import torch
from torch import nn

from .base import DECOUPLED_WEIGHT_DECAY, Float, OptimizerSpec, SearchSpace, require, trainable
from .grids import paper_spaces


@dataclass(frozen=True, kw_only=True, slots=True)
class AdafactorConfig:
    """Hyperparameters of Adafactor.

    Args:
        lr: Largest relative step, >= 0: the step is this times the root mean square of the parameter at most.
        beta2_decay: Exponent of the decay of squared gradients' averages, 1 - t^beta2_decay; <= 0.
        d: Clipping threshold of the update's root mean square, >= 1.
        weight_decay: Decoupled, >= 0.

    Raises:
        ValueError: If a value breaks its rule.
    """  # noqa: DOC502

    lr: float = 1e-2
    beta2_decay: float = -0.8
    d: float = 1.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.lr < math.inf, "lr", "finite and >= 0", self.lr)
        require(-math.inf < self.beta2_decay <= 0, "beta2_decay", "finite and <= 0", self.beta2_decay)
        require(1 <= self.d < math.inf, "d", "finite and >= 1", self.d)
        require(0 <= self.weight_decay < math.inf, "weight_decay", "finite and >= 0", self.weight_decay)


def build(model: nn.Module, config: AdafactorConfig) -> torch.optim.Adafactor:
    """Return Adafactor over the trainable parameters of a model."""
    return torch.optim.Adafactor(trainable(model), **asdict(config))


SEARCH_SPACE: SearchSpace = {"lr": Float(low=1e-4, high=1e-1, log=True)}
WIDE: SearchSpace = {
    **SEARCH_SPACE,
    "weight_decay": DECOUPLED_WEIGHT_DECAY,
    "beta2_decay": Float(low=-1.0, high=-0.5),  # what its paper tried
}

SPEC = OptimizerSpec(
    name="adafactor",
    config=AdafactorConfig,
    build=build,
    search_space=SEARCH_SPACE,
    spaces={"wide": WIDE, **paper_spaces()},
    reference="Shazeer and Stern (2018), Adafactor: Adaptive Learning Rates with Sublinear Memory Cost, ICML",
)
