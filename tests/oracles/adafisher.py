# ruff: noqa: N803, N806 (the letters of the equations)
"""AdaFisher (ICLR 2025) from its equations: float64, slow and plain, with explicit Kronecker products.

Legend: that of `network.py`. H, S are the diagonals of the Kronecker factors; a grouped convolution has
H = [group 1, group 2, ..., bias].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from tests.oracles.network import (
    BATCH_NORMS,
    CONVOLUTIONS,
    DENSE,
    NORMALIZATIONS,
    Batch,
    Network,
    Use,
    as_rows,
    input_rows,
)

WITH_RULE = {
    "dense": DENSE,
    "paper": (*DENSE, *BATCH_NORMS, nn.LayerNorm),
    "all": (*DENSE, *NORMALIZATIONS, nn.Embedding),
}
RELEASED_EPS = 1e-6

Factors = tuple[Tensor, Tensor]  # H and S


# What both numerics share


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


class AdaFisherOracle(Network):
    """Trains its own copy of the parameters."""

    def __init__(
        self,
        model: nn.Sequential,
        numerics: Numerics = PaperNumerics(),  # noqa: B008 (frozen)
        options: Callable[[str], Options] = lambda name: Options(),
        decoupled_weight_decay: bool = False,
        square_root: bool = False,
    ):
        super().__init__(model)
        self.numerics, self.options = numerics, options
        self.decoupled_weight_decay, self.square_root = decoupled_weight_decay, square_root
        start = torch.tensor(self.numerics.start, dtype=torch.float64)
        self.factors = {layer: (start, start) for layer in self.model if self.numerics.has_rule(layer)}
        self.moments = {name: torch.zeros_like(self.params[name]) for name in self.trainable}

    def has_rule(self, layer: nn.Module) -> bool:
        return layer in self.factors

    def step(self, micro_batches: list[Batch], loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        """One step on the sum of the micro-batches' losses."""
        grads, uses = self.differentiate(micro_batches, loss)
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
