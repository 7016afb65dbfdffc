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
import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from .base import Float, OptimizerSpec, require, trainable
from .fisher import EXTRA_RULES, NUMERICS, DiagonalFisher

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
        layers: ``paper``, or ``all`` for GroupNorm, RMSNorm and Embedding too.
        loss_reduction: ``mean`` or ``sum``: how the loss reduces over samples.

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

    def __post_init__(self) -> None:
        require(0 <= self.lr < math.inf, "lr", "finite and >= 0", self.lr)
        require(0 <= self.beta < 1, "beta", "in [0, 1)", self.beta)
        require(0 < self.gamma <= 1, "gamma", "in (0, 1]", self.gamma)
        require(0 < self.damping < math.inf, "damping", "finite and > 0", self.damping)
        require(0 <= self.weight_decay < math.inf, "weight_decay", "finite and >= 0", self.weight_decay)
        is_whole = self.update_interval is None or (isinstance(self.update_interval, int) and self.update_interval >= 1)
        require(is_whole, "update_interval", "None or a whole number >= 1", self.update_interval)
        for name, known in (("numerics", NUMERICS), ("layers", EXTRA_RULES), ("loss_reduction", LOSS_REDUCTIONS)):
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


class AdaFisher(Optimizer):
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
        layers: ``paper`` or ``all``.
        loss_reduction: ``mean`` or ``sum``.
        loss_scale: Returns by what the loss is multiplied before ``backward``; None for 1.
        process_group: The workers to average factors over: None for the default group's if there is one, False for
            this one alone.

    Attributes:
        update_interval: Steps from one refresh to the next.
        refreshed: Whether the last ``step()`` refreshed the factors.

    Raises:
        ValueError: If a hyperparameter breaks its rule, or a parameter is complex or integer.
    """  # noqa: DOC502

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
        loss_scale: Callable[[], float] | None = None,
        process_group: "ProcessGroup | Literal[False] | None" = None,
    ) -> None:
        self._config = AdaFisherConfig(
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
        )
        self._fisher = DiagonalFisher(
            model,
            numerics=numerics,
            layers=layers,
            gamma=gamma,
            loss_reduction=loss_reduction,
            loss_scale=loss_scale,
            process_group=process_group,
        )
        self.update_interval = update_interval or NUMERICS[numerics].update_interval
        self._num_steps = 0
        self._names = {param: name for name, param in model.named_parameters()}
        self._unchecked: list[nn.Parameter] = []
        self.refreshed = False
        options = {name: getattr(self._config, name) for name in GROUP_OPTIONS}
        super().__init__(trainable(model) if params is None else params, options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own; see ``torch.optim.Optimizer``.

        Args:
            param_group: ``params``, and any of lr, beta, damping and weight_decay.

        Raises:
            ValueError: If an option breaks its rule, or a parameter is complex or integer.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            replace(self._config, **{name: group[name] for name in GROUP_OPTIONS})
            for param in group["params"]:
                require(param.is_floating_point(), "a parameter's dtype", "real", param.dtype)
        except ValueError:
            self.param_groups.pop()
            raise
        self._unchecked.extend(group["params"])

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Refresh the factors where due, then move every parameter that has a gradient.

        Args:
            closure: Evaluates the model again and returns the loss.

        Returns:
            The loss of the closure, if there is one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.refreshed = self._fisher.capture.is_enabled
        if self.refreshed:
            self._fisher.refresh()
            self._warn_of_identities()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self._update(param, group)
        self._num_steps += 1
        self.schedule_refresh(self._num_steps % self.update_interval == 0)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, and drop the statistics that came with them."""
        super().zero_grad(set_to_none)
        self._fisher.capture.drop()

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

    def state_dict(self) -> dict[str, Any]:
        """Return the state as in ``torch.optim``; under ``adafisher``, the factors by layer name and the step count."""
        own = {
            "numerics": self._config.numerics,
            "num_steps": self._num_steps,
            "factors": self._fisher.state_dict(),
        }
        return {**super().state_dict(), "adafisher": own}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a state; tensors move to the device of their parameters, and the given dict is left as it is.

        Args:
            state_dict: What :meth:`state_dict` returned.

        Raises:
            ValueError: If it is of another optimizer, other numerics or another model.
        """
        own = state_dict.get("adafisher")
        if own is None:
            raise ValueError("the state dict is not one of AdaFisher")
        numerics = self._config.numerics
        require(own["numerics"] == numerics, "numerics of the loaded state", repr(numerics), own["numerics"])
        self._fisher.check_state(own["factors"])
        self._check_shapes(state_dict)
        super().load_state_dict({**state_dict, "state": deepcopy(state_dict["state"])})
        self._fisher.load_state_dict(own["factors"])
        self._num_steps = own["num_steps"]
        self.schedule_refresh(self._num_steps % self.update_interval == 0)

    def schedule_refresh(self, is_due: bool) -> None:
        """Say, before its forward, whether the next step refreshes the factors; the ones after go by the interval.

        Args:
            is_due: Whether it does.
        """
        self._fisher.capture.is_enabled = is_due

    def _update(self, param: nn.Parameter, group: dict[str, Any]) -> None:
        assert param.grad is not None
        state = self.state[param]
        if not state:
            require(not param.grad.is_sparse, "a gradient", "dense", param.grad.layout)
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(param, memory_format=torch.preserve_format)
        state["step"] += 1
        adafisher_update(
            param,
            param.grad,
            state["exp_avg"],
            self._fisher.diagonal(param, group["damping"]),
            step=state["step"],
            lr=group["lr"],
            beta=group["beta"],
            weight_decay=group["weight_decay"],
            is_decoupled=self._config.decoupled_weight_decay,
        )

    def _warn_of_identities(self) -> None:
        """Name, once, the parameters that take F̃ = 1 + λ because no layer with a rule was captured using them."""
        reached = [param for param in self._unchecked if param.grad is not None]
        self._unchecked = [param for param in self._unchecked if param.grad is None]
        names = [self._names.get(param, "(not of the model)") for param in reached if self._fisher.is_identity(param)]
        if names:
            reason = "as their layers have no rule or are used functionally"
            warnings.warn(f"these parameters take the identity factor, {reason}: {', '.join(names)}", stacklevel=5)

    def _check_shapes(self, state_dict: Mapping[str, Any]) -> None:
        """Raise ValueError unless the loaded averages have the shapes of the parameters that they are for."""
        saved_ids = [index for group in state_dict["param_groups"] for index in group["params"]]
        params = [param for group in self.param_groups for param in group["params"]]
        for index, param in zip(saved_ids, params, strict=False):  # torch.optim checks the lengths
            saved = state_dict["state"].get(index, {}).get("exp_avg", param)
            rule = f"{tuple(param.shape)}, its parameter's"
            require(saved.shape == param.shape, "shape of a loaded average", rule, tuple(saved.shape))


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


SEARCH_SPACE = {
    "lr": Float(low=1e-4, high=1e-1, log=True),
    "damping": Float(low=1e-4, high=1e-1, log=True),
    "gamma": Float(low=0.05, high=0.99),
}

SPEC = OptimizerSpec(
    name="adafisher",
    config=AdaFisherConfig,
    build=build,
    search_space=SEARCH_SPACE,
    cost_fields=frozenset({"numerics", "layers", "update_interval"}),
    reference="Martins Gomes et al. (2025), AdaFisher: Adaptive Second Order Optimization via Fisher Information, ICLR",
)
W_SPEC = replace(
    SPEC,
    name="adafisherw",
    search_space={**SEARCH_SPACE, "weight_decay": Float(low=1e-4, high=0.3, log=True)},
    defaults={"decoupled_weight_decay": True},
)
RELEASED_SPEC = replace(
    SPEC,
    name="adafisher_released",
    # F̃ tends to the constant λ, so lr / damping is the step: 0.01 to 10.
    search_space={
        **SEARCH_SPACE,
        "lr": Float(low=3e-5, high=3e-3, log=True),
        "damping": Float(low=3e-4, high=3e-3, log=True),
    },
    defaults={"numerics": "released"},
    reference=f"{SPEC.reference}; the arithmetic of the authors' code, AtlasAnalyticsLab/AdaFisher at eb858c6",
)
