r"""Eva: natural gradients by rank-one factors of each layer, inverted in closed form.

Zhang, Shi and Li (2023), "Eva: Practical Second-order Optimization with Kronecker-vectorized Approximation", ICLR. A
layer's Fisher block is that of two vectors, running averages of the mean input :math:`\bar a = E[\bar h]` and of the
mean output gradient :math:`\bar b = E[\sum_t s_t]`:

.. math:: \tilde F = (\bar a \bar a^T) \otimes (\bar b \bar b^T) + \lambda I, \qquad
          p = \frac{1}{\lambda} \left( G - \frac{\bar b^T G \bar a}{\lambda + |\bar a|^2 |\bar b|^2}
          \bar b \bar a^T \right)

by the Sherman-Morrison formula; the step is that of ``optimizers/natural.py``. The layers are Linear and Conv1d/2d/3d,
by group; all others take SGD's step.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from .base import WEIGHT_DECAY, Categorical, Float, OptimizerSpec, SearchSpace, require_count
from .capture import Capture, Counts, Layer, Pair
from .curvature import unwrapped
from .factors import channel_sums, feature_sums
from .grids import paper_spaces
from .layers import MatrixRule, dense_matrix, dense_parts, is_batched, num_groups
from .natural import NaturalGradient, NaturalGradientConfig
from .rules import input_patches, num_inputs
from .running import Averaging, RunningFactors

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaConfig(NaturalGradientConfig):
    """Hyperparameters: those of :class:`NaturalGradientConfig`, and one of its own.

    Args:
        update_interval: Steps from one refresh of the vectors to the next, >= 1.

    Raises:
        ValueError: If a value breaks its rule.
    """  # noqa: DOC502

    damping: float = 0.03
    factor_decay: float = 0.05
    update_interval: int = 1

    def __post_init__(self) -> None:
        NaturalGradientConfig.__post_init__(self)
        require_count("update_interval", self.update_interval)


def eva_direction(grad: Tensor, a: Tensor, b: Tensor, damping: float) -> Tensor:
    """Return the preconditioned gradient p of the module's docstring.

    Args:
        grad: G, shape ``[groups, O, I]``.
        a: Shape ``[groups, I]``.
        b: Shape ``[groups, O]``.
        damping: λ.

    Returns:
        The gradient's shape.
    """
    projection = torch.einsum("go,goi,gi->g", b, grad, a)
    norm = a.square().sum(1) * b.square().sum(1)
    weight = -projection / (damping + norm) / damping
    return torch.baddbmm(grad, (weight.unsqueeze(1) * b).unsqueeze(2), a.unsqueeze(1), beta=1 / damping)


def _mean(input_sum: Tensor, grad_sum: Tensor, counts: Counts, input_size: int) -> Pair:
    return F.pad(input_sum / counts.rows, (0, 1), value=1.0), grad_sum


# A further entry of the input's vector is always 1. It is what a bias meets, and in the running average the weight of
# all that was averaged so far, by which both vectors are divided.
LINEAR = MatrixRule(
    sizes=lambda m: (m.in_features + 1, m.out_features),
    input_sum=lambda m, h: feature_sums(h, m.in_features),
    grad_sum=lambda m, s: feature_sums(s, m.out_features),
    finish=_mean,
    matrix=dense_matrix,
    parts=dense_parts,
)
CONV = replace(
    LINEAR,
    sizes=lambda m: (num_inputs(m) + 1, m.out_channels),
    input_sum=input_patches,
    grad_sum=lambda m, s: channel_sums(s),
    fits=is_batched,
)
RULES: Mapping[type[nn.Module], MatrixRule] = {
    nn.Linear: LINEAR,
    nn.Conv1d: CONV,
    nn.Conv2d: CONV,
    nn.Conv3d: CONV,
}


class Eva(NaturalGradient[MatrixRule]):
    """Eva on a bare model (never its DistributedDataParallel wrapper); used as any optimizer of ``torch.optim``.

    Build it after moving the model to its device. With several workers the vectors are averaged in one collective per
    refresh.

    Args:
        model: The network whose layers are captured.
        lr: Learning rate α.
        params: Parameters or groups as in ``torch.optim``; groups may override lr, momentum, damping and weight_decay.
            Default: all trainable parameters of the model.
        momentum: See :class:`EvaConfig`, as all up to ``update_interval``.
        damping: λ.
        factor_decay: Weight of the old vectors in their running average.
        kl_clip: κ.
        weight_decay: η.
        loss_reduction: ``mean`` or ``sum``.
        update_interval: Steps between refreshes.
        loss_scale: Returns by what the loss is multiplied before ``backward``; None for 1.
        process_group: The workers to average vectors over: None for the default group's if there is one, False for
            this one alone.

    Attributes:
        refresh_intervals: Steps from one refresh of the vectors to the next, alone in a tuple.
        refreshed: Whether the last ``step()`` refreshed them, 1 or 0.

    Raises:
        ValueError: If a hyperparameter breaks its rule, or a parameter is complex or integer.
    """  # noqa: DOC502

    state_key = "eva"

    def __init__(
        self,
        model: nn.Module,
        lr: float = 0.1,
        *,
        params: ParamsT | None = None,
        momentum: float = 0.9,
        damping: float = 0.03,
        factor_decay: float = 0.05,
        kl_clip: float | None = 1e-3,
        weight_decay: float = 0.0,
        loss_reduction: str = "mean",
        update_interval: int = 1,
        loss_scale: Callable[[], float] | None = None,
        process_group: "ProcessGroup | Literal[False] | None" = None,
    ) -> None:
        model = unwrapped(model)
        config = EvaConfig(
            lr=lr,
            momentum=momentum,
            damping=damping,
            factor_decay=factor_decay,
            kl_clip=kl_clip,
            weight_decay=weight_decay,
            loss_reduction=loss_reduction,
            update_interval=update_interval,
        )
        capture = Capture(model, RULES)
        averaging = Averaging(
            start=0.0,
            keep=factor_decay,
            gain=1 - factor_decay,
            grad_scale=lambda counts: 1.0 if loss_reduction == "mean" else 1 / counts.samples,
            grad_power=1,
        )
        self._factors = RunningFactors(capture, averaging, loss_scale, process_group)
        self._vectors = {layer.name: (h, s) for layer, h, s in self._factors.pairs(self._factors.values)}
        super().__init__(model, params, config=config, refresh_intervals=(update_interval,), capture=capture)

    def _refresh(self, level: int) -> None:
        self._factors.refresh()

    def _layer_directions(
        self, layer: Layer[MatrixRule], grads: Mapping[str, Tensor], damping: float
    ) -> tuple[dict[str, Tensor], Tensor]:
        h, s = self._vectors[layer.name]
        weight = h[-1]
        is_captured = weight > 0
        a, b = (torch.where(is_captured, vector / weight, 0.0) for vector in (h[:-1], s))
        groups = num_groups(layer.module)
        a = F.pad(a.view(groups, -1), (0, "bias" in grads), value=1.0)
        matrix = layer.rule.matrix(layer.module, grads).to(self._factors.values.dtype)
        direction = eva_direction(matrix, a, b.view(groups, -1), damping)
        direction = torch.where(is_captured, direction, matrix)
        return layer.rule.parts(layer.module, direction), is_captured.to(direction.dtype)

    def _own_state(self) -> dict[str, Any]:
        return {"factors": self._factors.state_dict()}

    def _check_own_state(self, own: Mapping[str, Any]) -> None:
        self._factors.check_state(own["factors"])

    def _load_own_state(self, own: Mapping[str, Any]) -> None:
        self._factors.load_state_dict(own["factors"])


def build(model: nn.Module, config: EvaConfig) -> Eva:
    """Return Eva over the trainable parameters of a model."""
    return Eva(model, **asdict(config))


SEARCH_SPACE: SearchSpace = {
    "lr": Float(low=1e-3, high=1.0, log=True),
    "damping": Float(low=1e-3, high=1.0, log=True),
}
WIDE: SearchSpace = {
    **SEARCH_SPACE,
    "weight_decay": WEIGHT_DECAY,
    "momentum": Categorical(choices=(0.8, 0.9, 0.95)),
    "kl_clip": Float(low=1e-4, high=1e-2, log=True),
    "update_interval": Categorical(choices=(1, 10)),
}

SPEC = OptimizerSpec(
    name="eva",
    config=EvaConfig,
    build=build,
    search_space=SEARCH_SPACE,
    spaces={"wide": WIDE, **paper_spaces()},
    cost_fields=frozenset({"update_interval"}),
    reference="Zhang et al. (2023), Eva: Practical Second-order Optimization with Kronecker-vectorized Approximation",
)
