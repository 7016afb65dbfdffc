# ruff: noqa: N803, N806 (the letters of the equations)
"""AdaFisher (ICLR 2025) from its equations: float64, slow and plain.

Explicit im2col, explicit Kronecker products, an own forward pass and own parameters. The modules of the given
`nn.Sequential` are read as descriptions only (stride, groups, eps ...) and never called: no hook plays a part here.

Legend: N rows (samples x positions), I inputs of a layer or of one of its groups, O outputs. h layer input,
a pre-activation, s = dL/da. H, S are the diagonals of the Kronecker factors; a grouped convolution has
H = [group 1, group 2, ..., bias].
"""

import copy
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

NORMALIZATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)
WITH_RULE = (nn.Linear, nn.Conv2d, *NORMALIZATIONS)
RELEASED_EPS = 1e-6

Batch = tuple[Tensor, Tensor]
Use = tuple[Tensor, Tensor]  # h and s of one use of a layer
Factors = tuple[Tensor, Tensor]  # H and S


# The forward pass


def patches(conv: nn.Conv2d, h: Tensor) -> Tensor:
    """Im2col of the padded input, kernel offset by kernel offset: [B, groups, I, rows, columns]."""
    (dy, dx), (sy, sx), (ky, kx) = conv.dilation, conv.stride, conv.kernel_size
    if conv.padding == "same":
        (top, left), total = (dy * (ky - 1) // 2, dx * (kx - 1) // 2), (dy * (ky - 1), dx * (kx - 1))
        bottom, right = total[0] - top, total[1] - left
    else:
        (top, left) = (bottom, right) = (0, 0) if conv.padding == "valid" else conv.padding
    padded = F.pad(
        h, (left, right, top, bottom), mode="constant" if conv.padding_mode == "zeros" else conv.padding_mode
    )
    last_y, last_x = padded.shape[2] - dy * (ky - 1), padded.shape[3] - dx * (kx - 1)
    offsets = [(y * dy, x * dx) for y in range(ky) for x in range(kx)]
    shifted = [padded[:, :, y : y + last_y : sy, x : x + last_x : sx] for y, x in offsets]
    return torch.stack(shifted, dim=2).unflatten(1, (conv.groups, -1)).flatten(2, 3)


def convolve(conv: nn.Conv2d, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    a = torch.einsum("bgiyx,goi->bgoyx", patches(conv, h), weight.flatten(1).unflatten(0, (conv.groups, -1)))
    return a.flatten(1, 2) + (0 if bias is None else bias[:, None, None])


def normalize(layer: nn.Module, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if isinstance(layer, nn.LayerNorm):
        dims = list(range(-len(layer.normalized_shape), 0))
    else:
        dims = [0, *range(2, h.dim())]
        weight, bias = (p.reshape(-1, *[1] * (h.dim() - 2)) for p in (weight, bias))
    centred = h - h.mean(dims, keepdim=True)
    return weight * centred / (centred.square().mean(dims, keepdim=True) + layer.eps).sqrt() + bias


def forward(layer: nn.Module, h: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    match layer:
        case nn.Linear():
            a = h @ weight.T + (0 if bias is None else bias)
        case nn.Conv2d():
            a = convolve(layer, h, weight, bias)
        case nn.BatchNorm1d() | nn.BatchNorm2d() | nn.LayerNorm():
            a = normalize(layer, h, weight, bias)
        case nn.Embedding():
            a = weight[h]
        case nn.PReLU():
            a = torch.where(h > 0, h, weight * h)
        case nn.ReLU():
            a = torch.where(h > 0, h, 0.0)
        case nn.Flatten():
            a = h.flatten(1)
        case _:
            raise NotImplementedError(type(layer).__name__)
    return a


# What both numerics share


def as_rows(layer: nn.Module, t: Tensor) -> Tensor:
    """Samples and positions in rows, the layer's features or channels in columns."""
    match layer:
        case nn.LayerNorm():
            return t.reshape(-1, layer.weight.numel())
        case nn.Linear():
            return t.reshape(-1, t.shape[-1])
    return t.movedim(1, -1).reshape(-1, t.shape[1])


def input_rows(layer: nn.Module, h: Tensor) -> list[Tensor]:
    """[N, I] for every group, without the homogeneous coordinate."""
    if isinstance(layer, nn.Conv2d):
        return [group.movedim(1, -1).flatten(0, 2) for group in patches(layer, h).unbind(1)]
    return [as_rows(layer, h)]


def kronecker(layer: nn.Module, H: Tensor, S: Tensor) -> dict[str, Tensor]:
    """H (x) S of a Linear or Conv2d, unfolded into the shapes of weight and bias."""
    groups = getattr(layer, "groups", 1)
    H, H_bias = (H, None) if layer.bias is None else (H[:-1], H[-1:])
    pairs = zip(H.chunk(groups), S.chunk(groups), strict=True)
    blocks = [torch.kron(H_g, S_g).reshape(len(H_g), len(S_g)).T for H_g, S_g in pairs]  # vec stacks the columns of θ
    diagonal = {"weight": torch.cat(blocks).reshape(layer.weight.shape)}
    return diagonal if H_bias is None else diagonal | {"bias": torch.kron(H_bias, S)}


# Paper: Section 3, Appendix A, Proposition 3.1


@dataclass(frozen=True)
class PaperNumerics:
    gamma: float = 0.8
    loss_reduction: str = "mean"
    update_interval: int = 1
    start: float = 0.0

    def fold(self, layer: nn.Module, uses: list[Use], factors: Factors) -> Factors:
        """Eq. 3."""
        num_rows = sum(len(as_rows(layer, s)) for _, s in uses)
        H_new = sum(torch.cat([rows.square().sum(0) for rows in input_rows(layer, h)]) for h, _ in uses) / num_rows
        if not isinstance(layer, NORMALIZATIONS) and layer.bias is not None:
            H_new = torch.cat([H_new, torch.ones(1, dtype=H_new.dtype)])
        S_new = sum(as_rows(layer, s).square().sum(0) for _, s in uses)
        S_new = S_new * num_rows if self.loss_reduction == "mean" else S_new / num_rows
        H, S = factors
        return self.gamma * H_new + (1 - self.gamma) * H, self.gamma * S_new + (1 - self.gamma) * S

    def diagonal(self, layer: nn.Module, factors: Factors) -> dict[str, Tensor]:
        """Eq. 4 without λ."""
        H, S = (self.minmax(m) for m in factors)
        if isinstance(layer, NORMALIZATIONS):
            return {"weight": (H * S).reshape(layer.weight.shape), "bias": S.reshape(layer.weight.shape)}
        return kronecker(layer, H, S)

    @staticmethod
    def minmax(m: Tensor) -> Tensor:
        spread = m.max() - m.min()
        if spread <= 8 * torch.finfo(m.dtype).eps * m.abs().max():
            return torch.ones_like(m)
        return (m - m.min()) / spread


# The authors' released code, from a description of what it computes


@dataclass(frozen=True)
class ReleasedNumerics:
    gamma: float = 0.8
    update_interval: int = 100
    start: float = 1.0

    def fold(self, layer: nn.Module, uses: list[Use], factors: Factors) -> Factors:
        ((h, s),) = uses
        new = self.of_normalization(layer, h, s) if isinstance(layer, NORMALIZATIONS) else self.of_product(layer, h, s)
        H, S = (
            0.1 * self.gamma * old + 0.01 * self.gamma * self.minmax(m) for old, m in zip(factors, new, strict=True)
        )
        return H, S

    @staticmethod
    def of_product(layer: nn.Module, h: Tensor, s: Tensor) -> Factors:
        """Mean squares; a grouped convolution pools its groups."""
        H = torch.stack([rows.square().mean(0) for rows in input_rows(layer, h)]).mean(0)
        H = H if layer.bias is None else torch.cat([H, torch.ones(1, dtype=H.dtype)])
        return H, as_rows(layer, s).square().mean(0)

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

    @staticmethod
    def diagonal(layer: nn.Module, factors: Factors) -> dict[str, Tensor]:
        H, S = factors
        if isinstance(layer, NORMALIZATIONS):
            return {"weight": H[0] * S, "bias": H[1] * S}
        if isinstance(layer, nn.Conv2d):
            bias = layer.bias is not None
            H = torch.cat([H[:-1].repeat(layer.groups), H[-1:]]) if bias else H.repeat(layer.groups)
        return kronecker(layer, H, S)


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
    numerics: PaperNumerics | ReleasedNumerics = field(default_factory=PaperNumerics)
    options: Callable[[str], Options] = lambda name: Options()
    decoupled_weight_decay: bool = False

    def __post_init__(self):
        self.model = copy.deepcopy(self.model)
        self.names = {id(p): name for name, p in self.model.named_parameters()}
        self.trainable = [name for name, p in self.model.named_parameters() if p.requires_grad]
        self.params = {
            name: p.detach().double().clone().requires_grad_(p.requires_grad)
            for name, p in self.model.named_parameters()
        }
        start = torch.tensor(self.numerics.start, dtype=torch.float64)
        self.factors = {layer: (start, start) for layer in self.model if isinstance(layer, WITH_RULE)}
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
            if isinstance(layer, WITH_RULE):
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
                    has_rule = isinstance(layer, WITH_RULE)
                    diagonals.append(self.numerics.diagonal(layer, self.factors[layer])[kind] if has_rule else ones)
        return sum(diagonals) / len(diagonals) + self.options(name).damping

    def update(self, name: str, grad: Tensor) -> None:
        options, theta = self.options(name), self.params[name].detach()
        if not self.decoupled_weight_decay:
            grad = grad + options.weight_decay * theta
        m = self.moments[name] = options.beta * self.moments[name] + (1 - options.beta) * grad
        direction = m / (1 - options.beta**self.num_steps) / self.fisher_diag(name)
        if self.decoupled_weight_decay:
            direction = direction + options.weight_decay * theta
        self.params[name] = (theta - options.lr * direction).requires_grad_()
