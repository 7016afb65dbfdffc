r"""Dense Kronecker factors of a network's layers: the layer-support table of K-FAC, running averages, inverses.

A layer with pre-activation ``a = θ h̄`` and ``s = ∂L/∂a`` has the Fisher block :math:`A \otimes S` with
:math:`A = E[\bar h \bar h^T]` over samples and positions (rows) and :math:`S = E[\sum_t s_t s_t^T]`, the expectation
over samples and the sum over positions t. (Grosse and Martens 2016 share out the number of positions between Ω and Γ;
the product is the same.)

==================================  ==================================  ========================================
layer                               A, input side                       S, output side
==================================  ==================================  ========================================
Linear                              inputs, and 1 for a bias            outputs
Conv1d, Conv2d, Conv3d              im2col patches, and 1 for a bias;   output channels; by group
                                    by group
Embedding                           frequency of each token             columns
BatchNorm1d/2d/3d, SyncBatchNorm,   none                                mean of s², summed over positions, by
LayerNorm, GroupNorm, RMSNorm                                           channel or feature; for scale and shift
all else                            identity                            identity
==================================  ==================================  ========================================

Token frequencies and the factors of normalization layers are diagonals, and so is a factor of more than
``max_factor_dim`` rows. The scale of a normalization layer has the diagonal of its shift, as the mean square of what it
multiplies is 1. Subclasses follow their base class.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .capture import Capture, Counts, Layer, Pair
from .comm import mean_over_workers, resolve_group
from .factors import accumulation_dtype, channel_squares, feature_squares, patch_sums, sample_squares, token_counts
from .layers import (
    MatrixRule,
    dense_matrix,
    dense_parts,
    is_batched,
    num_groups,
    scale_and_shift,
    scale_and_shift_parts,
    transposed_matrix,
    transposed_parts,
)
from .linalg import damped_inverse
from .moments import homogeneous, num_patches, patch_moments, second_moments
from .rules import conv_geometry, ends_in_features, input_patches, num_features, num_inputs
from .running import Layers, check_layers, clone_layers, load_layers, widest_dtype

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Shape = tuple[int, ...]
NAMES = ("A", "S", "A_inverse", "S_inverse")


@dataclass(frozen=True, kw_only=True, slots=True)
class KroneckerRule(MatrixRule):
    """A rule of a layer with Kronecker factors.

    Args:
        shapes: ``shapes(module)``: of A and of S: ``[G, n, n]``, ``[G, n]`` for a diagonal, ``[0]`` for none.
    """

    shapes: Callable[[Any], tuple[Shape, Shape]]


def _shape(groups: int, size: int, max_dim: int) -> Shape:
    return (groups, size, size) if size <= max_dim else (groups, size)


def _dense_shapes(module: Any, max_dim: int) -> tuple[Shape, Shape]:  # noqa: ANN401
    groups, weight = num_groups(module), module.weight
    num_columns = weight[0].numel() + (module.bias is not None)
    return _shape(groups, num_columns, max_dim), _shape(groups, len(weight) // groups, max_dim)


def _linear_input(module: Any, h: Tensor, max_dim: int) -> Tensor:  # noqa: ANN401
    rows, has_bias = h.reshape(-1, module.in_features), module.bias is not None
    if rows.shape[1] + has_bias > max_dim:
        return F.pad(feature_squares(rows, rows.shape[1]), (0, has_bias), value=len(rows)).unsqueeze(0)
    moments = second_moments(rows)
    return homogeneous(moments, rows.sum(0, dtype=moments.dtype), len(rows)) if has_bias else moments


def _conv_input(conv: Any, h: Tensor, max_dim: int) -> Tensor:  # noqa: ANN401
    geometry, has_bias = conv_geometry(conv), conv.bias is not None
    num_rows = num_patches(h, geometry)
    if num_inputs(conv) // conv.groups + has_bias > max_dim:
        squares = patch_sums(sample_squares(h), **geometry)
        return F.pad(squares.view(conv.groups, -1), (0, has_bias), value=num_rows)
    moments = patch_moments(h, geometry, conv.groups)
    return homogeneous(moments, input_patches(conv, h).view(conv.groups, -1), num_rows) if has_bias else moments


def _output(rows: Tensor, groups: int, max_dim: int) -> Tensor:
    if rows.shape[1] // groups > max_dim:
        return feature_squares(rows, rows.shape[1]).view(groups, -1)
    return second_moments(rows, groups)


def _finish(input_sum: Tensor, grad_sum: Tensor, counts: Counts, input_size: int) -> Pair:
    return input_sum.div_(counts.rows), grad_sum


def kronecker_rules(max_dim: int) -> Mapping[type[nn.Module], KroneckerRule]:
    """Return the layer-support table of K-FAC; the first entry whose type a module is an instance of applies.

    Args:
        max_dim: Rows of the largest dense factor.

    Returns:
        By layer type its rule.
    """
    linear = KroneckerRule(
        sizes=lambda m: (m.in_features + (m.bias is not None), m.out_features),
        input_sum=lambda m, h: _linear_input(m, h, max_dim),
        grad_sum=lambda m, s: _output(s.reshape(-1, m.out_features), 1, max_dim),
        finish=_finish,
        matrix=dense_matrix,
        parts=dense_parts,
        shapes=lambda m: _dense_shapes(m, max_dim),
    )
    conv = replace(
        linear,
        sizes=lambda m: (num_inputs(m) // m.groups + (m.bias is not None), m.out_channels),
        input_sum=lambda m, h: _conv_input(m, h, max_dim),
        grad_sum=lambda m, s: _output(s.movedim(1, -1).reshape(-1, m.out_channels), m.groups, max_dim),
        fits=is_batched,
    )
    embedding = replace(
        linear,
        sizes=lambda m: (m.num_embeddings, m.embedding_dim),
        input_sum=lambda m, tokens: token_counts(
            tokens, m.num_embeddings, m.padding_idx, accumulation_dtype(m.weight.dtype)
        ).unsqueeze(0),
        grad_sum=lambda m, s: _output(s.reshape(-1, m.embedding_dim), 1, max_dim),
        matrix=transposed_matrix,
        parts=transposed_parts,
        shapes=lambda m: ((1, m.num_embeddings), _shape(1, m.embedding_dim, max_dim)),
    )
    channel_norm = replace(
        linear,
        sizes=lambda m: (0, num_features(m)),
        input_sum=lambda m, h: h.new_zeros(0),
        grad_sum=lambda m, s: channel_squares(s).unsqueeze(0),
        matrix=scale_and_shift,
        parts=scale_and_shift_parts,
        shapes=lambda m: ((0,), (1, num_features(m))),
    )
    feature_norm = replace(
        channel_norm,
        grad_sum=lambda m, s: feature_squares(s, num_features(m)).unsqueeze(0),
        fits=ends_in_features,
    )
    dense = {nn.Linear: linear, nn.Conv1d: conv, nn.Conv2d: conv, nn.Conv3d: conv, nn.Embedding: embedding}
    channels = {_BatchNorm: channel_norm, nn.GroupNorm: channel_norm}
    return {**dense, **channels, nn.LayerNorm: feature_norm, nn.RMSNorm: feature_norm}


class KroneckerFactors:
    """The factors A and S of a model's layers, averaged over refreshes and workers, and their damped inverses.

    Until a layer was captured, and its first inverses succeeded, they are identities.

    Args:
        capture: What collects the statistics.
        decay: ρ: the k-th refresh of a layer gives its running average the weight ``min(1 - 1 / k, ρ)``.
        is_mean: Whether s is of a loss averaged over samples, and not summed.
        loss_scale: Returns by what the loss is multiplied before ``backward``; None for 1.
        process_group: See :func:`optimizers.comm.resolve_group`.

    Attributes:
        num_kept: How often a layer kept its last inverses because new ones failed; an integer tensor of shape ``[]``.
    """

    def __init__(
        self,
        capture: Capture[KroneckerRule],
        *,
        decay: float,
        is_mean: bool,
        loss_scale: Callable[[], float] | None,
        process_group: "ProcessGroup | Literal[False] | None",
    ) -> None:
        self._layers = capture.layers
        self._decay, self._is_mean, self._loss_scale = decay, is_mean, loss_scale
        self._process_group = process_group
        params = [param for layer in self._layers for param in layer.params.values()]
        self._like = torch.zeros((), dtype=widest_dtype(params), device=params[0].device if params else None)
        self.num_kept = torch.zeros((), dtype=torch.long, device=self._like.device)
        self._tensors = {layer.name: self._start(layer) for layer in self._layers}

    def refresh(self) -> None:
        """Fold in what was captured since the last refresh, averaged over the workers.

        A layer whose new statistics are missing on all workers or non-finite on any keeps its factors.
        """
        scale = 1.0 if self._loss_scale is None else self._loss_scale()
        new = [self._new(layer, scale) for layer in self._layers]
        group = resolve_group(self._process_group)
        if group is not None and new:
            new = self._mean(new, group)
        for layer, pair in zip(self._layers, new, strict=True):
            if pair is not None:
                self._fold(self._tensors[layer.name], *pair)

    def invert(self, dampings: Mapping[nn.Parameter, float]) -> None:
        r"""Bring the inverses up to date.

        .. math:: (A + \pi \sqrt\lambda I)^{-1}, \quad (S + \sqrt\lambda / \pi I)^{-1}, \quad
                  \pi^2 = \frac{\mathrm{tr} A / \dim A}{\mathrm{tr} S / \dim S}

        of each group (Martens and Grosse 2015, Section 6.3); without A, ``1 / (S + λ)``. A layer keeps both inverses
        where either fails, and while it was never captured.

        Args:
            dampings: λ of each parameter that is optimized; a layer has that of its first one, without any none is
                needed.
        """
        for layer in self._layers:
            damping = next((dampings[param] for param in layer.params.values() if param in dampings), None)
            if damping is None:
                continue
            own = self._tensors[layer.name]
            a_damping, s_damping = _shares(own["A"], own["S"], damping)
            a_inverse, a_is_good = _inverse(own["A"], a_damping)
            s_inverse, s_is_good = _inverse(own["S"], s_damping)
            is_captured = own["count"] > 0
            is_good = is_captured & a_is_good & s_is_good
            own["A_inverse"].copy_(torch.where(is_good, a_inverse, own["A_inverse"]))
            own["S_inverse"].copy_(torch.where(is_good, s_inverse, own["S_inverse"]))
            self.num_kept += is_captured & ~is_good

    def precondition(
        self, layer: Layer[KroneckerRule], grads: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return ``S⁻¹ G A⁻¹`` of a layer's gradients.

        Args:
            layer: One of the capture's.
            grads: By name of the layer's parameters, for all of them.

        Returns:
            By the same names, in the dtype of the factors; and whether the layer was ever captured, 1 or 0, shape
            ``[]``.
        """
        own = self._tensors[layer.name]
        a_inverse, s_inverse = own["A_inverse"], own["S_inverse"]
        matrix = layer.rule.matrix(layer.module, grads).to(self._like.dtype)
        if a_inverse.numel():
            matrix = matrix @ a_inverse if a_inverse.dim() == 3 else matrix * a_inverse.unsqueeze(1)
        matrix = s_inverse @ matrix if s_inverse.dim() == 3 else s_inverse.unsqueeze(2) * matrix
        return layer.rule.parts(layer.module, matrix), own["count"].clamp(max=1)

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Return copies, by layer name: the factors, their inverses, and how many refreshes they are of."""
        return clone_layers(self._tensors)

    def check_state(self, state: Any) -> None:  # noqa: ANN401
        """Raise ValueError unless :meth:`state_dict` could have returned this for a model like this one."""
        check_layers(state, self._tensors)

    def load_state_dict(self, state: Layers) -> None:
        """Take over a state that :meth:`check_state` accepts."""
        load_layers(self._tensors, state)

    def _start(self, layer: Layer[KroneckerRule]) -> dict[str, Tensor]:
        shapes = layer.rule.shapes(layer.module)
        factors = [self._like.new_zeros(shape) for shape in shapes]
        inverses = [_identity(self._like, shape) for shape in shapes]
        return {**dict(zip(NAMES, (*factors, *inverses), strict=True)), "count": torch.zeros_like(self._like)}

    def _new(self, layer: Layer[KroneckerRule], scale: float) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return the new factors of a layer, and on how many workers they are; None where nothing was captured."""
        taken = layer.take()
        if taken is None:
            return None
        a, s, counts = taken
        s = s * (counts.samples if self._is_mean else 1 / counts.samples) / scale**2
        return a.to(self._like), s.to(self._like), torch.ones_like(self._like)

    def _mean(
        self, new: list[tuple[Tensor, Tensor, Tensor] | None], group: "ProcessGroup"
    ) -> list[tuple[Tensor, Tensor, Tensor] | None]:
        """Return the means over the workers, in one collective."""
        like = [(own["A"], own["S"]) for own in self._tensors.values()]
        pieces = [
            (torch.zeros_like(a), torch.zeros_like(s)) if one is None else one[:2]
            for one, (a, s) in zip(new, like, strict=True)
        ]
        present = torch.tensor([one is not None for one in new]).to(self._like)
        sizes = torch.tensor([a.numel() + s.numel() for a, s in like], device=self._like.device)
        flat = torch.cat([each.flatten() for pair in pieces for each in pair])
        values, num_workers = mean_over_workers(flat, present, sizes, group)
        halves = iter(torch.split(values, [each.numel() for pair in like for each in pair]))
        return [
            (next(halves).view_as(a), next(halves).view_as(s), num)
            for (a, s), num in zip(like, num_workers.unbind(), strict=True)
        ]

    def _fold(self, own: dict[str, Tensor], a: Tensor, s: Tensor, num_workers: Tensor) -> None:
        # Each entry of a sum of outer products is bounded by two of its diagonal, so that is all there is to look at.
        is_valid = (num_workers > 0) & _diagonal(a).isfinite().all() & _diagonal(s).isfinite().all()
        own["count"] += is_valid
        gain = (1 / own["count"].clamp(min=1)).clamp(min=1 - self._decay) * is_valid
        own["A"].lerp_(a.masked_fill_(~is_valid, 0), gain)
        own["S"].lerp_(s.masked_fill_(~is_valid, 0), gain)


def _identity(like: Tensor, shape: Shape) -> Tensor:
    if len(shape) < 3:
        return like.new_ones(shape)
    return torch.eye(shape[-1], dtype=like.dtype, device=like.device).repeat(shape[0], 1, 1)


def _shares(a: Tensor, s: Tensor, damping: float) -> Pair:
    """Return what A and S are damped by, of each group, shape ``[G]``: all of it S where there is no A."""
    if not a.numel():
        return s.new_zeros(1), s.new_full((1,), damping)
    pi = (_diagonal(a).mean(-1) / _diagonal(s).mean(-1)).sqrt()
    pi = torch.where(pi.isfinite() & (pi > 0), pi, 1.0)
    return pi * damping**0.5, damping**0.5 / pi


def _diagonal(factor: Tensor) -> Tensor:
    return factor.diagonal(dim1=-2, dim2=-1) if factor.dim() == 3 else factor


def _inverse(factor: Tensor, damping: Tensor) -> tuple[Tensor, Tensor]:
    """Return the damped inverse of all groups of a factor, and whether all are good; damping of shape ``[G]``."""
    if factor.dim() == 3:
        return damped_inverse(factor, damping)
    inverse = 1 / (factor + damping.unsqueeze(-1)) if factor.dim() == 2 else factor
    return inverse, inverse.isfinite().all()
