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
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .capture import Rule
from .factors import (
    accumulation_dtype,
    channel_squares,
    channel_sums,
    dense_views,
    feature_squares,
    feature_sums,
    mean_squares,
    norm_views,
    patch_squares,
    released_norm_factors,
    released_norm_input,
    token_counts,
)

Rules = Mapping[type[nn.Module], Rule]


def _num_rows(grad: Tensor, grad_size: int) -> int:
    return grad.numel() // grad_size


def _num_samples(grad: Tensor, grad_size: int) -> int:
    return grad.shape[0] if grad.dim() > 1 else 1


def _num_inputs(conv: Any) -> int:  # noqa: ANN401
    """Return the entries of a patch over all groups, C * K."""
    return math.prod((conv.in_channels, *conv.kernel_size))


def _batched(conv: Any, x: Tensor) -> Tensor:  # noqa: ANN401
    return x if x.dim() == len(conv.kernel_size) + 2 else x.unsqueeze(0)


def _num_features(norm: Any) -> int:  # noqa: ANN401
    return int(norm.weight.numel())


def _ends_in_features(norm: Any, h: Tensor) -> bool:  # noqa: ANN401
    return tuple(h.shape[-len(norm.normalized_shape) :]) == tuple(norm.normalized_shape)


def _conv_input(conv: Any, h: Tensor) -> Tensor:  # noqa: ANN401
    return patch_squares(
        _batched(conv, h),
        conv.kernel_size,
        stride=conv.stride,
        dilation=conv.dilation,
        padding=conv._reversed_padding_repeated_twice,  # resolves padding="same" too
        padding_mode=conv.padding_mode,
    )


LINEAR = Rule(
    sizes=lambda m: (m.in_features + (m.bias is not None), m.out_features),
    input_sum=lambda m, h: feature_squares(h, m.in_features),
    grad_sum=lambda m, s: feature_squares(s, m.out_features),
    count=_num_rows,
    finish=mean_squares,
    views=lambda m, h, s: dense_views(h, s, m.in_features, groups=1),
)
CONV = Rule(
    sizes=lambda m: (_num_inputs(m) + (m.bias is not None), m.out_channels),
    input_sum=_conv_input,
    grad_sum=lambda m, s: channel_squares(_batched(m, s)),
    count=_num_rows,
    finish=mean_squares,
    views=lambda m, h, s: dense_views(h, s, _num_inputs(m), m.groups),
)
CHANNEL_NORM = Rule(
    sizes=lambda m: (_num_features(m), _num_features(m)),
    input_sum=lambda m, h: channel_squares(h),
    grad_sum=lambda m, s: channel_squares(s),
    count=_num_rows,
    finish=mean_squares,
    views=lambda m, h, s: norm_views(h, s),
)
FEATURE_NORM = replace(
    CHANNEL_NORM,
    input_sum=lambda m, h: feature_squares(h, _num_features(m)),
    grad_sum=lambda m, s: feature_squares(s, _num_features(m)),
    fits=_ends_in_features,
)
EMBEDDING = Rule(
    sizes=lambda m: (m.num_embeddings, m.embedding_dim),
    input_sum=lambda m, tokens: token_counts(
        tokens, m.num_embeddings, m.padding_idx, accumulation_dtype(m.weight.dtype)
    ),
    grad_sum=lambda m, s: feature_squares(s, m.embedding_dim),
    count=_num_rows,
    finish=mean_squares,
    views=lambda m, h, s: {"weight": (h[:, None], s)},
)

RELEASED_CONV = replace(  # pools H over groups
    CONV,
    sizes=lambda m: (_num_inputs(m) // m.groups + (m.bias is not None), m.out_channels),
    input_sum=lambda m, h: _conv_input(m, h).view(m.groups, -1).mean(0),
    views=lambda m, h, s: dense_views(h, s, _num_inputs(m) // m.groups, groups=1),
)
RELEASED_CHANNEL_NORM = Rule(
    sizes=lambda m: (2, _num_features(m)),
    input_sum=lambda m, h: released_norm_input(h),
    grad_sum=lambda m, s: channel_sums(s),
    count=_num_samples,
    finish=released_norm_factors,
    views=lambda m, h, s: {"weight": (h[:1], s), "bias": (h[1:], s)},
)
RELEASED_FEATURE_NORM = replace(
    RELEASED_CHANNEL_NORM,
    input_sum=lambda m, h: released_norm_input(h if h.dim() > 1 else h.unsqueeze(0)),
    grad_sum=lambda m, s: feature_sums(s, _num_features(m)),
    fits=_ends_in_features,
)


def _by_type(conv: Rule, channel_norm: Rule, feature_norm: Rule) -> Rules:
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
