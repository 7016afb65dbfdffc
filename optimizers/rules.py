"""The layer-support tables of AdaFisher: how each layer type gives the diagonals of its Kronecker factors.

================================  =============================================  =====================================
layer                             H, input side                                  S, output side
================================  =============================================  =====================================
Linear                            mean of h² over rows, by input; 1 for a bias   mean of s² over rows, by output
Conv1d, Conv2d, Conv3d            likewise over im2col patches; by group         likewise, by output channel
BatchNorm1d/2d/3d, SyncBatchNorm  mean of h² over rows, by channel; shift: ones  mean of s² over rows, by channel
LayerNorm                         likewise, by normalized feature                likewise
GroupNorm (``layers="all"``)      as BatchNorm                                   as BatchNorm
RMSNorm (``layers="all"``)        as LayerNorm, no shift                         as LayerNorm
Embedding (``layers="all"``)      frequency of each token                        mean of s² over rows, by column
all else                          ones                                           ones
================================  =============================================  =====================================

*Rows* are samples × positions; h is the layer's input (of normalization layers before normalization, as Prop. 3.1
states) and s the gradient of its output. Subclasses follow their base class. A LayerNorm or RMSNorm whose input does
not end in its normalized dimensions takes ones: ``LayerNorm2d`` of timm and of torchvision is a subclass of the kind.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .capture import Counts, Pair, Rule
from .factors import (
    accumulation_dtype,
    channel_squares,
    channel_sums,
    dense_views,
    feature_squares,
    feature_sums,
    mean_squares,
    norm_views,
    patch_sums,
    released_norm_factors,
    released_norm_input,
    sample_squares,
    token_counts,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class DiagonalRule(Rule):
    """How a layer type gives the diagonals of its factors.

    Args:
        views: ``views(module, H, S)``: by parameter name, the pair of views that multiplies to its Fisher diagonal.
    """

    views: Callable[[Any, Tensor, Tensor], dict[str, Pair]]


Rules = Mapping[type[nn.Module], DiagonalRule]


def _mean_squares(input_sum: Tensor, grad_sum: Tensor, counts: Counts, input_size: int) -> Pair:
    return mean_squares(input_sum, grad_sum, counts.rows, input_size)


def _released_norm(input_sum: Tensor, grad_sum: Tensor, counts: Counts, input_size: int) -> Pair:
    return released_norm_factors(input_sum, grad_sum, counts.samples, input_size)


def num_inputs(conv: Any) -> int:  # noqa: ANN401
    """Return the entries of a patch over all groups, C * K."""
    return math.prod((conv.in_channels, *conv.kernel_size))


def _batched(conv: Any, x: Tensor) -> Tensor:  # noqa: ANN401
    return x if x.dim() == len(conv.kernel_size) + 2 else x.unsqueeze(0)


def num_features(norm: Any) -> int:  # noqa: ANN401
    """Return the entries of a normalization layer's scale."""
    return int(norm.weight.numel())


def ends_in_features(norm: Any, h: Tensor) -> bool:  # noqa: ANN401
    """Return whether the last dimensions of a layer's input are those that it normalizes."""
    return tuple(h.shape[-len(norm.normalized_shape) :]) == tuple(norm.normalized_shape)


def conv_geometry(conv: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return how a convolution cuts its input into patches, as :func:`optimizers.factors.patch_sums` takes it."""
    return {
        "kernel_size": conv.kernel_size,
        "stride": conv.stride,
        "dilation": conv.dilation,
        "padding": conv._reversed_padding_repeated_twice,  # resolves padding="same" too
        "padding_mode": conv.padding_mode,
    }


def input_patches(conv: Any, h: Tensor) -> Tensor:  # noqa: ANN401
    """Return the sum of a convolution's input patches over samples and positions, shape ``[C * K]``."""
    return patch_sums(h.sum(0, dtype=accumulation_dtype(h.dtype)), **conv_geometry(conv))


def _conv_input(conv: Any, h: Tensor) -> Tensor:  # noqa: ANN401
    """Return the sum of squared patches over samples and positions: the diagonal of Appendix A.3's input factor."""
    return patch_sums(sample_squares(_batched(conv, h)), **conv_geometry(conv))


LINEAR = DiagonalRule(
    sizes=lambda m: (m.in_features + (m.bias is not None), m.out_features),
    input_sum=lambda m, h: feature_squares(h, m.in_features),
    grad_sum=lambda m, s: feature_squares(s, m.out_features),
    finish=_mean_squares,
    views=lambda m, h, s: dense_views(h, s, m.in_features, groups=1),
)
CONV = DiagonalRule(
    sizes=lambda m: (num_inputs(m) + (m.bias is not None), m.out_channels),
    input_sum=_conv_input,
    grad_sum=lambda m, s: channel_squares(_batched(m, s)),
    finish=_mean_squares,
    views=lambda m, h, s: dense_views(h, s, num_inputs(m), m.groups),
)
CHANNEL_NORM = DiagonalRule(
    sizes=lambda m: (num_features(m), num_features(m)),
    input_sum=lambda m, h: channel_squares(h),
    grad_sum=lambda m, s: channel_squares(s),
    finish=_mean_squares,
    views=lambda m, h, s: norm_views(h, s),
)
FEATURE_NORM = replace(
    CHANNEL_NORM,
    input_sum=lambda m, h: feature_squares(h, num_features(m)),
    grad_sum=lambda m, s: feature_squares(s, num_features(m)),
    fits=ends_in_features,
)
EMBEDDING = DiagonalRule(
    sizes=lambda m: (m.num_embeddings, m.embedding_dim),
    input_sum=lambda m, tokens: token_counts(
        tokens, m.num_embeddings, m.padding_idx, accumulation_dtype(m.weight.dtype)
    ),
    grad_sum=lambda m, s: feature_squares(s, m.embedding_dim),
    finish=_mean_squares,
    views=lambda m, h, s: {"weight": (h[:, None], s)},
)

RELEASED_CONV = replace(  # pools H over groups
    CONV,
    sizes=lambda m: (num_inputs(m) // m.groups + (m.bias is not None), m.out_channels),
    input_sum=lambda m, h: _conv_input(m, h).view(m.groups, -1).mean(0),
    views=lambda m, h, s: dense_views(h, s, num_inputs(m) // m.groups, groups=1),
)
RELEASED_CHANNEL_NORM = DiagonalRule(
    sizes=lambda m: (2, num_features(m)),
    input_sum=lambda m, h: released_norm_input(h),
    grad_sum=lambda m, s: channel_sums(s),
    finish=_released_norm,
    views=lambda m, h, s: {"weight": (h[:1], s), "bias": (h[1:], s)},
)
RELEASED_FEATURE_NORM = replace(
    RELEASED_CHANNEL_NORM,
    input_sum=lambda m, h: released_norm_input(h if h.dim() > 1 else h.unsqueeze(0)),
    grad_sum=lambda m, s: feature_sums(s, num_features(m)),
    fits=ends_in_features,
)


def _by_type(conv: DiagonalRule, channel_norm: DiagonalRule, feature_norm: DiagonalRule) -> Rules:
    norms: Rules = {_BatchNorm: channel_norm, nn.LayerNorm: feature_norm}
    return {nn.Linear: LINEAR, nn.Conv1d: conv, nn.Conv2d: conv, nn.Conv3d: conv, **norms}


PAPER_RULES = _by_type(CONV, CHANNEL_NORM, FEATURE_NORM)
RELEASED_RULES = _by_type(RELEASED_CONV, RELEASED_CHANNEL_NORM, RELEASED_FEATURE_NORM)
MORE_RULES: Rules = {nn.GroupNorm: CHANNEL_NORM, nn.RMSNorm: FEATURE_NORM, nn.Embedding: EMBEDDING}
NORMS = (_BatchNorm, nn.LayerNorm)
LAYERS = ("paper", "all", "dense")


def choose(rules: Rules, layers: str) -> Rules:
    """Return the layer-support table of some numerics that an option ``layers`` asks for.

    Args:
        rules: The table of the numerics.
        layers: ``paper`` for the table as it is, ``all`` for :data:`MORE_RULES` too, ``dense`` for none of the
            normalization layers, which so take the identity.

    Returns:
        The table.
    """
    if layers == "dense":
        return {kind: rule for kind, rule in rules.items() if kind not in NORMS}
    return {**rules, **MORE_RULES} if layers == "all" else rules
