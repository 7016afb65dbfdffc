# ruff: noqa: N803, N806 (the letters of the equations)
"""K-FAC (Martens and Grosse 2015; Grosse and Martens 2016) from its equations: A = E[h̄ h̄ᵀ] and S = E[Σ s sᵀ]."""

import torch
from torch import Tensor, nn

from tests.oracles.natural import NaturalOracle, Options, by_parameter, grads_by_group, matrices, rows_by_group, solve
from tests.oracles.network import DENSE, NORMALIZATIONS, Use, as_rows

Pair = tuple[Tensor, Tensor]


class KFACOracle(NaturalOracle):
    with_rule = (*DENSE, nn.Embedding, *NORMALIZATIONS)

    def __init__(self, model: nn.Sequential, options: Options, *, intervals=(1, 1), max_factor_dim=10**9):
        super().__init__(model, options)
        self.intervals, self.max_factor_dim = intervals, max_factor_dim
        self.running: dict[nn.Module, list[Pair]] = {}
        self.inverted: dict[nn.Module, list[Pair]] = {}
        self.num_folded = 0

    def refresh(self, uses: dict[nn.Module, list[Use]]) -> None:
        if self.num_steps % self.intervals[0] == 0:
            self.num_folded += 1
            super().refresh(uses)
        if self.num_steps % self.intervals[1] == 0:
            self.inverted = dict(self.running)

    def fold(self, layer: nn.Module, uses: list[Use]) -> None:
        new = self.new(layer, uses)
        old = self.running.get(layer, new)
        keep = min(1 - 1 / self.num_folded, self.options.factor_decay)
        self.running[layer] = [
            (keep * A + (1 - keep) * A_new, keep * S + (1 - keep) * S_new)
            for (A, S), (A_new, S_new) in zip(old, new, strict=True)
        ]

    def new(self, layer: nn.Module, uses: list[Use]) -> list[Pair]:
        """A = E[h̄ h̄ᵀ] over rows, S = E[Σ s sᵀ] over samples, of every group."""
        N = sum(len(as_rows(layer, s)) for _, s in uses)
        M = sum(len(s) for _, s in uses)
        of_sample = M if self.options.loss_reduction == "mean" else 1
        grads = [[of_sample * group for group in grads_by_group(layer, s)] for _, s in uses]
        S = [self.kept(sum(s.T @ s for s in use) / M) for use in zip(*grads, strict=True)]
        if isinstance(layer, NORMALIZATIONS):
            return [(torch.ones(1, 1, dtype=torch.float64), torch.diag(S[0].diagonal()))]
        rows = [rows_by_group(layer, h) for h, _ in uses]
        A = [self.kept(sum(h.T @ h for h in use) / N) for use in zip(*rows, strict=True)]
        return list(zip(A, S, strict=True))

    def kept(self, factor: Tensor) -> Tensor:
        return factor if len(factor) <= self.max_factor_dim else torch.diag(factor.diagonal())

    def direction(self, layer: nn.Module, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        pairs, damping = self.inverted[layer], self.options.damping
        if isinstance(layer, NORMALIZATIONS):
            fisher = pairs[0][1].diagonal() + damping
            return {kind: grad / fisher.reshape(grad.shape) for kind, grad in grads.items()}
        solved = [solve(self.damped(A, S, damping), G) for (A, S), G in zip(pairs, matrices(layer, grads), strict=True)]
        return by_parameter(layer, solved)

    def damped(self, A: Tensor, S: Tensor, damping: float) -> Tensor:
        pi = ((A.trace() / len(A)) / (S.trace() / len(S))).sqrt()
        eye_a, eye_s = (torch.eye(len(factor), dtype=torch.float64) for factor in (A, S))
        return torch.kron(S + damping**0.5 / pi * eye_s, A + pi * damping**0.5 * eye_a)
