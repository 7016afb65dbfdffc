"""What the tests of K-FAC and of Eva share: networks, and training beside the oracle."""

from dataclasses import asdict

import torch
from torch import nn

from tests.optimizers.test_adafisher import (
    LABELS,
    NETS,
    Net,
    conv_net,
    make_batches,
    tied_embedding,
    train_beside,
)
from tests.oracles.natural import Options

TOLERANCE = 1e-9  # float64: an inverse and an elimination differ by round-off times a condition number
STEPS = 30


def norms() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.GroupNorm(2, 8), nn.ReLU(), nn.RMSNorm(8), nn.Linear(8, LABELS))


ALL_NETS = {
    **NETS,
    "conv-strided": conv_net(stride=2, padding=1),
    "conv-dilated": conv_net(dilation=2, padding=2),
    "conv-wide-padding": conv_net(padding=3),
    "conv-no-padding": conv_net(kernel_size=2),
    "conv-circular": conv_net(padding=1, padding_mode="circular"),
    "conv-same": conv_net(padding="same", kernel_size=2),
    "conv-1d": conv_net(nn.Conv1d, padding=1, groups=2),
    "conv-3d": conv_net(nn.Conv3d, padding=1, kernel_size=2),
    "conv-pointwise": conv_net(kernel_size=1, stride=2, bias=False),
    "more-norms": Net(norms, (6,)),
    "tied-embedding-with-padding": Net(lambda: tied_embedding(0), (3,), num_tokens=8),
}


# What both have, beside what is one's own: arguments of ``compare``.
SETTINGS = {
    "damping": {"options": Options(damping=0.3)},
    "no-clip": {"options": Options(lr=1e-3, kl_clip=None)},
    "weight-decay": {"options": Options(weight_decay=0.1)},
    "sum": {"options": Options(lr=2e-3, loss_reduction="sum"), "sizes": (32, 8)},
    "accumulation": {"num_micro": (1, 3), "sizes": (16, 6)},
}


def compare(kind, oracle_kind, net, options: Options, *, own=None, of_oracle=None, num_steps=STEPS, **batches) -> float:
    """Train both, and return the largest relative difference of a parameter."""
    torch.manual_seed(0)
    model = net.build().double()
    oracle = oracle_kind(model, options, **(of_oracle or {}))
    optimizer = kind(model, **asdict(options), **(own or {}))
    differences = train_beside(
        model, optimizer, oracle, make_batches(net, num_steps, **batches), options.loss_reduction
    )
    return torch.stack(differences).max().item()  # torch's maximum is NaN if one is
