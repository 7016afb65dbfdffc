"""The tensor mathematics of diagonal Kronecker factors: sums over rows, min-max normalization, views.

Nothing here knows of hooks, optimizers or processes. A layer with pre-activation ``a = θ h̄`` and ``s = ∂L/∂a`` has the
Fisher block ``H ⊗ S`` with ``H = E[h̄ h̄ᵀ]`` and ``S = E[s sᵀ]``, of which AdaFisher keeps the diagonals (Martins Gomes
et al. 2025, "AdaFisher: Adaptive Second Order Optimization via Fisher Information", ICLR, Section 3 and Appendix A).

Shapes: B batch, C channels, I input features, O outputs, K kernel offsets, G groups; *rows* are samples × positions.
Sums are float32, or float64 for float64 tensors, whatever the dtype of their argument.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

BLOCK_SIZE = 1 << 16  # entries that a sum works on at a time: 256 KiB of float32, within a core's cache


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which statistics of tensors of ``dtype`` are kept: float32 at least."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def sample_squares(x: Tensor) -> Tensor:
    """Return the sum of x² over the first dimension, in one pass over x and without a temporary of its size.

    On the CPU blocks are accumulated one after the other, the accumulator staying in the cache: 8 times faster than
    ``x.square().sum(0)`` on ``[16384, 768]`` and twice on ``[64, 64, 32, 32]``, 10 and 20 times faster than
    ``vector_norm(x, dim=0)``, which on CUDA is one kernel.

    Args:
        x: Shape ``[B, ...]``.

    Returns:
        Shape ``[...]``.
    """
    dtype = accumulation_dtype(x.dtype)
    if x.is_cuda:
        norms: Tensor = torch.linalg.vector_norm(x, dim=0, dtype=dtype)
        return norms.square()
    if x.numel() <= BLOCK_SIZE or torch.compiler.is_compiling():  # a compiler fuses by itself, and would unroll a loop
        return x.to(dtype).square().sum(0)
    num_rows = max(1, BLOCK_SIZE // x[0].numel())
    total = torch.zeros_like(x[:num_rows], dtype=dtype)
    for block in x.split(num_rows):
        total[: len(block)].addcmul_(block, block)
    return total.sum(0)


def feature_squares(x: Tensor, num_features: int) -> Tensor:
    """Return the sum of x² over rows, per feature.

    Args:
        x: Shape ``[..., *features]``; the features may span several dimensions.
        num_features: I, the product of the sizes of the feature dimensions.

    Returns:
        Shape ``[I]``.
    """
    return sample_squares(x.reshape(-1, num_features))


def channel_squares(x: Tensor) -> Tensor:
    """Return the sum of x² over samples and positions, per channel.

    Args:
        x: Shape ``[B, C, *positions]``.

    Returns:
        Shape ``[C]``.
    """
    if x.dim() == 2 or not x.is_contiguous():  # channels_last: rows without a copy
        return feature_squares(x.movedim(1, -1), x.shape[1])
    positions = list(range(2, x.dim()))
    norms: Tensor = torch.linalg.vector_norm(x, dim=positions, dtype=accumulation_dtype(x.dtype))
    return norms.square().sum(0)


def channel_sums(x: Tensor) -> Tensor:
    """Return the sum of x over samples and positions, per channel: shapes as :func:`channel_squares`."""
    return _widen(x).sum([dim for dim in range(x.dim()) if dim != 1])


def feature_sums(x: Tensor, num_features: int) -> Tensor:
    """Return the sum of x over rows, per feature: shapes as :func:`feature_squares`."""
    return _widen(x).reshape(-1, num_features).sum(0)


def patch_sums(
    image: Tensor,
    kernel_size: Sequence[int],
    *,
    stride: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    padding_mode: str = "zeros",
) -> Tensor:
    """Return the sum over positions of the im2col patches of a convolution's input, summed over the samples before.

    Padding and cutting patches commute with sums over samples, and with functions of single entries that keep 0: so
    there is no im2col. Each spatial dimension is cut into kernel offsets by a strided view.

    Args:
        image: Shape ``[C, *spatial]``.
        kernel_size: Of each spatial dimension.
        stride: Of each spatial dimension.
        dilation: Of each spatial dimension.
        padding: Before and after each spatial dimension, the last dimension first, as ``torch.nn.functional.pad``.
        padding_mode: ``zeros``, ``reflect``, ``replicate`` or ``circular``.

    Returns:
        Shape ``[C * K]``, the channel outermost, as in a flattened convolution weight.
    """
    mode = "constant" if padding_mode == "zeros" else padding_mode
    q = F.pad(image.unsqueeze(0), tuple(padding), mode=mode).squeeze(0)
    for dim, (kernel, step, spacing) in enumerate(zip(kernel_size, stride, dilation, strict=True), start=1):
        reach = q.shape[dim] - spacing * (kernel - 1)  # of the positions that one kernel offset meets
        q = q.unfold(dim, reach, spacing)[..., ::step].sum(-1)
    return q.flatten()


def token_counts(tokens: Tensor, num_tokens: int, padding_token: int | None, dtype: torch.dtype) -> Tensor:
    """Return how often each token occurs, without host synchronisation.

    Args:
        tokens: Integers of any shape.
        num_tokens: Size V of the vocabulary.
        padding_token: A token that never receives a gradient and counts as unseen.
        dtype: In which to count, a floating one.

    Returns:
        Shape ``[V]``.
    """
    flat = tokens.flatten()
    seen = torch.ones_like(flat, dtype=dtype)
    counts = seen.new_zeros(num_tokens).index_add_(0, flat, seen)
    if padding_token is not None:
        counts[padding_token] = 0
    return counts


def mean_squares(input_sum: Tensor, grad_sum: Tensor, rows: int, input_size: int) -> tuple[Tensor, Tensor]:
    """Return the factors H and S of Section 3 as means of squares.

    Args:
        input_sum: Sum of h² over rows, shape ``[I]``.
        grad_sum: Sum of s² over rows, shape ``[O]``.
        rows: Their number N.
        input_size: Entries of H: I, or I + 1 where the layer has a bias, whose homogeneous coordinate is always 1.

    Returns:
        H of shape ``[input_size]`` and S of shape ``[O]``.
    """
    return F.pad(input_sum / rows, (0, input_size - input_sum.numel()), value=1.0), grad_sum / rows


def released_norm_factors(input_sum: Tensor, grad_sum: Tensor, samples: int, input_size: int) -> tuple[Tensor, Tensor]:
    """Return the factors that the authors' released code gives a normalization layer.

    ``H = [Σ_c (Σ h / |x|²)², C] / b²``, the first entry for the scale, the second for the shift; ``S = (Σ s)² / b``.

    Args:
        input_sum: Per channel the sum of h / |x|², shape ``[C]``; see :func:`released_norm_input`.
        grad_sum: Per channel or feature the sum of s, shape ``[O]``.
        samples: Their number b.
        input_size: Entries of H, always 2.

    Returns:
        H of shape ``[2]`` and S of shape ``[O]``.
    """
    energy = input_sum.square().sum().reshape(1)
    return F.pad(energy, (0, input_size - 1), value=input_sum.numel()) / samples**2, grad_sum.square() / samples


def released_norm_input(x: Tensor) -> Tensor:
    """Return the sum of x / |x|² over all dimensions but dim 1, where |x| counts the positions beyond dims 0 and 1.

    Args:
        x: Shape ``[B, C, *positions]``.

    Returns:
        Shape ``[C]``.
    """
    return channel_sums(x) / x[0, 0].numel() ** 2


def min_max(values: Tensor, sizes: Tensor) -> Tensor:
    """Return each segment of a vector, min-max normalized to [0, 1] (the primes of Eq. 4).

    A segment whose range is within round-off (``max - min <= 8 eps max|m|``) carries no relative information: 0/0. It
    becomes ones, the factor of a layer without a rule. All of it without host synchronisation.

    Args:
        values: Shape ``[n]``, finite.
        sizes: Shape ``[num_segments]``, integers > 0: the lengths of consecutive segments; they sum to n.

    Returns:
        Shape ``[n]``.
    """
    low, high = _segment_range(values, sizes)
    span = high - low
    is_constant = span <= 8 * torch.finfo(values.dtype).eps * torch.maximum(high.abs(), low.abs())
    low, span = spread(torch.stack([low, span.masked_fill(is_constant, 0.0)]), sizes, values.numel()).unbind()
    return torch.where(span == 0, 1.0, (values - low) / span)


def released_min_max(values: Tensor, sizes: Tensor) -> Tensor:
    """Return each segment as the authors' released code normalizes it: ``(m - min) / (max - min + 1e-6)``.

    Before that +inf becomes 1 and -inf 0; NaN stays, and makes its whole segment NaN. Shapes as :func:`min_max`.
    """
    values = values.nan_to_num(nan=torch.nan, posinf=1.0, neginf=0.0)
    low, high = _segment_range(values, sizes)
    low, span = spread(torch.stack([low, high - low + 1e-6]), sizes, values.numel()).unbind()
    return (values - low) / span


def spread(values: Tensor, sizes: Tensor, num_entries: int) -> Tensor:
    """Return what is said of segments said of each of their entries, without host synchronisation.

    Args:
        values: Shape ``[..., num_segments]``.
        sizes: Shape ``[num_segments]``, integers: the lengths of the segments.
        num_entries: Their sum n.

    Returns:
        Shape ``[..., n]``.
    """
    return torch.repeat_interleave(values, sizes, dim=-1, output_size=num_entries)


def segment_reduce(values: Tensor, sizes: Tensor, reduction: str) -> Tensor:
    """Return the ``min`` or ``max`` of each segment, NaN where there is one; shapes as :func:`min_max`."""
    reduced: Tensor = torch.segment_reduce(values, reduction, lengths=sizes, unsafe=True)  # checks would synchronise
    return reduced


def dense_views(h: Tensor, s: Tensor, num_inputs: int, groups: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Return what a linear or convolution layer multiplies to ``H ⊗ S`` (Eq. 4).

    Args:
        h: Shape ``[num_inputs]``, or ``[num_inputs + 1]`` with the bias's entry last.
        s: Shape ``[O]``.
        num_inputs: G * I, all groups; for a convolution ``I = C / G * K``.
        groups: G; an output uses the H of its group.

    Returns:
        By parameter name a pair of views whose broadcast product has the parameter's entries in its order.
    """
    weight = h[:num_inputs].view(groups, 1, -1), s.view(groups, -1, 1)
    return {"weight": weight, "bias": (h[num_inputs:], s)}


def norm_views(h: Tensor, s: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return what a normalization layer multiplies: ``H · S`` for the scale, S for the shift (Prop. 3.1).

    Scale and shift have one entry a channel (or feature), so the Kronecker product is an entrywise one.

    Args:
        h: Shape ``[C]``.
        s: Shape ``[C]``.

    Returns:
        By parameter name a pair of views, as :func:`dense_views`.
    """
    return {"weight": (h, s), "bias": (s.new_ones(1), s)}


def _widen(x: Tensor) -> Tensor:
    return x.to(accumulation_dtype(x.dtype))


def _segment_range(values: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest and largest entry of each segment, shape ``[num_segments]``."""
    return segment_reduce(values, sizes, "min"), segment_reduce(values, sizes, "max")
