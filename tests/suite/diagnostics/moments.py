"""A moment of a small network's training, and all of it that a diagnostic must leave alone."""

import copy

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from optimizers import AdaFisher
from suite.diagnostics.base import Moment

CLASSES = 4


def network():
    """Convolution, BatchNorm, dropout, in-place activations, and an odd convolution before the head."""
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(inplace=True),
        nn.Dropout(0.2),
        nn.Conv2d(3, 4, (2, 3), stride=(1, 2), dilation=(2, 1), padding=(1, 0)),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(4 * 5 * 2, CLASSES),
    ).double()


def adam(model):
    return torch.optim.Adam(model.parameters(), lr=1e-2)


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=1e-2)


def moment(build=AdaFisher, model=None, num_samples=6, shape=(2, 5, 6), steps=3, **changes):
    """A moment after a few steps, with gradients in place."""
    model = model or network()
    optimizer = build(model)
    inputs = torch.randn(num_samples, *shape, dtype=torch.float64)
    targets = torch.randint(CLASSES, (num_samples,))
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    settings = {"loss": F.cross_entropy, "seed": 0, "step": steps, "frac": 0.5, "inputs": inputs, "targets": targets}
    return Moment(model=model, optimizer=optimizer, **settings | changes)


def snapshot(taken):
    """Copies of parameters, gradients, buffers, the optimizer's state, pending statistics, modes and randomness."""
    model, optimizer = taken.model, taken.optimizer
    capture = getattr(optimizer, "_capture", None)
    return copy.deepcopy({
        "model": dict(model.state_dict()),
        "grads": {name: p.grad for name, p in model.named_parameters()},
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "optimizer": optimizer.state_dict(),
        "with_state": len(optimizer.state),
        "pending": [layer._counts for layer in capture.layers] if capture else None,
        "hooks": [len(module._forward_hooks) for module in model.modules()],
        "training": [module.training for module in model.modules()],
        "inputs": taken.inputs,
        "random": torch.get_rng_state(),
    })


def assert_same(before, after):
    """Equal to the last bit."""
    if isinstance(before, torch.Tensor):
        assert torch.equal(before, after)
    elif isinstance(before, dict):
        assert before.keys() == after.keys()
        for key, value in before.items():
            assert_same(value, after[key])
    elif isinstance(before, list | tuple):
        assert len(before) == len(after)
        for one, other in zip(before, after, strict=True):
            assert_same(one, other)
    else:
        assert before == after


def assert_leaves_all(diagnostic, taken):
    """Measuring changes nothing, twice gives the same, and every array is small enough to be stored."""
    before = snapshot(taken)
    first = diagnostic.measure(taken)
    assert_same(before, snapshot(taken))
    with torch.no_grad():
        second = diagnostic.measure(taken)
    assert first.values == second.values
    assert_same(dict(first.arrays), dict(second.arrays))
    assert first.values or first.arrays
    for array in first.arrays.values():
        assert (array.dim() == 1 and len(array) <= 1024) or (array.dim() == 2 and max(array.shape) <= 64)
        assert not array.requires_grad
