r"""Shampoo: each weight matrix preconditioned from its left and its right.

Gupta, Koren and Singer (2018), "Shampoo: Preconditioned Stochastic Tensor Optimization", ICML, Algorithm 1. A gradient
G of two dimensions or more, taken as a matrix [first dimension, product of the others], is preconditioned by

.. math:: P = L^{-1/4} \, G \, R^{-1/4}, \qquad L = \sum_t G_t G_t^T, \qquad R = \sum_t G_t^T G_t

with the practice that made the method usable: Anil et al. (2020), "Scalable Second Order Optimization for Deep
Learning", and Shi et al. (2023), "A Distributed Data-Parallel PyTorch Implementation of the Distributed Shampoo
Optimizer": matrices cut into blocks, running averages, roots renewed at an interval, damping relative to the largest
eigenvalue, and *grafting*: P is rescaled to the norm of another method's step. Vectors and scalars take the diagonal of
their statistic. The result goes through momentum and weight decay as in ``torch.optim.SGD``.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from .base import BETA, WEIGHT_DECAY, Categorical, Float, OptimizerSpec, SearchSpace, require, require_count
from .blocks import Blocks
from .curvature import CurvatureOptimizer, unwrapped
from .factors import accumulation_dtype
from .grids import SHAMPOO_DAMPING, paper_spaces
from .linalg import add_outer_products, renewed_inverse_root
from .momentum import momentum_update

GROUP_OPTIONS = ("lr", "momentum", "beta2", "damping", "weight_decay")
GRAFTINGS = ("sgd", "adam", "none")
ADAM_EPS = 1e-8


@dataclass(frozen=True, kw_only=True, slots=True)
class ShampooConfig:
    """Hyperparameters.

    Args:
        lr: Learning rate, >= 0.
        momentum: Of the preconditioned gradient, as in SGD (heavy ball), in [0, 1).
        beta2: Decay of the statistics, in [0, 1]; 1 for sums, as in the paper.
        damping: Added to eigenvalues, as a fraction of the largest one, > 0.
        weight_decay: Added to the direction times the parameter, >= 0.
        grafting: Whose step's norm each parameter's direction is given: ``sgd``, ``adam``, or ``none``.
        block_size: Smallest side of a block, >= 1; no side has twice as many.
        update_interval: Steps from one renewal of the roots to the next, >= 1.

    Raises:
        ValueError: If a value breaks its rule.
    """  # noqa: DOC502

    lr: float = 0.1
    momentum: float = 0.9
    beta2: float = 0.99
    damping: float = 1e-5
    weight_decay: float = 0.0
    grafting: str = "sgd"
    block_size: int = 256
    update_interval: int = 50

    def __post_init__(self) -> None:
        require(0 <= self.lr < math.inf, "lr", "finite and >= 0", self.lr)
        require(0 <= self.momentum < 1, "momentum", "in [0, 1)", self.momentum)
        require(0 <= self.beta2 <= 1, "beta2", "in [0, 1]", self.beta2)
        require(0 < self.damping < math.inf, "damping", "finite and > 0", self.damping)
        require(0 <= self.weight_decay < math.inf, "weight_decay", "finite and >= 0", self.weight_decay)
        require(self.grafting in GRAFTINGS, "grafting", f"one of {', '.join(GRAFTINGS)}", self.grafting)
        for name in ("block_size", "update_interval"):
            require_count(name, getattr(self, name))


def shampoo_direction(blocks: Tensor, left_root: Tensor, right_root: Tensor) -> Tensor:
    r"""Replace each block by :math:`L^{-1/4} G R^{-1/4}`, in place, and return them.

    Args:
        blocks: G, shape ``[K, h, w]``.
        left_root: :math:`L^{-1/4}`, shape ``[K, h, h]``.
        right_root: :math:`R^{-1/4}`, shape ``[K, w, w]``.

    Returns:
        Shape ``[K, h, w]``.
    """
    return torch.bmm(torch.bmm(left_root, blocks), right_root, out=blocks)


def diagonal_direction(grad: Tensor, square: Tensor, damping: float) -> Tensor:
    r"""Return :math:`(v + \delta \max v)^{-1/2} g`, Shampoo's direction of a vector with the diagonal of its statistic.

    Args:
        grad: g, any shape.
        square: v >= 0, its shape.
        damping: δ, > 0.

    Returns:
        Its shape; zero where all of v is.
    """
    return grad / (square + damping * square.amax()).clamp(min=torch.finfo(square.dtype).tiny).sqrt()


class Shampoo(CurvatureOptimizer):
    """Shampoo on a bare model (never its DistributedDataParallel wrapper); used as any optimizer of ``torch.optim``.

    It looks at gradients alone, so any training loop works: gradient accumulation, clipping, ``GradScaler``. Workers of
    DistributedDataParallel have equal gradients, hence equal statistics, and say nothing more to each other. Steps that
    renew no roots do not wait for the device; eigh on CUDA does by itself.

    Args:
        model: The network.
        lr: Learning rate.
        params: Parameters or groups as in ``torch.optim``; groups may override lr, momentum, beta2, damping and
            weight_decay. Default: all trainable parameters of the model.
        momentum: See :class:`ShampooConfig`, as all that follow.
        beta2: Decay of the statistics.
        damping: As a fraction of the largest eigenvalue.
        weight_decay: Added to the direction.
        grafting: ``sgd``, ``adam`` or ``none``.
        block_size: Smallest side of a block.
        update_interval: Steps between renewals of the roots.

    Attributes:
        refresh_intervals: Steps from one renewal of the roots to the next, alone in a tuple.
        refreshed: Whether the last ``step()`` renewed them, 1 or 0.

    Raises:
        ValueError: If a hyperparameter breaks its rule, or a parameter is complex or integer.
    """  # noqa: DOC502

    state_key = "shampoo"

    def __init__(
        self,
        model: nn.Module,
        lr: float = 0.1,
        *,
        params: ParamsT | None = None,
        momentum: float = 0.9,
        beta2: float = 0.99,
        damping: float = 1e-5,
        weight_decay: float = 0.0,
        grafting: str = "sgd",
        block_size: int = 256,
        update_interval: int = 50,
    ) -> None:
        config = ShampooConfig(
            lr=lr,
            momentum=momentum,
            beta2=beta2,
            damping=damping,
            weight_decay=weight_decay,
            grafting=grafting,
            block_size=block_size,
            update_interval=update_interval,
        )
        self._fallbacks = {"retried_roots": 0, "kept_roots": 0}
        super().__init__(
            unwrapped(model),
            params,
            config=config,
            group_options=GROUP_OPTIONS,
            refresh_intervals=(update_interval,),
        )

    def fallbacks(self) -> dict[str, int]:
        """Return how many roots of blocks failed so far: ``retried_roots`` in float64, ``kept_roots`` there too."""
        return dict(self._fallbacks)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a state; see :meth:`CurvatureOptimizer.load_state_dict`. Statistics keep their precision.

        Args:
            state_dict: What :meth:`state_dict` returned.

        Raises:
            ValueError: If it is of another optimizer or another model; nothing has changed then.
        """  # noqa: DOC502
        super().load_state_dict(state_dict)
        ids = [index for group in state_dict["param_groups"] for index in group["params"]]
        params = [param for group in self.param_groups for param in group["params"]]
        for index, param in zip(ids, params, strict=True):
            for name, value in state_dict["state"].get(index, {}).items():
                if name != "momentum_buffer":  # torch has cast all to the dtype of the parameter
                    dtype = accumulation_dtype(param.dtype)
                    self.state[param][name] = torch.as_tensor(value).detach().to(param.device, dtype, copy=True)

    def _refresh(self, level: int) -> None:
        """Roots follow the statistics of the very step: see :meth:`_update`."""

    def _new_state(self, param: Tensor) -> dict[str, Any]:
        state = {"momentum_buffer": torch.zeros_like(param, memory_format=torch.preserve_format)}
        like = torch.zeros((), dtype=accumulation_dtype(param.dtype), device=param.device)
        state["weight"] = like.clone()
        if param.dim() < 2 or self._config.grafting == "adam":
            state["square"] = like.new_zeros(param.shape)
        if param.dim() >= 2:
            blocks = Blocks.of(param.shape, self._config.block_size)
            for side, size in (("left", blocks.height), ("right", blocks.width)):
                state[side] = like.new_zeros(blocks.num_blocks, size, size)
                state[f"{side}_root"] = torch.eye(size, dtype=like.dtype, device=like.device).expand_as(state[side])
                state[f"{side}_root"] = state[f"{side}_root"].clone()
        return state

    def _update(self, param: nn.Parameter, group: dict[str, Any]) -> None:
        assert param.grad is not None
        if not param.numel():
            return
        state, beta2 = self.state[param], group["beta2"]
        grad = param.grad.to(accumulation_dtype(param.dtype))
        norm = torch.linalg.vector_norm(grad)
        is_finite = norm.square().isfinite()  # of all entries; else the statistics and their weight decay alike
        share = _share(beta2)
        state["weight"].mul_(beta2).add_(is_finite, alpha=share).clamp_(max=1)
        if "square" in state:
            state["square"].mul_(beta2).add_(torch.where(is_finite, grad.square(), 0), alpha=share)
        if param.dim() < 2:
            direction = diagonal_direction(grad, self._corrected(state, "square"), group["damping"])
        else:
            direction = self._matrix_direction(grad, is_finite, state, beta2=beta2, damping=group["damping"])
        direction.mul_(self._scale(grad, norm, direction, state))
        momentum_update(
            param,
            direction.view_as(param).to(param.dtype),
            state["momentum_buffer"],
            lr=group["lr"],
            momentum=group["momentum"],
            weight_decay=group["weight_decay"],
        )

    def _matrix_direction(
        self, grad: Tensor, is_finite: Tensor, state: dict[str, Any], *, beta2: float, damping: float
    ) -> Tensor:
        """Fold a gradient into its statistics, renew their roots where due, and return its direction as a matrix."""
        blocks = Blocks.of(grad.shape, self._config.block_size)
        view = blocks.cut(grad)
        parts = torch.where(is_finite, view, grad.new_zeros(()), out=grad.new_empty(view.shape)).flatten(0, 1)
        share = _share(beta2)
        add_outer_products(state["left"], parts, decay=beta2, share=share)
        add_outer_products(state["right"], parts.mT, decay=beta2, share=share)
        if self.refreshed:
            for side in ("left", "right"):
                root, retried, kept = renewed_inverse_root(
                    state[f"{side}_root"], self._corrected(state, side), 4, damping=damping
                )
                state[f"{side}_root"] = root
                self._fallbacks["retried_roots"] += retried
                self._fallbacks["kept_roots"] += kept
        return blocks.join(shampoo_direction(parts, state["left_root"], state["right_root"]))

    def _corrected(self, state: dict[str, Any], name: str) -> Tensor:
        """Return a running average over the weight of what it has seen, which begins at zero."""
        statistic, weight = state[name], state["weight"]
        corrected: Tensor = statistic / weight.clamp(min=torch.finfo(weight.dtype).tiny)
        return corrected

    def _scale(self, grad: Tensor, norm: Tensor, direction: Tensor, state: dict[str, Any]) -> Tensor:
        """Return by what a direction is multiplied for the norm of the grafted step; NaN where that is not finite."""
        if self._config.grafting == "none":
            return torch.where(norm.isfinite(), 1, torch.nan)
        if self._config.grafting == "adam":
            norm = torch.linalg.vector_norm(grad / self._corrected(state, "square").sqrt_().add_(ADAM_EPS))
        scale: Tensor = norm / torch.linalg.vector_norm(direction).clamp(min=torch.finfo(norm.dtype).tiny)
        return scale

    def _own_state(self) -> dict[str, Any]:
        return {"fallbacks": dict(self._fallbacks)}

    def _check_own_state(self, own: Mapping[str, Any]) -> None:
        loaded = own["fallbacks"]
        is_whole = isinstance(loaded, Mapping) and loaded.keys() == self._fallbacks.keys()
        is_whole = is_whole and all(type(count) is int for count in loaded.values())
        require(is_whole, "the loaded fallbacks", f"counts of {', '.join(self._fallbacks)}", loaded)

    def _load_own_state(self, own: Mapping[str, Any]) -> None:
        self._fallbacks = dict(own["fallbacks"])


def _share(beta2: float) -> float:
    """Return the weight of a new statistic beside ``beta2`` of the old one: what is missing to 1, or 1 for sums."""
    return 1 - beta2 if beta2 < 1 else 1.0


def build(model: nn.Module, config: ShampooConfig) -> Shampoo:
    """Return Shampoo over the trainable parameters of a model."""
    return Shampoo(model, **asdict(config))


# Grafted to SGD's norm, so with SGD's learning rates. A damping below 1e-6 would drown in the round-off of float32
# eigenvalues, and at 1e-2 a root varies by a factor of 3 at most. The paper's grid lies within.
SEARCH_SPACE: SearchSpace = {
    "lr": Float(low=1e-3, high=1.0, log=True),
    "damping": Float(low=1e-6, high=1e-2, log=True),
}
WIDE: SearchSpace = {
    **SEARCH_SPACE,
    "weight_decay": WEIGHT_DECAY,
    "momentum": BETA,
    "beta2": Categorical(choices=(0.9, 0.99, 0.999)),
    "update_interval": Categorical(choices=(10, 50, 100)),
}

SPEC = OptimizerSpec(
    name="shampoo",
    config=ShampooConfig,
    build=build,
    search_space=SEARCH_SPACE,
    spaces={"wide": WIDE, **paper_spaces(damping=SHAMPOO_DAMPING)},
    cost_fields=frozenset({"update_interval", "block_size", "grafting"}),
    reference="Gupta, Koren and Singer (2018), Shampoo: Preconditioned Stochastic Tensor Optimization, ICML",
)
