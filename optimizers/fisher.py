"""AdaFisher's estimate of the Fisher diagonal: running factors of every supported layer, normalized and multiplied."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from .capture import Capture, Pair, count_uses
from .factors import min_max, released_min_max
from .rules import PAPER_RULES, RELEASED_RULES, Rules, choose
from .running import Averaging, RunningFactors

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Normalization = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Numerics:
    """The arithmetic between new factors and the Fisher diagonal.

    Args:
        rules: The layer-support table.
        start: Value of every factor before the first refresh.
        update_interval: Steps from one refresh to the next, by default.
        scale_by_rows: Whether s is multiplied by the rows N of a mean-reduced loss, lest S shrink with the batch.
        prepare: Applied to each new factor before it is averaged over workers and time, if anything is.
        weights: ``weights(gamma)``: of the old and of the new factor in the running average.
        normalize: Applied to each running average before the Kronecker product.
    """

    rules: Rules
    start: float
    update_interval: int
    scale_by_rows: bool
    prepare: Normalization | None
    weights: Callable[[float], tuple[float, float]]
    normalize: Normalization


def _as_it_is(values: Tensor, sizes: Tensor) -> Tensor:
    return values


NUMERICS: Mapping[str, Numerics] = {
    "paper": Numerics(  # Eq. 3 and 4
        rules=PAPER_RULES,
        start=0.0,  # not the paper's ones: min-max removes the constant, and small s² would drown in it in float32
        update_interval=1,
        scale_by_rows=True,
        prepare=None,
        weights=lambda gamma: (1 - gamma, gamma),
        normalize=min_max,
    ),
    "released": Numerics(  # what the authors' code computes
        rules=RELEASED_RULES,
        start=1.0,
        update_interval=100,
        scale_by_rows=False,
        prepare=released_min_max,
        weights=lambda gamma: (0.1 * gamma, 0.01 * gamma),
        normalize=_as_it_is,
    ),
}


class DiagonalFisher:
    """Running estimates of a model's diagonal Kronecker factors, and the Fisher diagonals made of them.

    Args:
        model: The bare network.
        numerics: Key of :data:`NUMERICS`.
        layers: Key of :data:`optimizers.rules.LAYERS`.
        gamma: Weight of the new factor in the running average, γ; None for the new factor alone.
        loss_reduction: ``mean`` or ``sum``: how the loss reduces over samples.
        loss_scale: Returns by what the loss is multiplied before ``backward`` (``GradScaler.get_scale``); None for 1.
        process_group: See :func:`optimizers.comm.resolve_group`.

    Attributes:
        capture: What collects the statistics.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        numerics: str,
        layers: str,
        gamma: float | None,
        loss_reduction: str,
        loss_scale: Callable[[], float] | None,
        process_group: "ProcessGroup | Literal[False] | None",
    ) -> None:
        chosen = NUMERICS[numerics]
        self.capture = Capture(model, choose(chosen.rules, layers))
        keep, gain = (0.0, 1.0) if gamma is None else chosen.weights(gamma)
        scale_by_rows = chosen.scale_by_rows and loss_reduction == "mean"
        averaging = Averaging(
            start=chosen.start,
            keep=keep,
            gain=gain,
            grad_scale=lambda counts: counts.rows if scale_by_rows else 1,
            grad_power=2,
            prepare=chosen.prepare,
        )
        self._factors = RunningFactors(self.capture, averaging, loss_scale, process_group)
        self._normalization = chosen.normalize
        self._normalized = torch.empty_like(self._factors.values)
        self._normalize()
        self._num_uses = count_uses(model)
        self._pairs = self._find_pairs()

    def refresh(self) -> None:
        """Fold what was captured since the last refresh into the factors, averaged over workers (Eq. 3 and 13).

        A layer whose new statistics are missing on all workers or non-finite on any keeps its factors.
        """
        self._factors.refresh()
        self._normalize()

    def diagonal(self, param: nn.Parameter, damping: float) -> Tensor:
        """Return F̃ of a parameter: the mean over its uses of ``H' ⊗ S'``, plus the damping (Eq. 4).

        A use in a layer without a rule counts as ones.

        Args:
            param: A parameter.
            damping: λ.

        Returns:
            The parameter's shape, dtype and device; a scalar where every entry is 1 + λ.
        """
        pairs = self._pairs.get(param)
        if pairs is None:
            return param.new_full((), 1 + damping)
        h, s = pairs[0]
        diagonal = torch.mul(h, s).view(param.shape)
        num_uses = self._num_uses[param]
        if num_uses > 1:
            for h, s in pairs[1:]:
                diagonal += torch.mul(h, s).view(param.shape)
            diagonal.add_(num_uses - len(pairs)).div_(num_uses)
        return diagonal.add_(damping).to(param)

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Return copies of the factors: by layer name, ``H`` and ``S``."""
        return self._factors.state_dict()

    def check_state(self, state: Any) -> None:  # noqa: ANN401
        """Raise ValueError unless these factors are of a model like this one."""
        self._factors.check_state(state)

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take over factors that :meth:`check_state` accepts."""
        self._factors.load_state_dict(state)
        self._normalize()

    def _normalize(self) -> None:
        self._normalized.copy_(self._normalization(self._factors.values, self._factors.sizes))

    def _find_pairs(self) -> dict[nn.Parameter, list[Pair]]:
        """Return by parameter a pair of views for each use with a rule."""
        pairs: dict[nn.Parameter, list[Pair]] = {}
        for layer, h, s in self._factors.pairs(self._normalized):
            views = layer.rule.views(layer.module, h, s)
            for name, param in layer.params.items():
                if name in views:
                    pairs.setdefault(param, []).append(views[name])
        return pairs
