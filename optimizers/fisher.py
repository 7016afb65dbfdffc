"""AdaFisher's estimate of the Fisher diagonal: factors of every supported layer, refreshed from what a capture saw.

All factors of a model lie in one flat vector, layer after layer, H before S, so that averaging and normalizing them is
a dozen tensor operations whatever the depth of the network, and one collective.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from .base import require
from .capture import Capture, Layer, Pair
from .comm import mean_over_workers, resolve_group
from .factors import accumulation_dtype, min_max, released_min_max, segment_reduce, spread
from .rules import PAPER_RULES, RELEASED_RULES, Rules, choose

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
        prepare: Applied to each new factor before it is averaged over workers and time.
        weights: ``weights(gamma)``: of the old and of the new factor in the running average.
        normalize: Applied to each running average before the Kronecker product.
    """

    rules: Rules
    start: float
    update_interval: int
    scale_by_rows: bool
    prepare: Normalization
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
        prepare=_as_it_is,
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
        self._numerics = NUMERICS[numerics]
        self.capture = Capture(model, choose(self._numerics.rules, layers))
        self._weights = (0.0, 1.0) if gamma is None else self._numerics.weights(gamma)
        self._scale_by_rows = self._numerics.scale_by_rows and loss_reduction == "mean"
        self._loss_scale = loss_scale
        self._process_group = process_group
        self._allocate()
        self._pairs, self._num_uses = self._find_uses(model)

    def refresh(self) -> None:
        """Fold what was captured since the last refresh into the factors, averaged over workers (Eq. 3 and 13).

        A layer whose new statistics are missing on all workers or non-finite on any keeps its factors.
        """
        if not self.capture.layers:
            return
        values, present = self._new_factors()
        values, present = mean_over_workers(values, present, self._layer_sizes, resolve_group(self._process_group))
        is_finite = segment_reduce(values.isfinite().to(values.dtype), self._layer_sizes, "min")
        is_valid = spread((present * is_finite).bool(), self._layer_sizes, values.numel())
        keep, gain = self._weights
        self._factors.copy_(torch.where(is_valid, keep * self._factors + gain * values, self._factors))
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
        return {name: {key: view.clone() for key, view in pair.items()} for name, pair in self._named_factors().items()}

    def check_state(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Raise unless these factors are of a model like this one.

        Args:
            state: What :meth:`state_dict` returned.

        Raises:
            ValueError: If layer names or sizes differ.
        """
        expected = {
            name: {key: view.numel() for key, view in pair.items()} for name, pair in self._named_factors().items()
        }
        is_whole = isinstance(state, Mapping) and all(isinstance(pair, Mapping) for pair in state.values())
        require(is_whole, "the loaded factors", "pairs by layer name", state)
        given = {name: {key: factor.numel() for key, factor in pair.items()} for name, pair in state.items()}
        names = expected.keys() | given.keys()
        differing = sorted(repr(name) for name in names if expected.get(name) != given.get(name))
        if differing:
            raise ValueError(f"the loaded factors are of another model; layers that differ: {', '.join(differing)}")

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take over factors that :meth:`check_state` accepts, and drop pending statistics."""
        for name, pair in self._named_factors().items():
            for key, view in pair.items():
                view.copy_(state[name][key])
        self._normalize()
        self.capture.drop()

    def _allocate(self) -> None:
        layers = self.capture.layers
        params = [param for layer in layers for param in layer.params.values()]
        dtype = max((accumulation_dtype(p.dtype) for p in params), key=lambda d: d.itemsize, default=torch.float32)
        device = params[0].device if params else torch.device("cpu")
        self._split = [size for layer in layers for size in (layer.input_size, layer.grad_size)]
        self._factors = torch.full((sum(self._split),), self._numerics.start, dtype=dtype, device=device)
        self._sizes = torch.tensor(self._split, dtype=torch.long, device=device)
        self._layer_sizes = self._sizes.view(-1, 2).sum(1)
        self._flags = torch.split(torch.tensor([0, 1], dtype=dtype, device=device), 1)
        self._normalized = torch.empty_like(self._factors)
        self._normalize()

    def _normalize(self) -> None:
        self._normalized.copy_(self._numerics.normalize(self._factors, self._sizes))

    def _find_uses(self, model: nn.Module) -> tuple[dict[nn.Parameter, list[Pair]], dict[nn.Parameter, int]]:
        """Return by parameter a pair of views for each use with a rule, and the number of all uses."""
        num_uses: dict[nn.Parameter, int] = {}
        for module in model.modules():
            for param in module.parameters(recurse=False):
                num_uses[param] = num_uses.get(param, 0) + 1
        pairs: dict[nn.Parameter, list[Pair]] = {}
        halves = iter(torch.split(self._normalized, self._split))
        for layer, h, s in zip(self.capture.layers, halves, halves, strict=True):
            views = layer.rule.views(layer.module, h, s)
            for name, param in layer.params.items():
                if name in views:
                    pairs.setdefault(param, []).append(views[name])
        return pairs, num_uses

    def _named_factors(self) -> dict[str, dict[str, Tensor]]:
        halves = iter(torch.split(self._factors, self._split))
        layers = zip(self.capture.layers, halves, halves, strict=True)
        return {layer.name: {"H": h, "S": s} for layer, h, s in layers}

    def _new_factors(self) -> tuple[Tensor, Tensor]:
        """Return the new factors, zeros where nothing was captured, and by layer whether it was, 1 or 0."""
        scale = 1.0 if self._loss_scale is None else self._loss_scale()
        taken = [(layer, layer.take()) for layer in self.capture.layers]
        pieces = [piece.to(self._factors) for layer, sums in taken for piece in self._pieces(layer, sums, scale)]
        values = self._numerics.prepare(torch.cat(pieces), self._sizes)
        return values, torch.cat([self._flags[sums is not None] for _, sums in taken])

    def _pieces(self, layer: Layer, sums: tuple[Tensor, Tensor, int] | None, scale: float) -> Pair:
        if sums is None:
            zeros = self._factors.new_zeros(layer.input_size + layer.grad_size)
            return zeros[: layer.input_size], zeros[layer.input_size :]
        h, s, count = sums
        return h, s * ((count if self._scale_by_rows else 1) / scale) ** 2
