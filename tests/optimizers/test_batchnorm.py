"""The second derivative of batch normalization against torch's own."""

import gc
import weakref

import pytest
import torch
from torch import nn

from optimizers.batchnorm import quicken

TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-4}  # two orders of summation
NODE = "_BackwardBackward"

LAYERS = {
    "1d": (lambda: nn.BatchNorm1d(4), (8, 4)),
    "1d-sequence": (lambda: nn.BatchNorm1d(4), (8, 4, 3)),
    "2d": (lambda: nn.BatchNorm2d(4), (8, 4, 3, 5)),
    "3d": (lambda: nn.BatchNorm3d(4), (4, 4, 2, 3, 2)),
    "no-running-statistics": (lambda: nn.BatchNorm2d(4, track_running_stats=False), (8, 4, 3, 5)),
}
UNTOUCHED = {
    "eval": lambda: nn.BatchNorm2d(4).eval(),
    "not-affine": lambda: nn.BatchNorm2d(4, affine=False),
    "frozen": lambda: nn.BatchNorm2d(4).requires_grad_(False),
    "half": lambda: nn.BatchNorm2d(4, dtype=torch.bfloat16),
    "another-layer": lambda: nn.GroupNorm(2, 4),
}


def start(layer, shape, *, is_quick, dtype=torch.float64, memory_format=torch.contiguous_format):
    """Return what is differentiated, and the gradients of a loss that is not linear in them, with a graph."""
    torch.manual_seed(0)
    layer = layer()
    dtype = torch.bfloat16 if any(p.dtype == torch.bfloat16 for p in layer.parameters()) else dtype
    layer = layer.to(dtype)
    for param in layer.parameters():
        nn.init.normal_(param, 1.0, 0.5)
    x = (3 * torch.randn(shape) + 1).to(dtype, memory_format=memory_format).requires_grad_()
    output = layer(x)
    if is_quick:
        quicken(output)
    wanted = [x, *(param for param in layer.parameters() if param.requires_grad)]
    return wanted, torch.autograd.grad(
        (output.square() * output.detach().sin() + output).tanh().sum(), wanted, create_graph=True
    )


def products(wanted, grads, **options):
    generator = torch.Generator().manual_seed(1)
    signs = [torch.randn(each.shape, generator=generator).to(each) for each in wanted]
    return torch.autograd.grad(grads, wanted, signs, **options)


def nodes(grads):
    found, ahead = set(), [grad.grad_fn for grad in grads]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in found:
            found.add(node)
            ahead += [each for each, _ in node.next_functions]
    return {node.name() for node in found}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_second_derivatives_are_torchs(layer, shape, dtype):
    wanted, grads = start(layer, shape, is_quick=True, dtype=dtype)
    theirs, their_grads = start(layer, shape, is_quick=False, dtype=dtype)
    assert NODE in nodes(grads), "torch has other names now: nothing was made quick"
    for one, other in zip(grads, their_grads, strict=True):
        assert torch.equal(one, other)
    for one, other in zip(products(wanted, grads), products(theirs, their_grads), strict=True):
        assert (one - other).abs().max() <= TOLERANCE[dtype] * other.abs().max()


def test_channels_last():
    layer, shape = LAYERS["2d"]
    found = products(*start(layer, shape, is_quick=True, memory_format=torch.channels_last))
    for one, other in zip(found, products(*start(layer, shape, is_quick=False)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("layer", UNTOUCHED.values(), ids=UNTOUCHED)
def test_what_is_left_to_torch(layer):
    wanted, grads = start(layer, (8, 4, 3, 5), is_quick=True)
    assert NODE not in nodes(grads)
    theirs = products(*start(layer, (8, 4, 3, 5), is_quick=False))
    assert all(torch.equal(one, other) for one, other in zip(products(wanted, grads), theirs, strict=True))


@pytest.mark.parametrize("is_quick", [True, False])
def test_there_is_no_third_derivative(is_quick):
    """Nor is there of torch's own; where the signs take no gradient too."""
    wanted, grads = start(*LAYERS["2d"], is_quick=is_quick)
    with pytest.raises(RuntimeError, match="3rd|third"):
        products(wanted, [second.square() for second in products(wanted, grads, create_graph=True)])


def test_outputs_of_anything_are_taken():
    for output in (None, "text", (torch.ones(2),), torch.ones(2), torch.ones(2, requires_grad=True) * 2):
        quicken(output)


def test_a_graph_does_not_keep_itself_alive():
    gc.disable()
    try:
        x = torch.randn(8, 4, requires_grad=True)
        hidden = x * 2
        output = nn.BatchNorm1d(4)(hidden)
        quicken(output)
        kept = weakref.ref(hidden)
        del hidden
        assert kept() is not None
        del output
        assert kept() is None
    finally:
        gc.enable()
