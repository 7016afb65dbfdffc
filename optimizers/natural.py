r"""What approximations of the natural gradient share: directions of all layers, a trust region, momentum.

.. math:: p = \tilde F^{-1} g, \qquad
          \nu = \min\left(1, \sqrt{\frac{\kappa}{\sum \alpha^2 \langle g, p \rangle}}\right), \qquad
          v \leftarrow \mu v + \nu p + \eta \theta, \qquad \theta \leftarrow \theta - \alpha v

κ bounds the step's squared length in the metric of :math:`\tilde F`, twice the Kullback-Leibler divergence that the
quadratic model predicts ("KL clipping"; Ba, Grosse and Martens 2017, "Distributed Second-Order Optimization using
Kronecker-Factored Approximations", ICLR, Section 5). The sum runs over the parameters of captured layers. All others
take SGD's step: p = g and ν = 1. A parameter that several layers share takes the mean of its directions.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from .base import require
from .capture import Capture, Layer, count_uses
from .curvature import CurvatureOptimizer
from .factors import accumulation_dtype
from .layers import MatrixRule
from .momentum import momentum_update

GROUP_OPTIONS = ("lr", "momentum", "damping", "weight_decay")
LOSS_REDUCTIONS = ("mean", "sum")

M = TypeVar("M", bound=MatrixRule)


@dataclass(frozen=True, kw_only=True, slots=True)
class NaturalGradientConfig:
    """Hyperparameters that these methods share.

    Args:
        lr: Learning rate α, >= 0.
        momentum: Weight μ of the old velocity, in [0, 1).
        damping: λ, > 0.
        factor_decay: Weight of the old factors in their running average, in [0, 1).
        kl_clip: κ, > 0; None for no trust region.
        weight_decay: η, >= 0; bypasses the preconditioner.
        loss_reduction: ``mean`` or ``sum``: how the loss reduces over samples.

    Raises:
        ValueError: If a value breaks its rule.
    """  # noqa: DOC502

    lr: float = 0.1
    momentum: float = 0.9
    damping: float = 1e-3
    factor_decay: float = 0.95
    kl_clip: float | None = 1e-3
    weight_decay: float = 0.0
    loss_reduction: str = "mean"

    def __post_init__(self) -> None:
        require(0 <= self.lr < math.inf, "lr", "finite and >= 0", self.lr)
        require(0 <= self.momentum < 1, "momentum", "in [0, 1)", self.momentum)
        require(0 < self.damping < math.inf, "damping", "finite and > 0", self.damping)
        require(0 <= self.factor_decay < 1, "factor_decay", "in [0, 1)", self.factor_decay)
        is_clip = self.kl_clip is None or 0 < self.kl_clip < math.inf
        require(is_clip, "kl_clip", "None or finite and > 0", self.kl_clip)
        require(0 <= self.weight_decay < math.inf, "weight_decay", "finite and >= 0", self.weight_decay)
        known = ", ".join(LOSS_REDUCTIONS)
        require(self.loss_reduction in LOSS_REDUCTIONS, "loss_reduction", f"one of {known}", self.loss_reduction)


class NaturalGradient(CurvatureOptimizer, Generic[M]):
    """The step of a method that preconditions the gradients of each layer; it says how.

    Args:
        model: The bare network.
        params: As of :class:`CurvatureOptimizer`.
        config: The method's, with at least the hyperparameters above.
        refresh_intervals: As of :class:`CurvatureOptimizer`.
        capture: What collects its statistics.
    """

    def __init__(
        self,
        model: nn.Module,
        params: ParamsT | None,
        *,
        config: NaturalGradientConfig,
        refresh_intervals: tuple[int, ...],
        capture: Capture[M],
    ) -> None:
        self._layers = capture.layers
        self._num_uses = count_uses(model)
        self._kl_clip = config.kl_clip
        self._directions: dict[nn.Parameter, Tensor] = {}
        self._shrinks: dict[nn.Parameter, Tensor] = {}
        super().__init__(
            model,
            params,
            config=config,
            group_options=GROUP_OPTIONS,
            refresh_intervals=refresh_intervals,
            capture=capture,
        )

    @abstractmethod
    def _layer_directions(
        self, layer: Layer[M], grads: Mapping[str, Tensor], damping: float
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the preconditioned gradients of a layer's parameters, all of which are given, by name.

        Beside them whether the layer was ever captured, 1 or 0 in shape ``[]``; where not, they are the gradients.
        """

    def _precondition(self, reached: Sequence[tuple[nn.Parameter, dict[str, Any]]]) -> None:
        grads = {param: param.grad for param, _ in reached if param.grad is not None}
        groups = dict(reached)
        uses: dict[nn.Parameter, list[tuple[Tensor, Tensor]]] = {}
        for layer in self._layers:
            is_whole = "weight" in layer.params  # torch.nn.utils.parametrize makes it of others
            first = next((param for param in layer.params.values() if param in grads), None)
            if is_whole and first is not None:
                own = {n: grads[p] if p in grads else torch.zeros_like(p) for n, p in layer.params.items()}
                directions, is_captured = self._layer_directions(layer, own, groups[first]["damping"])
                for name, direction in directions.items():
                    uses.setdefault(layer.params[name], []).append((direction.to(own[name].dtype), is_captured))
        self._directions = {p: self._mean(p, grad, [each for each, _ in uses.get(p, [])]) for p, grad in grads.items()}
        self._shrinks = {}
        if self._kl_clip is None:
            return
        trusted = {p: torch.stack([flag for _, flag in uses[p]]).amax() for p in grads if p in uses}
        lengths = [
            group["lr"] ** 2 * trusted[p] * _dot(grads[p], self._directions[p]) for p, group in reached if p in trusted
        ]
        if lengths:
            shrink = (self._kl_clip / torch.stack(lengths).sum().clamp(min=0)).sqrt().clamp(max=1)
            self._shrinks = {p: torch.where(flag > 0, shrink, 1.0).to(p) for p, flag in trusted.items()}

    def _mean(self, param: nn.Parameter, grad: Tensor, directions: list[Tensor]) -> Tensor:
        """Return the mean over the uses of a parameter, the gradient itself for those without a rule."""
        num_uses = self._num_uses.get(param, 1)
        if not directions:
            return grad
        if num_uses == len(directions) == 1:
            return directions[0]
        total = grad * (num_uses - len(directions))
        for direction in directions:
            total += direction
        return total / num_uses

    def _new_state(self, param: Tensor) -> dict[str, Any]:
        return {"velocity": torch.zeros_like(param, memory_format=torch.preserve_format)}

    def _update(self, param: nn.Parameter, group: dict[str, Any]) -> None:
        momentum_update(
            param,
            self._directions.pop(param),
            self.state[param]["velocity"],
            shrink=self._shrinks.get(param),
            lr=group["lr"],
            momentum=group["momentum"],
            weight_decay=group["weight_decay"],
        )


def _dot(grad: Tensor, direction: Tensor) -> Tensor:
    dtype = accumulation_dtype(grad.dtype)
    return torch.dot(grad.flatten().to(dtype), direction.flatten().to(dtype))
