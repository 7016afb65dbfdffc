"""Running averages of vector factors: one flat vector for a whole model, refreshed from what a capture saw.

All factors of a model lie in one vector, layer after layer, H before S, so that averaging them is a dozen tensor
operations whatever the depth of the network, and one collective.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal

import torch
from torch import Tensor

from .base import require
from .capture import Capture, Counts, Layer, Pair, R
from .comm import mean_over_workers, resolve_group
from .factors import accumulation_dtype, segment_reduce, spread

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


Layers = Mapping[str, Mapping[str, Tensor]]  # by layer name, tensors by name


@dataclass(frozen=True, kw_only=True, slots=True)
class Averaging:
    """How new factors become running averages.

    Args:
        start: Value of every factor before the first refresh.
        keep: Weight of the running average.
        gain: Weight of the new factor.
        grad_scale: ``grad_scale(counts)``: what s is multiplied by before S is formed of it.
        grad_power: Degree of S in s: 2 for squares, 1 for means.
        prepare: ``prepare(values, sizes)``: applied to all new factors before they are averaged over workers and time.
    """

    start: float
    keep: float
    gain: float
    grad_scale: Callable[[Counts], float]
    grad_power: int
    prepare: Callable[[Tensor, Tensor], Tensor] | None = None


class RunningFactors(Generic[R]):
    """The factors H and S of every layer of a capture, averaged over refreshes and workers.

    Args:
        capture: What collects the statistics.
        averaging: How they are averaged.
        loss_scale: Returns by what the loss is multiplied before ``backward`` (``GradScaler.get_scale``); None for 1.
        process_group: See :func:`optimizers.comm.resolve_group`.

    Attributes:
        values: All factors, shape ``[n]``.
        sizes: The lengths of the factors, integers of shape ``[2 * num_layers]``; they sum to n.
        split: The same as Python integers.
    """

    def __init__(
        self,
        capture: Capture[R],
        averaging: Averaging,
        loss_scale: Callable[[], float] | None,
        process_group: "ProcessGroup | Literal[False] | None",
    ) -> None:
        self._layers = capture.layers
        self._averaging = averaging
        self._loss_scale = loss_scale
        self._process_group = process_group
        params = [param for layer in self._layers for param in layer.params.values()]
        dtype = widest_dtype(params)
        device = params[0].device if params else torch.device("cpu")
        self.split = [size for layer in self._layers for size in (layer.input_size, layer.grad_size)]
        self.values = torch.full((sum(self.split),), averaging.start, dtype=dtype, device=device)
        self.sizes = torch.tensor(self.split, dtype=torch.long, device=device)
        self._layer_sizes = self.sizes.view(-1, 2).sum(1)
        self._flags = torch.split(torch.tensor([0, 1], dtype=dtype, device=device), 1)

    def refresh(self) -> None:
        """Fold in what was captured since the last refresh, averaged over the workers.

        A layer whose new statistics are missing on all workers or non-finite on any keeps its factors.
        """
        if not self._layers:
            return
        values, present = self._new()
        values, present = mean_over_workers(values, present, self._layer_sizes, resolve_group(self._process_group))
        is_finite = segment_reduce(values.isfinite().to(values.dtype), self._layer_sizes, "min")
        is_valid = spread((present * is_finite).bool(), self._layer_sizes, values.numel())
        keep, gain = self._averaging.keep, self._averaging.gain
        self.values.copy_(torch.where(is_valid, keep * self.values + gain * values, self.values))

    def pairs(self, values: Tensor) -> list[tuple[Layer[R], Tensor, Tensor]]:
        """Return every layer with the views of its H and its S in a vector like :attr:`values`."""
        halves = iter(torch.split(values, self.split))
        return [(layer, h, s) for layer, h, s in zip(self._layers, halves, halves, strict=True)]

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Return copies of the factors: by layer name, ``H`` and ``S``."""
        return clone_layers(self._named())

    def check_state(self, state: Any) -> None:  # noqa: ANN401
        """Raise unless these factors are of a model like this one.

        Args:
            state: What :meth:`state_dict` returned.

        Raises:
            ValueError: If layer names or sizes differ.
        """  # noqa: DOC502
        check_layers(state, self._named())

    def load_state_dict(self, state: Layers) -> None:
        """Take over factors that :meth:`check_state` accepts."""
        load_layers(self._named(), state)

    def _named(self) -> dict[str, dict[str, Tensor]]:
        return {layer.name: {"H": h, "S": s} for layer, h, s in self.pairs(self.values)}

    def _new(self) -> tuple[Tensor, Tensor]:
        """Return the new factors, zeros where nothing was captured, and by layer whether it was, 1 or 0."""
        scale = 1.0 if self._loss_scale is None else self._loss_scale()
        taken = [(layer, layer.take()) for layer in self._layers]
        pieces = [piece.to(self.values) for layer, sums in taken for piece in self._pieces(layer, sums, scale)]
        values, prepare = torch.cat(pieces), self._averaging.prepare
        present = torch.cat([self._flags[sums is not None] for _, sums in taken])
        return (values if prepare is None else prepare(values, self.sizes)), present

    def _pieces(self, layer: Layer[R], sums: tuple[Tensor, Tensor, Counts] | None, scale: float) -> Pair:
        if sums is None:
            zeros = self.values.new_zeros(layer.input_size + layer.grad_size)
            return zeros[: layer.input_size], zeros[layer.input_size :]
        h, s, counts = sums
        return h, s * (self._averaging.grad_scale(counts) / scale) ** self._averaging.grad_power


def widest_dtype(params: list[Any]) -> torch.dtype:
    """Return the dtype in which statistics of these parameters are kept: float32 at least."""
    return max((accumulation_dtype(p.dtype) for p in params), key=lambda d: d.itemsize, default=torch.float32)


def clone_layers(tensors: Layers) -> dict[str, dict[str, Tensor]]:
    """Return copies of tensors by layer name."""
    return {layer: {name: each.clone() for name, each in own.items()} for layer, own in tensors.items()}


def load_layers(tensors: Layers, state: Layers) -> None:
    """Copy into tensors by layer name what :func:`check_layers` accepts for them."""
    for layer, own in tensors.items():
        for name, each in own.items():
            each.copy_(state[layer][name])


def check_layers(state: Any, expected: Layers) -> None:  # noqa: ANN401
    """Raise unless tensors by layer are of a model like another.

    Args:
        state: By layer name, tensors by name; supposedly.
        expected: What it should be like.

    Raises:
        ValueError: If names of layers or tensors, or shapes, differ.
    """
    is_whole = isinstance(state, Mapping) and all(
        isinstance(own, Mapping) and all(isinstance(each, Tensor) for each in own.values()) for own in state.values()
    )
    require(is_whole, "the loaded factors", "tensors by layer name", state)
    shapes = [
        {name: {k: each.shape for k, each in own.items()} for name, own in one.items()} for one in (state, expected)
    ]
    given, wanted = shapes
    differing = sorted(repr(name) for name in given.keys() | wanted.keys() if given.get(name) != wanted.get(name))
    if differing:
        raise ValueError(f"the loaded factors are of another model; layers that differ: {', '.join(differing)}")
