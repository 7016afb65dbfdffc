"""How Shampoo cuts matrices of any size, what it holds, and which gradients it learns from."""

import copy

import pytest
import torch
from torch import Tensor, nn

from optimizers import Shampoo
from optimizers.blocks import Blocks
from optimizers.shampoo import diagonal_direction
from tests.benchmarks.training import held_bytes, resnet18
from tests.optimizers.contract import REGISTRY, assert_same

SHAPES = [(1, 1), (5, 7), (1, 9), (9, 1), (8, 8), (41, 3), (6, 2, 3), (4, 3, 2, 2), (3, 0), (0, 3)]


@pytest.mark.parametrize("block_size", [1, 2, 4, 256])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_blocks_of_any_shape(shape, block_size):
    tensor = torch.randn(shape)
    blocks = Blocks.of(tensor.shape, block_size)
    cut = blocks.cut(tensor)
    assert cut.shape == (blocks.down, blocks.across, blocks.height, blocks.width)
    assert cut.shape[:2].numel() == blocks.num_blocks
    assert torch.equal(blocks.join(cut.contiguous()).reshape(shape), tensor)
    for size, side in ((shape[0], blocks.height), (tensor[0:1].numel() if shape[0] else 3, blocks.width)):
        assert min(size, block_size) <= max(side, 1) <= max(1, min(size, 2 * block_size - 1))


def test_blocks_of_the_default_size():
    sides = {n: Blocks.of(torch.Size([n, 1]), 256).height for n in (64, 255, 256, 511, 512, 4608, 30_000)}
    assert sides == {64: 64, 255: 255, 256: 256, 511: 511, 512: 256, 4608: 256, 30_000: 257}
    blocks = Blocks.of(torch.Size([512, 512, 3, 3]), 256)
    assert (blocks.down, blocks.across, blocks.height, blocks.width) == (2, 18, 256, 256)


def with_weight(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, nn.Parameter]:
    torch.manual_seed(0)
    model = nn.Module()
    model.weight = nn.Parameter(torch.randn(shape, dtype=dtype))
    return model, model.weight


def state_entries(optimizer: Shampoo, param: Tensor) -> int:
    return sum(value.numel() for value in optimizer.state[param].values())


@pytest.mark.parametrize("shape", [(30_000, 1), (1, 30_000), (30_000, 4), (3, 10_000, 3)], ids=str)
def test_long_dimensions(shape):
    """Memory grows with n times the block size; a matrix over all of 30,000 would have 900 million entries."""
    model, weight = with_weight(*shape)
    optimizer = Shampoo(model, block_size=64, update_interval=2)
    before = weight.detach().clone()
    for _ in range(3):
        weight.grad = torch.randn(shape)
        optimizer.step()
    assert weight.isfinite().all()
    assert not torch.equal(weight, before)
    assert optimizer.fallbacks() == {"retried_roots": 0, "kept_roots": 0}
    assert state_entries(optimizer, weight) <= weight.numel() + 3 * 64 * 30_000


def test_state_is_what_the_formula_says():
    """2 (height² + width²) numbers a block, the momentum, and the weight of the averages."""
    model, weight = with_weight(5, 7)
    for grafting, num_squares in (("sgd", 0), ("none", 0), ("adam", 1)):
        optimizer = Shampoo(model, block_size=2, grafting=grafting)
        weight.grad = torch.randn(5, 7)
        optimizer.step()
        assert state_entries(optimizer, weight) == 2 * 3 * 2 * (3**2 + 3**2) + (1 + num_squares) * 35 + 1


def test_held_bytes_of_a_residual_network():
    """Blocks of 256 × 256 hold 4 numbers a parameter, beside the momentum."""
    held, of_parameters = held_bytes(resnet18, REGISTRY["shampoo"])
    assert 4.9 <= held / of_parameters <= 5.3


@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (0,), (2, 0, 3)], ids=str)
def test_parameters_without_entries(shape):
    model, weight = with_weight(*shape)
    optimizer = Shampoo(model)
    weight.grad = torch.zeros(shape)
    optimizer.step()
    assert weight.numel() == 0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("shape", [(6,), (5, 7)], ids=str)
@pytest.mark.parametrize("beta2", [0.9, 1.0])
def test_a_gradient_that_is_not_finite_leaves_the_averages_as_they_were(shape, beta2, bad):
    model, weight = with_weight(*shape)
    optimizer = Shampoo(model, block_size=2, beta2=beta2, grafting="adam", update_interval=1)
    weight.grad = torch.randn(shape)
    optimizer.step()
    names = [name for name in ("square", "left", "right") if name in optimizer.state[weight]]
    before = {name: optimizer._corrected(optimizer.state[weight], name) for name in names}
    weight.grad[..., 0] = bad
    optimizer.step()
    assert not weight.isfinite().any()
    assert_same({name: optimizer._corrected(optimizer.state[weight], name) for name in names}, before, 1e-6)
    assert all(value.isfinite().all() for name, value in optimizer.state[weight].items() if name != "momentum_buffer")
    assert optimizer.fallbacks() == {"retried_roots": 0, "kept_roots": 0}


def test_a_first_gradient_that_is_not_finite_leaves_no_average():
    model, weight = with_weight(5, 7)
    optimizer = Shampoo(model, update_interval=1)
    weight.grad = torch.full((5, 7), torch.nan)
    optimizer.step()
    state = optimizer.state[weight]
    assert_same([state["weight"].item(), state["left"].count_nonzero().item()], [0.0, 0])
    assert torch.equal(state["left_root"][0], torch.eye(5))
    weight.grad = torch.randn(5, 7)
    optimizer.step()
    expected = (weight.grad @ weight.grad.T).tril()
    torch.testing.assert_close(optimizer._corrected(state, "left")[0].tril(), expected)


def test_roots_of_a_block_without_gradient_stay_the_identity():
    model, weight = with_weight(4, 4)
    optimizer = Shampoo(model, block_size=2, update_interval=1)
    weight.grad = torch.randn(4, 4)
    weight.grad[:2, :2] = 0
    before = weight.detach().clone()
    optimizer.step()
    state = optimizer.state[weight]
    assert torch.equal(state["left_root"][0], torch.eye(2))
    assert not torch.equal(state["left_root"][1], torch.eye(2))
    assert torch.equal(weight[:2, :2], before[:2, :2])


def test_a_parameter_that_comes_between_renewals_begins_with_sgd():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    optimizer = Shampoo(model, lr=0.1, update_interval=2)
    first, second = model[0].weight, model[1].weight
    first.grad = torch.randn(3, 3)
    optimizer.step()
    before = second.detach().clone()
    second.grad = torch.randn(3, 3)
    optimizer.step()
    torch.testing.assert_close(second, before - 0.1 * second.grad)


def test_a_scaled_gradient_gives_the_same_direction():
    """The damping is relative, so nothing depends on the scale of the loss."""
    moves = []
    for scale in (1.0, 1e-8, 1e8):
        model, weight = with_weight(5, 7, dtype=torch.float64)
        before = weight.detach().clone()
        optimizer = Shampoo(model, update_interval=1, grafting="none")
        generator = torch.Generator().manual_seed(0)
        for _ in range(3):
            weight.grad = scale * torch.randn(5, 7, generator=generator, dtype=torch.float64)
            optimizer.step()
        moves.append(weight.detach() - before)
    for move in moves[1:]:
        torch.testing.assert_close(move, moves[0], rtol=1e-9, atol=0)


def test_channels_last_gives_the_same():
    torch.manual_seed(0)
    model = nn.Conv2d(4, 6, 3).double()
    twin = copy.deepcopy(model).to(memory_format=torch.channels_last)
    for net in (model, twin):
        optimizer = Shampoo(net, block_size=4, update_interval=2)
        generator = torch.Generator().manual_seed(0)
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.randn(2, 4, 5, 5, generator=generator, dtype=torch.float64)).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(twin.weight, model.weight, rtol=1e-9, atol=1e-9)


def test_statistics_keep_their_precision_through_a_state_dict():
    model, weight = with_weight(5, 7, dtype=torch.bfloat16)
    optimizer = Shampoo(model)
    for _ in range(3):
        weight.grad = torch.randn(5, 7).bfloat16()
        optimizer.step()
    saved = optimizer.state_dict()
    twin = Shampoo(model)
    twin.load_state_dict(saved)
    assert_same(twin.state_dict(), saved)
    loaded, kept = twin.state[weight]["left"], optimizer.state[weight]["left"]
    assert loaded.dtype == torch.float32
    assert loaded.data_ptr() != kept.data_ptr()


def test_direction_of_a_vector_of_zeros_is_zero():
    zeros = torch.zeros(3)
    assert torch.equal(diagonal_direction(zeros, zeros, 1e-5), zeros)
