"""The tensor mathematics of dense Kronecker factors: sums of outer products over rows, of patches without im2col.

Shapes: B batch, C channels, I input features, O outputs, K kernel offsets, G groups; *rows* are samples × positions.
Sums are float32, or float64 for float64 tensors, whatever the dtype of their argument.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from .factors import accumulation_dtype

Range = tuple[int, int]


def second_moments(rows: Tensor, groups: int = 1) -> Tensor:
    """Return the sum of ``x xᵀ`` over rows, for each group of features.

    Args:
        rows: Shape ``[N, G * I]``.
        groups: G.

    Returns:
        Shape ``[G, I, I]``.
    """
    x = rows.to(accumulation_dtype(rows.dtype)).unflatten(1, (groups, -1))
    if groups == 1:
        return torch.mm(x[:, 0].T, x[:, 0]).unsqueeze(0)
    x = x.movedim(1, 0)
    return torch.bmm(x.transpose(1, 2), x)


def homogeneous(moments: Tensor, sums: Tensor, num_rows: int) -> Tensor:
    """Return sums of ``x̄ x̄ᵀ``, where ``x̄ = [x; 1]``.

    Args:
        moments: Sums of ``x xᵀ``, shape ``[G, I, I]``.
        sums: Sums of x, shape ``[G, I]``.
        num_rows: Over how many rows.

    Returns:
        Shape ``[G, I + 1, I + 1]``.
    """
    bordered = F.pad(moments, (0, 1, 0, 1), value=float(num_rows))
    bordered[:, :-1, -1] = bordered[:, -1, :-1] = sums
    return bordered


def patch_moments(x: Tensor, geometry: dict[str, Any], groups: int) -> Tensor:
    r"""Return the sum of ``p pᵀ`` over all patches p of a convolution's input, for each group of channels.

    With stride 1 and zero padding that holds the whole kernel there is no im2col: what the offsets :math:`k` and
    :math:`k'` of a patch meet is :math:`\sum_u x_u x_{u + k' - k}^T` over the positions u that offset k reaches. Over
    *all* positions that depends on :math:`k' - k` alone: one product of the image with itself, shifted, serves all
    pairs of offsets with this difference, 13 products instead of 81 for a 3 × 3 kernel; the few positions at the border
    that k does not reach are taken off again.

    Args:
        x: Shape ``[B, C, *spatial]``.
        geometry: See :func:`optimizers.factors.patch_sums`.
        groups: G.

    Returns:
        Shape ``[G, C / G * K, C / G * K]``, the channel outermost.
    """
    x = x.to(accumulation_dtype(x.dtype))
    if all(size == 1 for size in geometry["kernel_size"]) and not any(geometry["padding"]):
        steps = tuple(slice(None, None, step) for step in geometry["stride"])
        return second_moments(x[:, :, *steps].movedim(1, -1).flatten(0, -2), groups)
    if groups == 1 and _is_shift_invariant(geometry):
        return _shifted_moments(x, geometry).unsqueeze(0)
    return second_moments(_patches(x, geometry), groups)


def num_patches(x: Tensor, geometry: dict[str, Any]) -> int:
    """Return how many patches a convolution cuts its input of shape ``[B, C, *spatial]`` into."""
    sizes = zip(
        x.shape[2:], _sides(geometry), geometry["kernel_size"], geometry["stride"], geometry["dilation"], strict=True
    )
    positions = (
        (size + before + after - spacing * (kernel - 1) - 1) // step + 1
        for size, (before, after), kernel, step, spacing in sizes
    )
    return len(x) * int(math.prod(positions))


def _is_shift_invariant(geometry: dict[str, Any]) -> bool:
    """Return whether zeros around the image are as wide as the largest difference of two offsets of the kernel."""
    reach = [spacing * (size - 1) for size, spacing in zip(geometry["kernel_size"], geometry["dilation"], strict=True)]
    is_held = all(
        before == after and 2 * before >= width for (before, after), width in zip(_sides(geometry), reach, strict=True)
    )
    is_plain = geometry["padding_mode"] == "zeros" and all(step == 1 for step in geometry["stride"])
    return len(reach) == 2 and is_plain and is_held


def _sides(geometry: dict[str, Any]) -> list[tuple[int, int]]:
    """Return the padding before and after each spatial dimension, the first dimension first."""
    padding = geometry["padding"]
    return list(zip(padding[::2], padding[1::2], strict=True))[::-1]


def _patches(x: Tensor, geometry: dict[str, Any]) -> Tensor:
    """Return the im2col matrix, shape ``[rows, C * K]``."""
    mode = "constant" if geometry["padding_mode"] == "zeros" else geometry["padding_mode"]
    x = F.pad(x, tuple(geometry["padding"]), mode=mode)
    num_dims = len(geometry["kernel_size"])
    sizes = zip(geometry["kernel_size"], geometry["stride"], geometry["dilation"], strict=True)
    for dim, (kernel, step, spacing) in enumerate(sizes, start=2):
        x = x.unfold(dim, spacing * (kernel - 1) + 1, step)[..., ::spacing]
    return x.movedim(1, num_dims + 1).flatten(num_dims + 1).flatten(0, num_dims)


def _shifted_moments(x: Tensor, geometry: dict[str, Any]) -> Tensor:
    image = F.pad(x, tuple(geometry["padding"])).movedim(1, -1).contiguous()  # [B, height, width, C]
    width, channels = image.shape[2:]
    rows = image.view(-1, channels)
    (height_k, width_k), (row_gap, column_gap) = geometry["kernel_size"], geometry["dilation"]
    moments = x.new_empty(channels, height_k, width_k, channels, height_k, width_k)
    for dy, dx in itertools.product(range(height_k), range(1 - width_k, width_k)):
        if (dy, dx) < (0, 0):
            continue
        shift = dy * row_gap * width + dx * column_gap  # in rows: what wraps around meets the zeros at the border
        everywhere = rows[: len(rows) - shift].T @ rows[shift:]
        for ky, kx in itertools.product(range(height_k - dy), range(max(0, -dx), width_k - max(0, dx))):
            offset, step = (ky * row_gap, kx * column_gap), (dy * row_gap, dx * column_gap)
            block = everywhere - sum(_outside(image, offset, step, geometry))
            moments[:, ky, kx, :, ky + dy, kx + dx] = block
            moments[:, ky + dy, kx + dx, :, ky, kx] = block.T
    return moments.view(channels * height_k * width_k, -1)


def _outside(image: Tensor, offset: Sequence[int], step: Sequence[int], geometry: dict[str, Any]) -> Iterator[Tensor]:
    """Give the products ``x_u x_{u + step}ᵀ`` of the positions u that an offset of the kernel does not reach."""
    spans = zip(geometry["kernel_size"], geometry["dilation"], strict=True)
    reach = [size - spacing * (kernel - 1) for size, (kernel, spacing) in zip(image.shape[1:3], spans, strict=True)]
    real = [
        (max(before, before - move), min(size - after, size - after - move))
        for (before, after), size, move in zip(_sides(geometry), image.shape[1:3], step, strict=True)
    ]  # of u where neither u nor u + step lies in the padding
    (top, bottom), (left, right) = [
        ((low, min(high, start)), (max(low, start + length), high))
        for (low, high), start, length in zip(real, offset, reach, strict=True)
    ]
    inner = max(real[0][0], offset[0]), min(real[0][1], offset[0] + reach[0])
    # The rows above and below its reach, and within it the columns to the left and right.
    for rows, columns in ((top, real[1]), (bottom, real[1]), (inner, left), (inner, right)):
        if rows[0] < rows[1] and columns[0] < columns[1]:
            yield _cut(image, rows, columns, (0, 0)).T @ _cut(image, rows, columns, step)


def _cut(image: Tensor, rows: Range, columns: Range, step: Sequence[int]) -> Tensor:
    """Return the positions of a rectangle, moved by a step: shape ``[positions, C]``."""
    down, across = step
    cut = image[:, rows[0] + down : rows[1] + down, columns[0] + across : columns[1] + across]
    return cut.reshape(-1, image.shape[-1])
