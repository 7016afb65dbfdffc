"""The networks of the contract tests: small ones, with every way of using a parameter that we know of.

All take inputs of shape ``[samples, 6]``, and give at least :data:`CLASSES` logits a sample.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

CLASSES = 3


class Bare(nn.Module):
    """Parameters without layers, one of them a scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return (self.point * x[:, :3]).sum(1, keepdim=True) * self.scale * x.new_tensor([1.0, 0.1, -1.0])


class Transformer(nn.Module):
    """Embedding and MultiheadAttention."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embedding(tokens(x))
        return self.head(self.norm(h + self.attention(h, h, h)[0]).mean(1))


class Vit(nn.Module):
    """Class token and positions, which are no layer's parameters, and start at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Linear(2, 8)
        self.cls = nn.Parameter(torch.zeros(8))
        self.pos = nn.Parameter(torch.zeros(4, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.patches(x.unflatten(1, (3, 2)))
        h = torch.cat([self.cls.expand(len(x), 1, 8), h], dim=1) + self.pos
        with sdpa_kernel(SDPBackend.MATH):  # torch's fused ones cannot be differentiated twice
            return self.head(self.block(h)[:, 0])


class Tied(nn.Module):
    """The embedding's weight is the output's too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 8)
        self.hidden = nn.Linear(8, 8)
        self.decoder = nn.Linear(8, 6)
        self.decoder.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.hidden(self.embedding(tokens(x))).mean(1))


class Recurrent(nn.Module):
    """A layer whose weights are used by one fused function."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 8, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x.unflatten(1, (3, 2)))[0][:, -1])


class Spare(nn.Module):
    """A layer that is never used beside one that is."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(2, 2)
        self.used = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


def tokens(x: Tensor) -> Tensor:
    return (x.abs() * 2).long().clamp(max=5)


def mlp(width: int = 12) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(inplace=True), nn.BatchNorm1d(width), nn.Linear(width, CLASSES))


def frozen_first() -> nn.Sequential:
    model = mlp()
    model[0].requires_grad_(False)
    return model


def linear_net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, CLASSES))


def layer_norm_net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, CLASSES))


def more_norms() -> nn.Sequential:
    norms = [nn.GroupNorm(2, 8), nn.RMSNorm(8), nn.LayerNorm(8, elementwise_affine=False)]
    return nn.Sequential(nn.Linear(6, 8, bias=False), *norms, nn.ELU(), nn.Linear(8, CLASSES))


def weight_norm() -> nn.Sequential:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)), nn.Tanh(), nn.Linear(8, CLASSES))


def reused() -> nn.Sequential:
    twice = nn.Linear(6, 6)
    return nn.Sequential(twice, nn.Tanh(), twice, nn.Tanh(), nn.Linear(6, CLASSES))


def conv_net() -> nn.Sequential:
    convolutions = [nn.Conv2d(1, 4, 2, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 2, groups=2)]
    norm = [nn.GroupNorm(2, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(nn.Unflatten(1, (1, 2, 3)), *convolutions, *norm, nn.Linear(8, CLASSES))


def conv_1d_3d() -> nn.Sequential:
    body = [
        nn.Unflatten(1, (1, 6)),
        nn.Conv1d(1, 4, 3),
        nn.Tanh(),
        nn.Unflatten(2, (1, 2, 2)),
        nn.Conv3d(4, 6, (1, 2, 1)),
    ]
    return nn.Sequential(*body, nn.Flatten(), nn.Tanh(), nn.Linear(12, CLASSES))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "bare": Bare,
    "mlp": mlp,
    "conv": conv_net,
    "transformer": Transformer,
    "reused": reused,
    "tied": Tied,
    "vit": Vit,
    "conv-1d-3d": conv_1d_3d,
    "more-norms": more_norms,
    "frozen-first": frozen_first,
    "recurrent": Recurrent,
    "weight-norm": weight_norm,
}
every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
