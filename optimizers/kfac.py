r"""K-FAC: natural gradients by Kronecker-factored blocks of the Fisher matrix, a block a layer.

Martens and Grosse (2015), "Optimizing Neural Networks with Kronecker-factored Approximate Curvature", ICML; for
convolutions Grosse and Martens (2016), "A Kronecker-factored approximate Fisher matrix for convolution layers", ICML,
called "expand" since Eschenhagen et al. (2023). A layer's direction is

.. math:: P = (S + \tfrac{\sqrt\lambda}{\pi} I)^{-1} \, G \, (A + \pi \sqrt\lambda I)^{-1}

with the running averages A and S of ``optimizers/kronecker.py``, which has the layer-support table; the step is that of
``optimizers/natural.py``. Factors are refreshed every ``factor_interval`` steps, inverses every ``inverse_interval``.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from .base import WEIGHT_DECAY, Categorical, Float, OptimizerSpec, SearchSpace, require, require_count
from .capture import Capture, Layer
from .curvature import unwrapped
from .grids import DAMPING, paper_spaces
from .kronecker import KroneckerFactors, KroneckerRule, kronecker_rules
from .natural import NaturalGradient, NaturalGradientConfig
from .sampling import SampledLabels

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

FISHERS = ("empirical", "sampled")


@dataclass(frozen=True, kw_only=True, slots=True)
class KFACConfig(NaturalGradientConfig):
    """Hyperparameters: those of :class:`NaturalGradientConfig`, and more.

    Args:
        factor_interval: Steps from one refresh of the factors to the next, >= 1.
        inverse_interval: Steps from one refresh of the inverses to the next, a multiple of ``factor_interval``.
        fisher: ``empirical``: S of the gradients that the loss gives; ``sampled``: of labels drawn from the network's
            own predictions (Monte-Carlo), at the cost of one more backward pass every ``factor_interval`` steps.
        max_factor_dim: Rows of the largest dense factor, >= 1; larger ones keep their diagonal.

    Raises:
        ValueError: If a value breaks its rule.
    """  # noqa: DOC502

    factor_interval: int = 10
    inverse_interval: int = 100
    fisher: str = "empirical"
    max_factor_dim: int = 8192

    def __post_init__(self) -> None:
        NaturalGradientConfig.__post_init__(self)
        for name in ("factor_interval", "inverse_interval", "max_factor_dim"):
            require_count(name, getattr(self, name))
        is_multiple = self.inverse_interval % self.factor_interval == 0
        rule = f"a multiple of factor_interval={self.factor_interval}"
        require(is_multiple, "inverse_interval", rule, self.inverse_interval)
        require(self.fisher in FISHERS, "fisher", f"one of {', '.join(FISHERS)}", self.fisher)


class KFAC(NaturalGradient[KroneckerRule]):
    """K-FAC on a bare model (never its DistributedDataParallel wrapper); used as any optimizer of ``torch.optim``.

    Build it after moving the model to its device. Statistics are captured by hooks on the layers, so any training loop
    works: gradient accumulation, clipping, ``GradScaler`` (pass ``loss_scale=scaler.get_scale``), in-place activations,
    activation checkpointing. With several workers the factors are averaged in one collective per refresh; all workers
    invert all of them.

    Args:
        model: The network whose layers are captured; with ``fisher="sampled"`` its output is the logits of classes, of
            which a row has the last dimension.
        lr: Learning rate α.
        params: Parameters or groups as in ``torch.optim``; groups may override lr, momentum, damping and weight_decay.
            Default: all trainable parameters of the model.
        momentum: See :class:`KFACConfig`, as all up to ``max_factor_dim``.
        damping: λ; a layer's is that of the group of its first parameter in one.
        factor_decay: Weight of the old factors in their running average.
        kl_clip: κ.
        weight_decay: η.
        loss_reduction: ``mean`` or ``sum``.
        factor_interval: Steps between refreshes of the factors.
        inverse_interval: Steps between refreshes of the inverses.
        fisher: ``empirical`` or ``sampled``.
        max_factor_dim: Rows of the largest dense factor.
        seed: Of the labels sampled; None for ``torch.initial_seed()``, which has to be the same on all workers.
        loss_scale: Returns by what the loss is multiplied before ``backward``; None for 1.
        process_group: The workers to average factors over: None for the default group's if there is one, False for
            this one alone.

    Attributes:
        refresh_intervals: Those of the factors and of the inverses.
        refreshed: What the last ``step()`` refreshed: 0 nothing, 1 the factors, 2 the inverses too.

    Raises:
        ValueError: If a hyperparameter breaks its rule, or a parameter is complex or integer.
    """  # noqa: DOC502

    state_key = "kfac"

    def __init__(
        self,
        model: nn.Module,
        lr: float = 0.1,
        *,
        params: ParamsT | None = None,
        momentum: float = 0.9,
        damping: float = 1e-3,
        factor_decay: float = 0.95,
        kl_clip: float | None = 1e-3,
        weight_decay: float = 0.0,
        loss_reduction: str = "mean",
        factor_interval: int = 10,
        inverse_interval: int = 100,
        fisher: str = "empirical",
        max_factor_dim: int = 8192,
        seed: int | None = None,
        loss_scale: Callable[[], float] | None = None,
        process_group: "ProcessGroup | Literal[False] | None" = None,
    ) -> None:
        model = unwrapped(model)
        config = KFACConfig(
            lr=lr,
            momentum=momentum,
            damping=damping,
            factor_decay=factor_decay,
            kl_clip=kl_clip,
            weight_decay=weight_decay,
            loss_reduction=loss_reduction,
            factor_interval=factor_interval,
            inverse_interval=inverse_interval,
            fisher=fisher,
            max_factor_dim=max_factor_dim,
        )
        capture = Capture(model, kronecker_rules(max_factor_dim))
        is_sampled = fisher == "sampled"
        self._factors = KroneckerFactors(
            capture,
            decay=factor_decay,
            is_mean=loss_reduction == "mean" and not is_sampled,
            loss_scale=None if is_sampled else loss_scale,
            process_group=process_group,
        )
        self._labels = SampledLabels(model, capture, seed, process_group) if is_sampled else None
        super().__init__(
            model,
            params,
            config=config,
            refresh_intervals=(factor_interval, inverse_interval),
            capture=capture,
        )

    def fallbacks(self) -> dict[str, int]:
        """Return how often something else was done than asked; reads from the device.

        Returns:
            ``kept_inverses``: how often a layer kept its last inverses because new ones failed.
        """
        return {"kept_inverses": int(self._factors.num_kept)}

    def schedule_refresh(self, level: int) -> None:
        """Say, before its forward, what the next step refreshes; the ones after go by the intervals.

        Args:
            level: 0 for nothing, 1 for the factors, 2 for the inverses too.
        """
        super().schedule_refresh(level)
        if self._labels is not None:
            self._labels.begin_step(self._num_steps)

    def _refresh(self, level: int) -> None:
        self._factors.refresh()
        if level > 1:
            dampings = {param: group["damping"] for group in self.param_groups for param in group["params"]}
            self._factors.invert(dampings)

    def _layer_directions(
        self, layer: Layer[KroneckerRule], grads: Mapping[str, Tensor], damping: float
    ) -> tuple[dict[str, Tensor], Tensor]:
        return self._factors.precondition(layer, grads)

    def _own_state(self) -> dict[str, Any]:
        seed = {} if self._labels is None else {"seed": self._labels.seed}
        return {"factors": self._factors.state_dict(), "num_kept": self._factors.num_kept.clone(), **seed}

    def _check_own_state(self, own: Mapping[str, Any]) -> None:
        self._factors.check_state(own["factors"])
        is_count = isinstance(own["num_kept"], Tensor) and own["num_kept"].shape == ()
        require(is_count, "num_kept of the loaded state", "a tensor of shape []", own["num_kept"])
        if self._labels is not None:
            require(type(own["seed"]) is int, "seed of the loaded state", "an integer", own["seed"])

    def _load_own_state(self, own: Mapping[str, Any]) -> None:
        self._factors.load_state_dict(own["factors"])
        self._factors.num_kept.copy_(own["num_kept"])
        if self._labels is not None:
            self._labels.seed = own["seed"]


def build(model: nn.Module, config: KFACConfig) -> KFAC:
    """Return K-FAC over the trainable parameters of a model."""
    return KFAC(model, **asdict(config))


SEARCH_SPACE: SearchSpace = {
    "lr": Float(low=1e-3, high=1.0, log=True),
    "damping": Float(low=1e-4, high=1e-1, log=True),
}
WIDE: SearchSpace = {
    **SEARCH_SPACE,
    "weight_decay": WEIGHT_DECAY,
    "momentum": Categorical(choices=(0.8, 0.9, 0.95)),
    "kl_clip": Float(low=1e-4, high=1e-2, log=True),
    "factor_interval": Categorical(choices=(1, 10)),
    "inverse_interval": Categorical(choices=(10, 100)),
}

SPEC = OptimizerSpec(
    name="kfac",
    config=KFACConfig,
    build=build,
    search_space=SEARCH_SPACE,
    spaces={"wide": WIDE, **paper_spaces(damping=DAMPING)},
    cost_fields=frozenset({"factor_interval", "inverse_interval", "fisher", "max_factor_dim"}),
    reference="Martens and Grosse (2015), Optimizing Neural Networks with Kronecker-factored Approximate Curvature",
)
