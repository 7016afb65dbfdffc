# ruff: noqa: N803, N806 (the letters of the equations)
"""What the oracles of K-FAC and of Eva share: float64, slow and plain.

Every block of the Fisher matrix is formed whole, as a Kronecker product, and its damped system solved by elimination.
Forward pass, im2col and rows are those of `network.py`, which calls no module and hooks nothing.

Legend: N rows (samples x positions), M samples, h̄ layer input with 1 for a bias, s = dL/da of a loss averaged (or
summed) over samples, G the gradient of a layer's matrix, a row an output.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tests.oracles.network import DENSE, Batch, Network, Use, as_rows, input_rows


@dataclass(frozen=True, kw_only=True)
class Options:
    """The fields are arguments of the optimizers."""

    lr: float = 0.05
    momentum: float = 0.9
    damping: float = 1e-2
    factor_decay: float = 0.95
    kl_clip: float | None = 1e-3
    weight_decay: float = 0.0
    loss_reduction: str = "mean"


def rows_by_group(layer: nn.Module, h: Tensor) -> list[Tensor]:
    """h̄ of every group, [N, I + 1] with a bias."""
    rows = input_rows(layer, h)
    has_bias = isinstance(layer, DENSE) and layer.bias is not None
    return [torch.cat([each, torch.ones_like(each[:, :1])], 1) for each in rows] if has_bias else rows


def grads_by_group(layer: nn.Module, s: Tensor) -> list[Tensor]:
    """s of every group, [N, O / groups]."""
    return list(as_rows(layer, s).chunk(getattr(layer, "groups", 1), dim=1))


def matrices(layer: nn.Module, grads: dict[str, Tensor]) -> list[Tensor]:
    """G of every group, [O / groups, I + 1]."""
    if isinstance(layer, nn.Embedding):
        return [grads["weight"].T]
    whole = grads["weight"].flatten(1)
    if layer.bias is not None:
        whole = torch.cat([whole, grads["bias"][:, None]], 1)
    return list(whole.chunk(getattr(layer, "groups", 1)))


def by_parameter(layer: nn.Module, directions: list[Tensor]) -> dict[str, Tensor]:
    if isinstance(layer, nn.Embedding):
        return {"weight": directions[0].T}
    whole = torch.cat(directions)
    if layer.bias is None:
        return {"weight": whole.reshape(layer.weight.shape)}
    return {"weight": whole[:, :-1].reshape(layer.weight.shape), "bias": whole[:, -1]}


def solve(F: Tensor, G: Tensor) -> Tensor:
    """F⁻¹ vec(G); vec takes G row by row, hence F = S ⊗ A."""
    return torch.linalg.solve(F, G.flatten()).reshape(G.shape)


class NaturalOracle(Network):
    """Trains its own copy of the parameters."""

    with_rule: tuple[type[nn.Module], ...]

    def __init__(self, model: nn.Sequential, options: Options):
        super().__init__(model)
        self.options = options
        self.layers = [layer for layer in dict.fromkeys(self.model) if self.has_rule(layer)]
        self.velocities = {name: torch.zeros_like(self.params[name]) for name in self.trainable}

    def has_rule(self, layer: nn.Module) -> bool:
        return isinstance(layer, self.with_rule)

    def fold(self, layer: nn.Module, uses: list[Use]) -> None:
        raise NotImplementedError

    def direction(self, layer: nn.Module, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        raise NotImplementedError

    def step(self, micro_batches: list[Batch], loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        """One step on the sum of the micro-batches' losses."""
        grads, uses = self.differentiate(micro_batches, loss)
        self.refresh(uses)
        self.num_steps += 1
        directions = defaultdict(list)
        for layer in self.layers:
            own = {kind: self.names[id(p)] for kind, p in layer.named_parameters(recurse=False)}
            given = {kind: grads.get(name, torch.zeros_like(self.params[name])) for kind, name in own.items()}
            for kind, direction in self.direction(layer, given).items():
                directions[own[kind]].append(direction)
        self.move(grads, directions)

    def refresh(self, uses: dict[nn.Module, list[Use]]) -> None:
        for layer in self.layers:
            self.fold(layer, uses[layer])

    def move(self, grads: dict[str, Tensor], directions: dict[str, list[Tensor]]) -> None:
        options, steps = self.options, {}
        num_uses = defaultdict(int)
        for layer in dict.fromkeys(self.model):
            for p in layer.parameters(recurse=False):
                num_uses[self.names[id(p)]] += 1
        for name, grad in grads.items():
            found = directions[name] + [grad] * (num_uses[name] - len(directions[name]))
            steps[name] = sum(found) / len(found)
        length = sum((steps[name] * grad).sum() for name, grad in grads.items() if directions[name]) * options.lr**2
        nu = 1.0 if options.kl_clip is None else min(1.0, (options.kl_clip / length) ** 0.5)
        for name, direction in steps.items():
            theta = self.params[name].detach()
            shrunk = direction * (nu if directions[name] else 1.0) + options.weight_decay * theta
            self.velocities[name] = options.momentum * self.velocities[name] + shrunk
            self.params[name] = (theta - options.lr * self.velocities[name]).requires_grad_()
