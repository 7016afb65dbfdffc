r"""The second derivative of batch normalization in a few passes over memory.

torch puts it together from some two dozen elementwise operations: on ResNet-18 a quarter of a Hessian product. Given
the sums over each channel it is linear in the activations, so few passes are enough.

Legend: B samples, C channels, n values a channel. x is the input, :math:`\hat x = (x - \mu) r` with r the inverse of
the standard deviation, w the scale, g the gradient of the output; [C] are vectors by channel, and bars mean over it.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

NODE = "NativeBatchNormBackward0"
DTYPES = {torch.float32, torch.float64}
Derivatives = tuple[Tensor | None, ...]


def quicken(output: object) -> None:
    """Prepare the double backward of the batch normalization that gave this output; its backward stays torch's own.

    There is no third derivative through it, as there is none of torch's. Left as they are: outputs of anything else, of
    cuDNN, of running statistics, of half precision, and where input, scale or shift take no gradient.

    Args:
        output: What a layer returned, before any in-place operation.
    """
    node = output.grad_fn if isinstance(output, Tensor) else None
    if node is None or node.name() != NODE or not node._saved_training:  # type: ignore[attr-defined]
        return
    x, weight = node._saved_input, node._saved_weight  # type: ignore[attr-defined]
    mean, inverse = node._saved_result1, node._saved_result2  # type: ignore[attr-defined]
    if weight is None or {each.dtype for each in (x, weight, mean)} not in ({dtype} for dtype in DTYPES):
        return

    def on_backward(found: Derivatives, grads: Derivatives) -> Derivatives | None:
        """Give what torch has found another second derivative; without ``node``, lest it keep itself alive."""
        if not torch.is_grad_enabled() or any(each is None for each in found):
            return None
        values = [each.detach() for each in found if each is not None]
        return _Backward.apply(grads[0], x, weight, mean, inverse, *values)  # type: ignore[no-any-return]

    node.register_hook(on_backward)


def second_derivative(
    cotangents: tuple[Tensor, Tensor, Tensor],
    inputs: tuple[Tensor, Tensor, Tensor],
    statistics: tuple[Tensor, Tensor],
    sums: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return the derivatives of :math:`L = \langle u, dx \rangle + \langle a, dw \rangle + \langle b, db \rangle`.

    Here :math:`dx = w r (g - \bar g - \hat x \overline{g \hat x})`, :math:`dw = n \overline{g \hat x}` and
    :math:`db = n \bar g` are what the backward gives. With :math:`q = \overline{u g} - \bar u \bar g -
    \overline{u \hat x} \, \overline{g \hat x}`, which is :math:`\langle u, dx \rangle / (n w r)`:

    .. math::
        \partial L / \partial g &= w r (u - \bar u - \hat x \overline{u \hat x}) + a \hat x + b, \qquad
        \partial L / \partial w = n r q, \\
        \partial L / \partial x &= r (h - \bar h - \hat x \overline{h \hat x}) - w r^2 q \hat x, \qquad
        h = (a - w r \overline{u \hat x}) g - w r \overline{g \hat x} u,

    h the derivative by :math:`\hat x`, and the last term that by r.

    Args:
        cotangents: u, shape ``[B, C, ...]``; a and b, ``[C]``.
        inputs: g and x, shape ``[B, C, ...]``; w, ``[C]``.
        statistics: μ and r, ``[C]``.
        sums: dw and db, ``[C]``.

    Returns:
        By g, x and w.
    """
    (u, a, b), (g, x, w), (mean, r) = cotangents, inputs, statistics
    n = x.numel() // x.shape[1]
    gx, g_mean = (each / n for each in sums)
    ux, u_mean = (each / n for each in _channel_sums(u, x, mean, r))
    ug = _channel_sums(u, g, torch.zeros_like(mean), torch.ones_like(r))[0] / n
    q = ug - u_mean * g_mean - ux * gx
    of_g, of_u = a - w * r * ux, -w * r * gx  # h = of_g g + of_u u
    h_mean, hx = of_g * g_mean + of_u * u_mean, of_g * gx + of_u * ux
    by_g = _affine(b - w * r * u_mean, (u, w * r), (x, of_g * r), mean)
    by_x = _affine(-r * h_mean, (g, r * of_g), (x, -r * r * (hx + w * r * q)), mean)
    return by_g, by_x.addcmul_(u, _by_channel(r * of_u, u)), n * r * q


def _channel_sums(u: Tensor, x: Tensor, mean: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return the sums of :math:`u (x - \mu) r` and of u over each channel, in one pass."""
    found = torch.ops.aten.native_batch_norm_backward(u, x, None, None, None, mean, r, True, 0.0, [False, True, True])
    return found[1], found[2]


def _affine(constant: Tensor, one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], mean: Tensor) -> Tensor:
    """Return the constant, plus a tensor times its factors, plus (x - μ) times its own."""
    (u, of_u), (x, of_x) = one, other
    total = torch.addcmul(_by_channel(constant - of_x * mean, u), u, _by_channel(of_u, u))
    return total.addcmul_(x, _by_channel(of_x, x))


def _by_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (like.dim() - 2))


class _Backward(Function):
    """What the backward of batch normalization found, with a second derivative of our own."""

    @staticmethod
    def forward(  # noqa: PLR0917 (autograd passes by position)
        ctx: Any,  # noqa: ANN401
        g: Tensor,
        x: Tensor,
        w: Tensor,
        mean: Tensor,
        r: Tensor,
        dx: Tensor,
        dw: Tensor,
        db: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(g, x, w, mean, r, dw, db)
        return dx.view_as(dx), dw.view_as(dw), db.view_as(db)

    @staticmethod
    def backward(ctx: Any, u: Tensor, a: Tensor, b: Tensor) -> Derivatives:  # noqa: ANN401
        if torch.is_grad_enabled():  # once_differentiable would be silent where u, a and b take no gradient
            raise RuntimeError("batch normalization has no third derivative, of torch's own neither")
        g, x, w, mean, r, dw, db = ctx.saved_tensors
        return *second_derivative((u, a, b), (g, x, w), (mean, r), (dw, db)), *[None] * 5
