r"""AdaFisher: momentum preconditioned by the diagonal of a Kronecker-factored Fisher information.

Martins Gomes et al. (2025), "AdaFisher: Adaptive Second Order Optimization via Fisher Information", ICLR, Algorithm 1.
Every step refreshes the diagonal factors H and S of each layer (Eq. 3), forms

.. math:: \tilde F = H' \otimes S' + \lambda I

with the primes standing for min-max normalization (Eq. 4), and moves each parameter by
:math:`-\alpha \, \hat m / \tilde F`, m the bias-corrected average of gradients. Parameters of layers without a rule
(``optimizers/rules.py`` has the table) have :math:`\tilde F = 1 + \lambda`. We differ from Algorithm 1 as printed in
line 7: m is kept uncorrected and t counts from 1, as in Adam.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from .base import (
    BETA,
    DECOUPLED_WEIGHT_DECAY,
    WEIGHT_DECAY,
    Categorical,
    Float,
    OptimizerSpec,
    Placebo,
    SearchSpace,
    require,
)
from .curvature import CurvatureOptimizer, unwrapped
from .fisher import NUMERICS, DiagonalFisher
from .grids import DAMPING, GAMMA, paper_spaces
from .rules import LAYERS

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

GROUP_OPTIONS = ("lr", "beta", "damping", "weight_decay")
LOSS_REDUCTIONS = ("mean", "sum")


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaFisherConfig:
    """Hyperparameters.

    Args:
        lr: Learning rate α, >= 0.
        beta: Decay of the mean of gradients, in [0, 1).
        gamma: Weight γ of the *new* factor in the running average, in (0, 1].
        damping: λ, > 0.
        weight_decay: κ, >= 0; added to the gradient times the parameter unless decoupled.
        decoupled_weight_decay: Whether the decay bypasses momentum and preconditioner (AdaFisherW).
        update_interval: Steps from one refresh of the factors to the next, >= 1; None for 1 with paper numerics and
            100 with released.
        numerics: ``paper`` (Eq. 3 and 4), or ``released`` (the arithmetic of the authors' code).
        layers: ``paper``, ``all`` for GroupNorm, RMSNorm and Embedding too, or ``dense`` for the identity in
            normalization layers (Fig 12 C).
        loss_reduction: ``mean`` or ``sum``: how the loss reduces over samples.
        ema: Whether factors are averaged over refreshes; False for the last refresh's alone (Fig 12 B).
        square_root: Whether the step divides by the square root of F̃ (Fig 12 A).

    Raises:
        ValueError: If a value breaks its rule.
    """  # noqa: DOC502

    lr: float = 1e-3
    beta: float = 0.9
    gamma: float = 0.8
    damping: float = 1e-3
    weight_decay: float = 0.0
    decoupled_weight_decay: bool = False
    update_interval: int | None = None
    numerics: str = "paper"
    layers: str = "paper"
    loss_reduction: str = "mean"
    ema: bool = True
    square_root: bool = False

    def __post_init__(self) -> None:
        require(0 <= self.lr < math.inf, "lr", "finite and >= 0", self.lr)
        require(0 <= self.beta < 1, "beta", "in [0, 1)", self.beta)
        require(0 < self.gamma <= 1, "gamma", "in (0, 1]", self.gamma)
        require(0 < self.damping < math.inf, "damping", "finite and > 0", self.damping)
        require(0 <= self.weight_decay < math.inf, "weight_decay", "finite and >= 0", self.weight_decay)
        is_whole = self.update_interval is None or (type(self.update_interval) is int and self.update_interval >= 1)
        require(is_whole, "update_interval", "None or a whole number >= 1", self.update_interval)
        for name, known in (("numerics", NUMERICS), ("layers", LAYERS), ("loss_reduction", LOSS_REDUCTIONS)):
            require(getattr(self, name) in known, name, f"one of {', '.join(known)}", getattr(self, name))


def adafisher_update(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    fisher: Tensor,
    *,
    step: int,
    lr: float,
    beta: float,
    weight_decay: float,
    is_decoupled: bool,
) -> None:
    r"""Move a parameter and its average of gradients in place: lines 6 to 8 of Algorithm 1.

    .. math:: m \leftarrow \beta m + (1 - \beta) g, \qquad
              \theta \leftarrow \theta - \alpha \left( \frac{m}{(1 - \beta^t) \tilde F} + \kappa \theta \right)

    The term :math:`\kappa \theta` is there with decoupled decay only; otherwise it is added to g.

    Args:
        param: θ, any shape.
        grad: g, its shape.
        exp_avg: m, its shape.
        fisher: F̃, broadcastable to its shape, > 0.
        step: t, >= 1.
        lr: α.
        beta: β.
        weight_decay: κ.
        is_decoupled: Whether the decay bypasses m and F̃.
    """
    if weight_decay and is_decoupled:
        param.mul_(1 - lr * weight_decay)
    elif weight_decay:
        grad = grad.add(param, alpha=weight_decay)
    exp_avg.lerp_(grad, 1 - beta)
    param.addcdiv_(exp_avg, fisher, value=-lr / (1 - beta**step))


class AdaFisher(CurvatureOptimizer):
    """AdaFisher on a bare model (never its DistributedDataParallel wrapper); used as any optimizer of ``torch.optim``.

    Build it after moving the model to its device. Statistics are captured by hooks on the layers, so any training loop
    works: gradient accumulation, clipping, ``GradScaler`` (pass ``loss_scale=scaler.get_scale``), in-place activations,
    activation checkpointing. With several workers the factors are averaged in one collective per refresh.

    Args:
        model: The network whose layers are captured.
        lr: Learning rate α.
        params: Parameters or groups as in ``torch.optim``; groups may override lr, beta, damping and weight_decay.
            Default: all trainable parameters of the model.
        beta: See :class:`AdaFisherConfig`, as all up to ``loss_reduction``.
        gamma: Weight γ of the new factor.
        damping: λ.
        weight_decay: κ.
        decoupled_weight_decay: Whether the decay is decoupled.
        update_interval: Steps between refreshes.
        numerics: ``paper`` or ``released``.
        layers: ``paper``, ``all`` or ``dense``.
        loss_reduction: ``mean`` or ``sum``.
        ema: Whether factors are averaged over refreshes.
        square_root: Whether the step divides by the root of F̃.
        loss_scale: Returns by what the loss is multiplied before ``backward``; None for 1.
        process_group: The workers to average factors over: None for the default group's if there is one, False for
            this one alone.

    Attributes:
        refresh_intervals: Steps from one refresh of the factors to the next, alone in a tuple.
        refreshed: Whether the last ``step()`` refreshed them, 1 or 0.

    Raises:
        ValueError: If a hyperparameter breaks its rule, or a parameter is complex or integer.
    """  # noqa: DOC502

    state_key = "adafisher"

    def __init__(
        self,
        model: nn.Module,
        lr: float = 1e-3,
        *,
        params: ParamsT | None = None,
        beta: float = 0.9,
        gamma: float = 0.8,
        damping: float = 1e-3,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        update_interval: int | None = None,
        numerics: str = "paper",
        layers: str = "paper",
        loss_reduction: str = "mean",
        ema: bool = True,
        square_root: bool = False,
        loss_scale: Callable[[], float] | None = None,
        process_group: "ProcessGroup | Literal[False] | None" = None,
    ) -> None:
        model = unwrapped(model)
        config = AdaFisherConfig(
            lr=lr,
            beta=beta,
            gamma=gamma,
            damping=damping,
            weight_decay=weight_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            update_interval=update_interval,
            numerics=numerics,
            layers=layers,
            loss_reduction=loss_reduction,
            ema=ema,
            square_root=square_root,
        )
        self._fisher = DiagonalFisher(
            model,
            numerics=numerics,
            layers=layers,
            gamma=gamma if ema else None,
            loss_reduction=loss_reduction,
            loss_scale=loss_scale,
            process_group=process_group,
        )
        super().__init__(
            model,
            params,
            config=config,
            group_options=GROUP_OPTIONS,
            refresh_intervals=(update_interval or NUMERICS[numerics].update_interval,),
            capture=self._fisher.capture,
        )

    def fisher_diag(self, param: nn.Parameter) -> Tensor:
        """Return F̃ of a parameter as the last ``step()`` used it, for diagnostics.

        Args:
            param: One of this optimizer's parameters.

        Returns:
            A new tensor of the parameter's shape, dtype and device; with paper numerics in [λ, 1 + λ].

        Raises:
            ValueError: If it is none of this optimizer's parameters.
        """
        for group in self.param_groups:
            if any(param is own for own in group["params"]):
                return self._fisher.diagonal(param, group["damping"]).expand(param.shape).clone()
        raise ValueError(f"this optimizer has no such parameter, of shape {tuple(param.shape)}")

    def _refresh(self, level: int) -> None:
        self._fisher.refresh()

    def _new_state(self, param: Tensor) -> dict[str, Any]:
        return {"step": 0, "exp_avg": torch.zeros_like(param, memory_format=torch.preserve_format)}

    def _update(self, param: nn.Parameter, group: dict[str, Any]) -> None:
        assert param.grad is not None
        state = self.state[param]
        state["step"] += 1
        fisher = self._fisher.diagonal(param, group["damping"])
        adafisher_update(
            param,
            param.grad,
            state["exp_avg"],
            fisher.sqrt_() if self._config.square_root else fisher,
            step=state["step"],
            lr=group["lr"],
            beta=group["beta"],
            weight_decay=group["weight_decay"],
            is_decoupled=self._config.decoupled_weight_decay,
        )

    def _own_state(self) -> dict[str, Any]:
        return {"numerics": self._config.numerics, "factors": self._fisher.state_dict()}

    def _check_own_state(self, own: Mapping[str, Any]) -> None:
        numerics = self._config.numerics
        require(own["numerics"] == numerics, "numerics of the loaded state", repr(numerics), own["numerics"])
        self._fisher.check_state(own["factors"])

    def _load_own_state(self, own: Mapping[str, Any]) -> None:
        self._fisher.load_state_dict(own["factors"])


class AdaFisherW(AdaFisher):
    """:class:`AdaFisher` with decoupled weight decay, as ``torch.optim.AdamW`` is to ``Adam``.

    Args:
        model: The network whose layers are captured.
        lr: Learning rate α.
        decoupled_weight_decay: Whether the decay is decoupled.
        **options: As of :class:`AdaFisher`.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float = 1e-3,
        *,
        decoupled_weight_decay: bool = True,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(model, lr, decoupled_weight_decay=decoupled_weight_decay, **options)


def build(model: nn.Module, config: AdaFisherConfig) -> AdaFisher:
    """Return AdaFisher, or AdaFisherW, over the trainable parameters of a model."""
    return AdaFisher(model, **asdict(config))


# Where F̃ is near λ, lr / damping is the step, 1e-3 to 1e3 here. Far above 1 training diverges; how far depends on the
# network, so the two ranges stay independent and such trials are results.
SEARCH_SPACE: SearchSpace = {
    "lr": Float(low=1e-4, high=1e-1, log=True),
    "damping": Float(low=1e-4, high=1e-1, log=True),
    # Linear, since the paper has two readings: γ weighs the new factor (Eq. 3), or the old one, as it calls γ a decay
    # factor. So 1 - γ of each of its values has to lie within too: 0.2 for 0.8, 0.01 for 0.99.
    "gamma": Float(low=0.01, high=0.99),
}
WIDE: SearchSpace = {
    **SEARCH_SPACE,
    "weight_decay": WEIGHT_DECAY,
    "beta": BETA,
    "update_interval": Categorical(choices=(1, 10, 100)),
}
W_SEARCH_SPACE: SearchSpace = {**SEARCH_SPACE, "weight_decay": DECOUPLED_WEIGHT_DECAY}
# F̃ tends to the constant λ, so lr / damping is the step: 0.01 to 10.
RELEASED_SEARCH_SPACE: SearchSpace = {
    **SEARCH_SPACE,
    "lr": Float(low=3e-5, high=3e-3, log=True),
    "damping": Float(low=3e-4, high=3e-3, log=True),
}
# The published interval in the middle: with a shorter one F̃ is the constant all the sooner, and costs more.
RELEASED_WIDE: SearchSpace = {**WIDE, **RELEASED_SEARCH_SPACE, "update_interval": Categorical(choices=(10, 100, 1000))}
PAPER_SPACES = paper_spaces(damping=DAMPING, gamma=GAMMA)


def _heavy_ball(config: AdaFisherConfig) -> dict[str, Any]:
    """Return SGD's hyperparameters for the step that the released numerics tend to: F̃ is the constant λ there.

    The average of gradients has the weights (1 - β) βᵏ, SGD's velocity βᵏ: its learning rate is α (1 - β) / λ.
    """
    name, is_coupled = "decoupled_weight_decay", not config.decoupled_weight_decay
    require(is_coupled, name, "False for a placebo, as SGD decays through its velocity", config.decoupled_weight_decay)
    return {
        "lr": config.lr * (1 - config.beta) / config.damping,
        "momentum": config.beta,
        "weight_decay": config.weight_decay,
    }


SPEC = OptimizerSpec(
    name="adafisher",
    config=AdaFisherConfig,
    build=build,
    search_space=SEARCH_SPACE,
    spaces={"wide": WIDE, **PAPER_SPACES},
    cost_fields=frozenset({"numerics", "layers", "update_interval", "square_root"}),
    reference="Martins Gomes et al. (2025), AdaFisher: Adaptive Second Order Optimization via Fisher Information, ICLR",
)
W_SPEC = replace(
    SPEC,
    name="adafisherw",
    search_space=W_SEARCH_SPACE,
    spaces={"wide": {**WIDE, **W_SEARCH_SPACE}, **PAPER_SPACES},
    defaults={"decoupled_weight_decay": True},
)
RELEASED_SPEC = replace(
    SPEC,
    name="adafisher_released",
    search_space=RELEASED_SEARCH_SPACE,
    spaces={"wide": RELEASED_WIDE, **PAPER_SPACES},
    defaults={"numerics": "released"},
    placebo=Placebo(optimizer="sgd", hyperparameters=_heavy_ball),
    reference=f"{SPEC.reference}; the arithmetic of the authors' code, AtlasAnalyticsLab/AdaFisher at eb858c6",
)
