"""How the gradients of a layer form a matrix, for methods that multiply it from both sides or by two vectors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .capture import Rule


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixRule(Rule):
    """A rule of a layer whose gradients form a matrix.

    Args:
        matrix: ``matrix(module, grads)``: the gradients by parameter name, as one matrix of shape ``[G, O / G, I]``,
            G the groups and the column of a bias last.
        parts: ``parts(module, matrix)``: the reverse.
    """

    matrix: Callable[[Any, Mapping[str, Tensor]], Tensor]
    parts: Callable[[Any, Tensor], dict[str, Tensor]]


def dense_matrix(module: Any, grads: Mapping[str, Tensor]) -> Tensor:  # noqa: ANN401
    """Return the gradients of a linear or convolution layer as a matrix; see :class:`MatrixRule`."""
    groups = num_groups(module)
    matrix = grads["weight"].reshape(groups, module.weight.shape[0] // groups, -1)
    return matrix if module.bias is None else torch.cat([matrix, grads["bias"].view(groups, -1, 1)], dim=2)


def dense_parts(module: Any, matrix: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return the parts of a matrix like that of :func:`dense_matrix`, in the shapes of the parameters."""
    if module.bias is None:
        return {"weight": matrix.reshape(module.weight.shape)}
    return {"weight": matrix[..., :-1].reshape(module.weight.shape), "bias": matrix[..., -1].flatten()}


def transposed_matrix(module: Any, grads: Mapping[str, Tensor]) -> Tensor:  # noqa: ANN401
    """Return the gradient of an embedding, a row a token, with a column a token as in a linear layer."""
    return grads["weight"].T.unsqueeze(0)


def transposed_parts(module: Any, matrix: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return the reverse of :func:`transposed_matrix`."""
    return {"weight": matrix[0].T}


def scale_and_shift(module: Any, grads: Mapping[str, Tensor]) -> Tensor:  # noqa: ANN401
    """Return the gradients of a normalization layer, scale and shift side by side."""
    return torch.stack([grad.flatten() for grad in grads.values()], dim=1).unsqueeze(0)


def scale_and_shift_parts(module: Any, matrix: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return the reverse of :func:`scale_and_shift`."""
    names = (name for name, _ in module.named_parameters(recurse=False))
    return {name: part.reshape(module.weight.shape) for name, part in zip(names, matrix[0].unbind(dim=1), strict=True)}


def num_groups(module: Any) -> int:  # noqa: ANN401
    """Return G, the groups of a convolution; 1 for other layers."""
    return int(getattr(module, "groups", 1))


def is_batched(conv: Any, h: Tensor) -> bool:  # noqa: ANN401
    """Return whether a convolution's input has a batch dimension."""
    return h.dim() == len(conv.kernel_size) + 2
