"""Shampoo from its equations: float64 numpy, block after block, without padding, roots by singular values.

Gupta et al. (2018), Algorithm 1, on the blocks of each matrix, with the running averages, relative damping and grafting
of Anil et al. (2020). Gradients come from autograd on the oracle's own parameters.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Options:
    lr: float = 0.1
    momentum: float = 0.9
    beta2: float = 0.99
    damping: float = 1e-5
    weight_decay: float = 0.0


def spans(size: int, block_size: int) -> list[slice]:
    """Even pieces of a dimension, as many as have ``block_size`` entries; the last may be shorter."""
    num_pieces = max(1, size // block_size)
    length = (size + num_pieces - 1) // num_pieces
    return [slice(start, min(start + length, size)) for start in range(0, size, length)]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The equations, each a method that a mutant of the oracle replaces."""

    grafting: str = "sgd"
    block_size: int = 256
    update_interval: int = 50

    def is_due(self, num_steps: int) -> bool:
        return num_steps % self.update_interval == 0

    def average(self, old: Array, new: Array, beta2: float) -> Array:
        return old + new if beta2 == 1 else beta2 * old + (1 - beta2) * new

    def corrected(self, average: Array, num_averaged: int, beta2: float) -> Array:
        return average if beta2 == 1 else average / (1 - beta2**num_averaged)

    def damped(self, eigenvalues: Array, damping: float) -> Array:
        return eigenvalues + damping * eigenvalues.max()

    def inverse_root(self, statistic: Array, damping: float) -> Array:
        """M^(-1/4): the left singular vectors of a symmetric positive matrix are its eigenvectors."""
        vectors, eigenvalues, _ = np.linalg.svd(statistic)
        return vectors @ np.diag(self.damped(eigenvalues, damping) ** (-1 / 4)) @ vectors.T

    def direction(self, left_root: Array, grad: Array, right_root: Array) -> Array:
        return left_root @ grad @ right_root

    def diagonal(self, grad: Array, square: Array, damping: float) -> Array:
        damped = self.damped(square, damping)
        return np.divide(grad, np.sqrt(damped), out=np.zeros_like(grad), where=damped > 0)

    def grafted(self, grad: Array, square: Array) -> Array:
        """What a step of the grafted method is, but for its learning rate."""
        return grad if self.grafting == "sgd" else grad / (np.sqrt(square) + 1e-8)

    def rescaled(self, direction: Array, grafted: Array) -> Array:
        norm = np.linalg.norm(direction)
        return direction * (np.linalg.norm(grafted) / norm) if norm > 0 else direction

    def graft(self, direction: Array, grad: Array, square: Array) -> Array:
        return direction if self.grafting == "none" else self.rescaled(direction, self.grafted(grad, square))

    def moved(self, theta: Array, direction: Array, velocity: Array, o: Options) -> tuple[Array, Array]:
        """SGD with heavy ball; the decay is added to the direction."""
        velocity = o.momentum * velocity + direction + o.weight_decay * theta
        return theta - o.lr * velocity, velocity


@dataclass
class Side:
    """A statistic of a block and the root of it that is in use."""

    statistic: Array
    root: Array

    @classmethod
    def new(cls, size: int) -> "Side":
        return cls(np.zeros((size, size)), np.eye(size))


@dataclass
class Memory:
    """What is kept of a parameter."""

    theta: Array
    velocity: Array
    square: Array
    num_averaged: int = 0
    sides: dict[tuple[int, int], tuple[Side, Side]] = field(default_factory=dict)


class ShampooOracle:
    """Trains float64 copies of a model's parameters; the options are by name."""

    def __init__(self, model: nn.Module, rules: Rules, options: Callable[[str], Options]):
        self.model, self.rules, self.options = model, rules, options
        self.num_steps = 0
        self.memories = {
            name: Memory(theta := p.detach().double().numpy().copy(), np.zeros_like(theta), np.zeros_like(theta))
            for name, p in model.named_parameters()
        }

    def gradients(self, loss: Callable[[Callable[..., Tensor]], Tensor]) -> dict[str, Array]:
        """By name, of ``loss(forward)``."""
        params = {name: torch.tensor(m.theta, requires_grad=True) for name, m in self.memories.items()}
        value = loss(lambda *inputs: functional_call(self.model, params, inputs))
        grads = torch.autograd.grad(value, list(params.values()))
        return {name: grad.numpy() for name, grad in zip(params, grads, strict=True)}

    def step(self, grads: dict[str, Array]) -> None:
        for name, grad in grads.items():
            memory, o = self.memories[name], self.options(name)
            memory.num_averaged += 1
            memory.square = self.rules.average(memory.square, grad**2, o.beta2)
            square = self.rules.corrected(memory.square, memory.num_averaged, o.beta2)
            if grad.ndim < 2:
                direction = self.rules.diagonal(grad, square, o.damping)
            else:
                direction = self.preconditioned(grad.reshape(len(grad), -1), memory, o).reshape(grad.shape)
            direction = self.rules.graft(direction, grad, square)
            memory.theta, memory.velocity = self.rules.moved(memory.theta, direction, memory.velocity, o)
        self.num_steps += 1

    def preconditioned(self, grad: Array, memory: Memory, o: Options) -> Array:
        direction = np.zeros_like(grad)
        pieces = (spans(size, self.rules.block_size) for size in grad.shape)
        for down, across in itertools.product(*pieces):
            block = grad[down, across]
            new = tuple(Side.new(size) for size in block.shape)
            left, right = memory.sides.setdefault((down.start, across.start), new)
            self.follow(left, block @ block.T, memory, o)
            self.follow(right, block.T @ block, memory, o)
            direction[down, across] = self.rules.direction(left.root, block, right.root)
        return direction

    def follow(self, side: Side, product: Array, memory: Memory, o: Options) -> None:
        side.statistic = self.rules.average(side.statistic, product, o.beta2)
        if self.rules.is_due(self.num_steps) and side.statistic.any():
            corrected = self.rules.corrected(side.statistic, memory.num_averaged, o.beta2)
            side.root = self.rules.inverse_root(corrected, o.damping)
