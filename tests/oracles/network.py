"""A sequential model's forward pass and parameters, as the oracles have them: float64, slow and plain.

Explicit im2col and explicit one-hot tokens. The modules of the given `nn.Sequential` are read as descriptions only
(stride, groups, eps ...) and never called: no hook plays a part here.

Legend: B batch, N rows (samples x positions), I inputs of a layer or of one of its groups. h layer input, a
pre-activation, s = dL/da.
"""

import copy
import itertools
from collections import defaultdict
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
CHANNEL_NORMS = (*BATCH_NORMS, nn.GroupNorm)
FEATURE_NORMS = (nn.LayerNorm, nn.RMSNorm)
NORMALIZATIONS = (*CHANNEL_NORMS, *FEATURE_NORMS)
DENSE = (nn.Linear, *CONVOLUTIONS)

Batch = tuple[Tensor, Tensor]
Use = tuple[Tensor, Tensor]  # h and s of one use of a layer


def margins(conv: nn.Module) -> list[tuple[int, int]]:
    """What padding adds before and after each spatial dimension."""
    if conv.padding == "same":
        totals = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(0, 0)] * len(conv.kernel_size) if conv.padding == "valid" else [(p, p) for p in conv.padding]


def patches(conv: nn.Module, h: Tensor) -> Tensor:
    """Im2col of the padded input, kernel offset by kernel offset: [B, groups, I, *positions]."""
    around = [size for margin in reversed(margins(conv)) for size in margin]  # F.pad wants the last dimension first
    padded = F.pad(h, around, mode="constant" if conv.padding_mode == "zeros" else conv.padding_mode)
    shifted = []
    for offset in itertools.product(*(range(k) for k in conv.kernel_size)):
        geometry = zip(offset, padded.shape[2:], conv.kernel_size, conv.dilation, conv.stride, strict=True)
        window = [slice(o * d, o * d + size - d * (k - 1), step) for o, size, k, d, step in geometry]
        shifted.append(padded[:, :, *window])
    return torch.stack(shifted, dim=2).unflatten(1, (conv.groups, -1)).flatten(2, 3)


def by_channel(p: Tensor, t: Tensor) -> Tensor:
    """A vector of channels, shaped to broadcast over [B, C, *positions]."""
    return p.reshape(-1, *[1] * (t.dim() - 2))


def convolve(conv: nn.Module, h: Tensor, weight: Tensor) -> Tensor:
    a = torch.einsum("bgi...,goi->bgo...", patches(conv, h), weight.flatten(1).unflatten(0, (conv.groups, -1)))
    return a.flatten(1, 2)


def standardize(h: Tensor, dims: list[int], eps: float) -> Tensor:
    centred = h - h.mean(dims, keepdim=True)
    return centred / (centred.square().mean(dims, keepdim=True) + eps).sqrt()


def normalize(layer: nn.Module, h: Tensor) -> Tensor:
    """Without scale and shift; a BatchNorm in eval mode takes its running statistics, if it has any."""
    match layer:
        case nn.LayerNorm():
            return standardize(h, list(range(-len(layer.normalized_shape), 0)), layer.eps)
        case nn.RMSNorm():
            square = h.square().mean(list(range(-len(layer.normalized_shape), 0)), keepdim=True)
            return h / (square + (torch.finfo(h.dtype).eps if layer.eps is None else layer.eps)).sqrt()
        case nn.GroupNorm():
            grouped = h.unflatten(1, (layer.num_groups, -1))
            return standardize(grouped, list(range(2, grouped.dim())), layer.eps).flatten(1, 2)
    if layer.training or layer.running_mean is None:
        return standardize(h, [0, *range(2, h.dim())], layer.eps)
    mean, variance = (by_channel(buffer.double(), h) for buffer in (layer.running_mean, layer.running_var))
    return (h - mean) / (variance + layer.eps).sqrt()


def is_trained(layer: nn.Embedding) -> Tensor:
    """Whether a token trains its row: the padding token does not."""
    return torch.arange(layer.num_embeddings) != (-1 if layer.padding_idx is None else layer.padding_idx)


def forward(layer: nn.Module, h: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    match layer:
        case nn.Embedding():
            return torch.where(is_trained(layer)[:, None], weight, weight.detach())[h]
        case nn.PReLU():
            return torch.where(h > 0, h, weight * h)
        case nn.ReLU():
            return torch.where(h > 0, h, 0.0)
        case nn.Flatten():
            return h.flatten(1)
        case nn.Linear():
            a = h @ weight.T
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            a = convolve(layer, h, weight)
        case _ if isinstance(layer, NORMALIZATIONS):
            a = normalize(layer, h)
            if weight is not None:
                a = a * (by_channel(weight, a) if isinstance(layer, CHANNEL_NORMS) else weight)
        case _:
            raise NotImplementedError(type(layer).__name__)
    if bias is None:
        return a
    return a + (by_channel(bias, a) if isinstance(layer, CONVOLUTIONS + CHANNEL_NORMS) else bias)


def as_rows(layer: nn.Module, t: Tensor) -> Tensor:
    """Samples and positions in rows, the layer's features or channels in columns."""
    if isinstance(layer, FEATURE_NORMS):
        return t.reshape(-1, torch.Size(layer.normalized_shape).numel())
    if isinstance(layer, nn.Linear | nn.Embedding):
        return t.reshape(-1, t.shape[-1])
    return t.movedim(1, -1).reshape(-1, t.shape[1])


def input_rows(layer: nn.Module, h: Tensor) -> list[Tensor]:
    """[N, I] for every group, without the homogeneous coordinate. An Embedding is linear in one-hot rows."""
    if isinstance(layer, nn.Embedding):
        return [F.one_hot(h.flatten(), layer.num_embeddings).double() * is_trained(layer)]
    if isinstance(layer, CONVOLUTIONS):
        return [group.movedim(1, -1).flatten(0, -2) for group in patches(layer, h).unbind(1)]
    return [as_rows(layer, h)]


class Network:
    """An own float64 copy of a sequential model's parameters; `params` are by name."""

    def __init__(self, model: nn.Sequential):
        self.model = copy.deepcopy(model)
        self.names = {id(p): name for name, p in self.model.named_parameters()}
        self.trainable = [name for name, p in self.model.named_parameters() if p.requires_grad]
        self.params = {
            name: p.detach().double().clone().requires_grad_(p.requires_grad)
            for name, p in self.model.named_parameters()
        }
        self.num_steps = 0

    def has_rule(self, layer: nn.Module) -> bool:
        raise NotImplementedError

    def forward(self, x: Tensor) -> tuple[Tensor, list[tuple[nn.Module, Tensor, Tensor]]]:
        """The output, and (layer, h, a) of every use of a layer with a rule."""
        h, trace = x.double() if x.is_floating_point() else x, []
        for layer in self.model:
            weight, bias = (
                self.params.get(self.names.get(id(getattr(layer, kind, None)))) for kind in ("weight", "bias")
            )
            a = forward(layer, h, weight, bias)
            if self.has_rule(layer):
                trace.append((layer, h.detach(), a))
            h = a
        return h, trace

    def differentiate(
        self, micro_batches: list[Batch], loss: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[dict[str, Tensor], dict[nn.Module, list[Use]]]:
        """The gradients of the sum of the micro-batches' losses by name, and the uses of each layer with a rule."""
        grads, uses = dict.fromkeys(self.trainable, 0.0), defaultdict(list)
        for x, y in micro_batches:
            output, trace = self.forward(x)
            wanted = [self.params[name] for name in self.trainable] + [a for *_, a in trace]
            found = torch.autograd.grad(loss(output, y), wanted)
            for name, grad in zip(self.trainable, found, strict=False):
                grads[name] = grads[name] + grad
            for (layer, h, _), s in zip(trace, found[len(self.trainable) :], strict=True):
                uses[layer].append((h, s))
        return grads, uses
