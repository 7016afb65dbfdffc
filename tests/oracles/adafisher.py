# ruff: noqa: N803, N806 (the letters of the equations)
"""AdaFisher (ICLR 2025) from its equations: float64, slow and plain.

Explicit im2col, explicit one-hot tokens, explicit Kronecker products, an own forward pass and own parameters. The
modules of the given `nn.Sequential` are read as descriptions only (stride, groups, eps ...) and never called: no hook
plays a part here.

Legend: B batch, N rows (samples x positions), I inputs of a layer or of one of its groups, O outputs. h layer input,
a pre-activation, s = dL/da. H, S are the diagonals of the Kronecker factors; a grouped convolution has
H = [group 1, group 2, ..., bias].
"""

import copy
import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
CHANNEL_NORMS = (*BATCH_NORMS, nn.GroupNorm)
FEATURE_NORMS = (nn.LayerNorm, nn.RMSNorm)
NORMALIZATIONS = (*CHANNEL_NORMS, *FEATURE_NORMS)
DENSE = (nn.Linear, *CONVOLUTIONS)
WITH_RULE = {
    "dense": DENSE,
    "paper": (*DENSE, *BATCH_NORMS, nn.LayerNorm),
    "all": (*DENSE, *NORMALIZATIONS, nn.Embedding),
}
RELEASED_EPS = 1e-6

Batch = tuple[Tensor, Tensor]
Use = tuple[Tensor, Tensor]  # h and s of one use of a layer
Factors = tuple[Tensor, Tensor]  # H and S


# The forward pass


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


# What both numerics share


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


def with_bias(layer: nn.Module, H: Tensor) -> Tensor:
    """The square of the homogeneous coordinate, where there is one, comes last."""
    return torch.cat([H, torch.ones_like(H[:1])]) if isinstance(layer, DENSE) and layer.bias is not None else H


def kronecker(layer: nn.Module, H: Tensor, S: Tensor) -> dict[str, Tensor]:
    """H (x) S of a layer with a matrix, unfolded into the shapes of weight and bias."""
    if isinstance(layer, nn.Embedding):  # its weight is θ transposed
        return {"weight": torch.kron(H, S).reshape(layer.weight.shape)}
    groups = getattr(layer, "groups", 1)
    H, H_bias = (H, None) if layer.bias is None else (H[:-1], H[-1:])
    pairs = zip(H.chunk(groups), S.chunk(groups), strict=True)
    blocks = [torch.kron(H_g, S_g).reshape(len(H_g), len(S_g)).T for H_g, S_g in pairs]  # vec stacks the columns of θ
    diagonal = {"weight": torch.cat(blocks).reshape(layer.weight.shape)}
    return diagonal if H_bias is None else diagonal | {"bias": torch.kron(H_bias, S)}


def product(layer: nn.Module, H: Tensor, S: Tensor) -> dict[str, Tensor]:
    """H (x) S of any layer; Proposition 3.1 for scale and shift."""
    if isinstance(layer, NORMALIZATIONS):
        shape = layer.weight.shape
        return {"weight": torch.diag(torch.outer(H, S)).reshape(shape), "bias": S.reshape(shape)}
    return kronecker(layer, H, S)


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """The fields are arguments of AdaFisher."""

    name: ClassVar[str]
    start: ClassVar[float]
    gamma: float = 0.8
    update_interval: int = 1
    loss_reduction: str = "mean"
    layers: str = "paper"
    ema: bool = True

    def has_rule(self, layer: nn.Module) -> bool:
        return isinstance(layer, WITH_RULE[self.layers]) and next(layer.parameters(), None) is not None

    def fold(self, layer: nn.Module, uses: list[Use], factors: Factors) -> Factors:
        H, S = self.new(layer, uses)
        return (self.average(factors[0], H), self.average(factors[1], S)) if self.ema else (H, S)

    def new(self, layer: nn.Module, uses: list[Use]) -> Factors:
        raise NotImplementedError

    def average(self, old: Tensor, new: Tensor) -> Tensor:
        raise NotImplementedError

    def diagonal(self, layer: nn.Module, factors: Factors) -> dict[str, Tensor]:
        raise NotImplementedError


# Paper: Section 3, Appendix A, Proposition 3.1


@dataclass(frozen=True, kw_only=True)
class PaperNumerics(Numerics):
    name = "paper"
    start = 0.0

    def new(self, layer: nn.Module, uses: list[Use]) -> Factors:
        N = sum(len(as_rows(layer, s)) for _, s in uses)
        H = sum(torch.cat([rows.square().sum(0) for rows in input_rows(layer, h)]) for h, _ in uses) / N
        scale = N if self.loss_reduction == "mean" else 1
        S = sum((scale * as_rows(layer, s)).square().sum(0) for _, s in uses) / N
        return with_bias(layer, H), S

    def average(self, old: Tensor, new: Tensor) -> Tensor:
        """Eq. 3."""
        return self.gamma * new + (1 - self.gamma) * old

    def diagonal(self, layer: nn.Module, factors: Factors) -> dict[str, Tensor]:
        """Eq. 4 without λ."""
        return product(layer, *self.primes(layer, *factors))

    def primes(self, layer: nn.Module, H: Tensor, S: Tensor) -> Factors:
        return self.minmax(H), self.minmax(S)

    def minmax(self, m: Tensor) -> Tensor:
        spread = m.max() - m.min()
        if spread <= 8 * torch.finfo(m.dtype).eps * m.abs().max():
            return torch.ones_like(m)
        return (m - m.min()) / spread


# The authors' released code, from a description of what it computes; layers that it lacks have the paper's H and S


@dataclass(frozen=True, kw_only=True)
class ReleasedNumerics(Numerics):
    name = "released"
    start = 1.0
    update_interval: int = 100

    def new(self, layer: nn.Module, uses: list[Use]) -> Factors:
        ((h, s),) = uses
        is_theirs = isinstance(layer, (*BATCH_NORMS, nn.LayerNorm))
        H, S = self.of_normalization(layer, h, s) if is_theirs else self.of_product(layer, h, s)
        return self.minmax(H), self.minmax(S)

    def average(self, old: Tensor, new: Tensor) -> Tensor:
        return 0.1 * self.gamma * old + 0.01 * self.gamma * new

    @staticmethod
    def of_product(layer: nn.Module, h: Tensor, s: Tensor) -> Factors:
        """Mean squares; a grouped convolution pools its groups."""
        H = torch.stack([rows.square().mean(0) for rows in input_rows(layer, h)]).mean(0)
        return with_bias(layer, H), as_rows(layer, s).square().mean(0)

    @staticmethod
    def of_normalization(layer: nn.Module, h: Tensor, s: Tensor) -> Factors:
        """H has one entry for the scale and one for the shift; dim 1 plays the channels for LayerNorm too."""
        batch, channels, *positions = h.shape
        sums = h.transpose(0, 1).reshape(channels, -1).sum(1) / torch.Size(positions).numel() ** 2
        H = torch.stack([sums.square().sum(), torch.tensor(float(channels), dtype=h.dtype)]) / batch**2
        return H, as_rows(layer, s).sum(0).square() / batch

    @staticmethod
    def minmax(m: Tensor) -> Tensor:
        return (m - m.min()) / (m.max() - m.min() + RELEASED_EPS)

    def diagonal(self, layer: nn.Module, factors: Factors) -> dict[str, Tensor]:
        H, S = factors
        if isinstance(layer, (*BATCH_NORMS, nn.LayerNorm)):
            return {"weight": (H[0] * S).reshape(layer.weight.shape), "bias": (H[1] * S).reshape(layer.weight.shape)}
        if isinstance(layer, CONVOLUTIONS):
            H = H.repeat(layer.groups) if layer.bias is None else torch.cat([H[:-1].repeat(layer.groups), H[-1:]])
        return product(layer, H, S)


# The optimizer (Algorithm 1)


@dataclass(frozen=True, kw_only=True)
class Options:
    lr: float = 1e-3
    beta: float = 0.9
    damping: float = 1e-3
    weight_decay: float = 0.0


@dataclass
class AdaFisherOracle:
    """Trains its own float64 copy of a sequential model's parameters; `params` are by name."""

    model: nn.Sequential
    numerics: Numerics = field(default_factory=PaperNumerics)
    options: Callable[[str], Options] = lambda name: Options()
    decoupled_weight_decay: bool = False
    square_root: bool = False

    def __post_init__(self):
        self.model = copy.deepcopy(self.model)
        self.names = {id(p): name for name, p in self.model.named_parameters()}
        self.trainable = [name for name, p in self.model.named_parameters() if p.requires_grad]
        self.params = {
            name: p.detach().double().clone().requires_grad_(p.requires_grad)
            for name, p in self.model.named_parameters()
        }
        start = torch.tensor(self.numerics.start, dtype=torch.float64)
        self.factors = {layer: (start, start) for layer in self.model if self.numerics.has_rule(layer)}
        self.moments = {name: torch.zeros_like(self.params[name]) for name in self.trainable}
        self.num_steps = 0

    def forward(self, x: Tensor) -> tuple[Tensor, list[tuple[nn.Module, Tensor, Tensor]]]:
        """The output, and (layer, h, a) of every use of a layer with a rule."""
        h, trace = x.double() if x.is_floating_point() else x, []
        for layer in self.model:
            weight, bias = (
                self.params.get(self.names.get(id(getattr(layer, kind, None)))) for kind in ("weight", "bias")
            )
            a = forward(layer, h, weight, bias)
            if layer in self.factors:
                trace.append((layer, h.detach(), a))
            h = a
        return h, trace

    def step(self, micro_batches: list[Batch], loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        """One step on the sum of the micro-batches' losses."""
        grads, uses = dict.fromkeys(self.trainable, 0.0), defaultdict(list)
        for x, y in micro_batches:
            output, trace = self.forward(x)
            wanted = [self.params[name] for name in self.trainable] + [a for *_, a in trace]
            found = torch.autograd.grad(loss(output, y), wanted)
            for name, grad in zip(self.trainable, found, strict=False):
                grads[name] = grads[name] + grad
            for (layer, h, _), s in zip(trace, found[len(self.trainable) :], strict=True):
                uses[layer].append((h, s))
        if self.num_steps % self.numerics.update_interval == 0:
            for layer, factors in self.factors.items():
                self.factors[layer] = self.numerics.fold(layer, uses[layer], factors)
        self.num_steps += 1
        for name, grad in grads.items():
            self.update(name, grad)

    def fisher_diag(self, name: str) -> Tensor:
        """F̃: the mean over the modules that own the parameter (ones where there is no rule), plus λ."""
        ones = torch.ones_like(self.params[name])
        diagonals = []
        for layer in dict.fromkeys(self.model):
            for kind, p in layer.named_parameters(recurse=False):
                if self.names[id(p)] == name:
                    factors = self.factors.get(layer)
                    diagonals.append(self.numerics.diagonal(layer, factors)[kind] if factors else ones)
        return sum(diagonals) / len(diagonals) + self.options(name).damping

    def update(self, name: str, grad: Tensor) -> None:
        options, theta = self.options(name), self.params[name].detach()
        if not self.decoupled_weight_decay:
            grad = grad + options.weight_decay * theta
        m = self.moments[name] = options.beta * self.moments[name] + (1 - options.beta) * grad
        fisher = self.fisher_diag(name)
        direction = m / (1 - options.beta**self.num_steps) / (fisher.sqrt() if self.square_root else fisher)
        if self.decoupled_weight_decay:
            direction = direction + options.weight_decay * theta
        self.params[name] = (theta - options.lr * direction).requires_grad_()
