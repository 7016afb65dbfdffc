"""What the tests of K-FAC and of Eva share: networks, and training beside the oracle."""

from dataclasses import asdict

import torch
from torch import nn

from tests.optimizers.test_adafisher import (
    LABELS,
    NETS,
    Batches,
    Net,
    conv_net,
    cross_entropy,
    make_batches,
    relative_difference,
    tied_embedding,
)
from tests.oracles.natural import NaturalOracle, Options

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


def worst_difference(model: nn.Module, optimizer, oracle: NaturalOracle, batches: Batches) -> float:
    """Train both, and return the largest relative difference of a parameter."""
    dtype, reduction = next(model.parameters()).dtype, oracle.options.loss_reduction
    for micro_batches in batches:
        weight = 1 / len(micro_batches) if reduction == "mean" else 1.0
        optimizer.zero_grad()
        for x, y in micro_batches:
            output = model(x.to(dtype) if x.is_floating_point() else x)
            (weight * cross_entropy(output, y, reduction)).backward()
        optimizer.step()
        oracle.step(micro_batches, lambda output, y: weight * cross_entropy(output, y, reduction))  # noqa: B023
    params = dict(model.named_parameters())
    return max(relative_difference(params[name], oracle.params[name]).item() for name in params)


def compare(kind, oracle_kind, net, options: Options, *, own=None, of_oracle=None, num_steps=STEPS, **batches) -> float:
    torch.manual_seed(0)
    model = net.build().double()
    oracle = oracle_kind(model, options, **(of_oracle or {}))
    optimizer = kind(model, **asdict(options), **(own or {}))
    return worst_difference(model, optimizer, oracle, make_batches(net, num_steps, **batches))
