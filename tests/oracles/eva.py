# ruff: noqa: N803, N806 (the letters of the equations)
"""Eva (Zhang, Shi and Li 2023) from its equations: a rank-one Fisher block of the vectors a = E[h̄] and b = E[Σ s]."""

import torch
from torch import Tensor, nn

from tests.oracles.natural import NaturalOracle, Options, by_parameter, grads_by_group, matrices, rows_by_group, solve
from tests.oracles.network import CONVOLUTIONS, Use, as_rows

Pair = tuple[Tensor, Tensor]


class EvaOracle(NaturalOracle):
    with_rule = (nn.Linear, *CONVOLUTIONS)

    def __init__(self, model: nn.Sequential, options: Options, *, interval=1):
        super().__init__(model, options)
        self.interval = interval
        self.running: dict[nn.Module, list[Pair]] = {}
        self.total = 0.0

    def refresh(self, uses: dict[nn.Module, list[Use]]) -> None:
        if self.num_steps % self.interval == 0:
            self.total = self.options.factor_decay * self.total + (1 - self.options.factor_decay)
            super().refresh(uses)

    def fold(self, layer: nn.Module, uses: list[Use]) -> None:
        """The mean of h̄ over rows, and the mean over samples of what s sums to over positions."""
        decay = self.options.factor_decay
        N = sum(len(as_rows(layer, s)) for _, s in uses)
        M = sum(len(s) for _, s in uses)
        scale = 1 if self.options.loss_reduction == "mean" else 1 / M
        a = [sum(h.sum(0) for h in use) / N for use in zip(*(rows_by_group(layer, h) for h, _ in uses), strict=True)]
        b = [
            scale * sum(s.sum(0) for s in use) for use in zip(*(grads_by_group(layer, s) for _, s in uses), strict=True)
        ]
        new = list(zip(a, b, strict=True))
        old = self.running.get(layer, [(0 * a, 0 * b) for a, b in new])
        self.running[layer] = [
            (decay * a + (1 - decay) * a_new, decay * b + (1 - decay) * b_new)
            for (a, b), (a_new, b_new) in zip(old, new, strict=True)
        ]

    def direction(self, layer: nn.Module, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        pairs = [(a / self.total, b / self.total) for a, b in self.running[layer]]
        solved = [solve(self.fisher(a, b), G) for (a, b), G in zip(pairs, matrices(layer, grads), strict=True)]
        return by_parameter(layer, solved)

    def fisher(self, a: Tensor, b: Tensor) -> Tensor:
        rank_one = torch.kron(torch.outer(b, b), torch.outer(a, a))
        return rank_one + self.options.damping * torch.eye(len(rank_one), dtype=torch.float64)
