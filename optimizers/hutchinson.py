r"""Hutchinson's estimate of the Hessian's diagonal, from gradients that have a graph, and its average over steps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .draws import generator_of

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

NO_GRAPH = (
    "this step estimates the Hessian, but no gradient has a graph: call "
    "loss.backward(create_graph=optimizer.needs_graph), on the module itself, not on DistributedDataParallel; "
    "or the loss is linear in all parameters, and has no Hessian"
)
NOT_TWICE = (
    "the Hessian needs a second derivative that a layer lacks; run forward and backward within "
    "torch.nn.attention.sdpa_kernel(SDPBackend.MATH), and recurrent layers within "
    "torch.backends.cudnn.flags(enabled=False)"
)


def random_signs(param: Tensor, seed: int, *path: int) -> Tensor:
    """Return entries of -1 and 1, equally likely, a pure function of the seed and the path on devices of one kind.

    Args:
        param: Whose shape, dtype and device they take.
        seed: Of the optimizer.
        *path: The coordinates of the draw.

    Returns:
        A new tensor.
    """
    generator = None if param.is_meta else generator_of(param.device, seed, *path)
    # Random bytes, and of each byte a single bit: a draw of torch's is slow beside the arithmetic.
    words = torch.empty(-(-param.numel() // 8), dtype=torch.int64, device=param.device)
    words.random_(-(2**63), None, generator=generator)
    signs = words.view(torch.int8)[: param.numel()].bitwise_and_(2).sub_(1)
    return signs.to(param.dtype).view(param.shape)


def kernels(model: nn.Module) -> set[nn.Parameter]:
    """Return the kernels of a model's convolutions, and what parametrizations make them of."""
    convolutions = [module for module in model.modules() if isinstance(module, CONVOLUTIONS)]
    return {p for conv in convolutions for p in conv.parameters() if p.dim() == 2 + len(conv.kernel_size)}


def estimates(params: Sequence[nn.Parameter], seed: int, step: int) -> Iterator[tuple[nn.Parameter, Tensor]]:
    r"""Give an estimate of the Hessian's diagonal, parameter by parameter.

    Bekas, Kokiopoulou and Saad (2007), "An estimator for the diagonal of a matrix": with signs z,
    :math:`D = z \odot (H z)` has the mean :math:`\sum_j H_{ij} E[z_i z_j] = H_{ii}`. The product takes one more
    backward, through the gradients.

    Args:
        params: In an order that all workers share; their gradients have the graph of ``create_graph=True``, which is
            gone afterwards.
        seed: Of the signs.
        step: Which estimate it is: another one has other signs.

    Yields:
        Each parameter whose gradient depends on a parameter, and D, a new tensor of its shape and dtype.

    Raises:
        RuntimeError: If no gradient has a graph, or if a layer has no second derivative.
    """
    curved = [(i, p, p.grad) for i, p in enumerate(params) if p.grad is not None and p.grad.requires_grad]
    if not curved:
        raise RuntimeError(NO_GRAPH)
    indices, inputs, grads = zip(*curved, strict=True)
    signs = [random_signs(p, seed, step, i) for i, p in zip(indices, inputs, strict=True)]
    try:
        products = torch.autograd.grad(grads, inputs, signs, allow_unused=True)
    except RuntimeError as error:
        if "not implemented" not in str(error):
            raise
        raise RuntimeError(NOT_TWICE) from error
    for param, sign, product in zip(inputs, signs, products, strict=True):
        if product is not None:
            yield param, sign * product  # not in place: two parameters may have been given the same product


@dataclass(kw_only=True, slots=True)
class RunningDiagonal:
    r"""The bias-corrected average :math:`\hat v` of a parameter's squared Hessian diagonals.

    Args:
        mean_square: v̂, one entry a block; ones before the first estimate, so that the step is the gradient's then.
        mass: The sum of the weights :math:`\sum_i \beta_2^i` of the n estimates in it, a scalar; 0 before the first.
    """

    mean_square: Tensor
    mass: Tensor

    def fold(self, diagonal: Tensor, beta2: float) -> None:
        r"""Take in an estimate, unless an entry is not finite; the host does not learn which.

        With :math:`S_n = 1 + \beta_2 S_{n-1} = (1 - \beta_2^n) / (1 - \beta_2)`, Adam's average divided by its
        correction :math:`1 - \beta_2^n` is :math:`\hat v + (D^2 - \hat v) / S_n`, without a difference of near numbers.

        Args:
            diagonal: D, of the shape of v̂.
            beta2: β₂.
        """
        square = diagonal.square()
        is_finite = square.isfinite().all()
        self.mass = torch.where(is_finite, 1 + beta2 * self.mass, self.mass)
        weight = self.mass.clamp(min=1).reciprocal()
        self.mean_square.lerp_(torch.where(is_finite, square, self.mean_square), weight)
