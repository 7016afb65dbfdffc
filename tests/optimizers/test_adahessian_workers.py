"""AdaHessian on two workers: what is averaged, in how many collectives, and over whom."""

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import nn

from optimizers import AdaHessian
from tests.gloo import spawn

SEED = 5

pytestmark = [pytest.mark.dist, pytest.mark.filterwarnings(r"ignore:Using backward\(\) with create_graph=True")]


def conv_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(3, 3)).double()


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 2, 3, 3, generator=generator).double(), torch.randint(3, (8,), generator=generator)


def take(model, optimizer, rows):
    inputs, targets = batch()
    optimizer.zero_grad()
    F.cross_entropy(model(inputs[rows]), targets[rows]).backward(create_graph=optimizer.needs_graph)
    optimizer.step()


def check_means_and_collectives(rank):
    """After one step on half the batch each, gradients and curvature are those of the whole, and not of the half."""
    sizes, all_reduce = [], dist.all_reduce
    dist.all_reduce = lambda buffer, **rest: (sizes.append(buffer.numel()), all_reduce(buffer, **rest))[1]
    found = {}
    for name, rows, group in [("mine", slice(4 * rank, 4 * rank + 4), None), ("all", slice(8), False)]:
        model = conv_net()
        optimizer = AdaHessian(model, lr=0.0, seed=SEED, update_interval=2, process_group=group)
        take(model, optimizer, rows)
        found[name] = [(param.grad, optimizer.hessian_diag(param)) for param in model.parameters()]
        if name == "mine":
            for _ in range(3):
                take(model, optimizer, rows)
    dist.all_reduce = all_reduce
    torch.testing.assert_close(found["mine"], found["all"], rtol=1e-12, atol=1e-12)
    alone = conv_net()
    take(alone, optimizer := AdaHessian(alone, lr=0.0, seed=SEED, process_group=False), slice(4 * rank, 4 * rank + 4))
    assert not torch.allclose(optimizer.hessian_diag(alone[0].weight), found["all"][0][1], rtol=0.01)
    num_entries = sum(param.numel() for param in alone.parameters())
    gradients, diagonal = num_entries + 4, num_entries - 8 * 6  # which parameters are present; one of 9 a kernel
    assert sizes == [gradients, diagonal, gradients, gradients, diagonal, gradients]


def check_parameters_of_some_workers(rank):
    """The middle layer is used by one worker alone, the last by none."""
    torch.manual_seed(0)
    model = nn.ModuleList([nn.Linear(5, 3), nn.Linear(5, 3), nn.Linear(5, 3)]).double()
    before = [layer.weight.detach().clone() for layer in model]
    twin = nn.ModuleList([nn.Linear(5, 3), nn.Linear(5, 3)]).double()
    twin.load_state_dict(model[:2].state_dict())
    inputs, targets = torch.randn(6, 5).double(), torch.randint(3, (6,))

    def loss(layers, first, second):
        return first * F.cross_entropy(layers[0](inputs), targets) + second * F.cross_entropy(
            layers[1](inputs), targets
        )

    optimizer = AdaHessian(model, seed=SEED, weight_decay=0.1)
    (loss(model, 1, 1) if rank == 0 else F.cross_entropy(model[0](inputs), targets)).backward(create_graph=True)
    optimizer.step()
    expected = AdaHessian(twin, seed=SEED, weight_decay=0.1, process_group=False)
    loss(twin, 1, 0.5).backward(create_graph=True)
    expected.step()
    for layer, other in zip(model, twin, strict=False):
        torch.testing.assert_close(layer.weight, other.weight, rtol=1e-12, atol=1e-12)
    assert model[2].weight.grad is None
    assert torch.equal(model[2].weight, before[2])
    assert not torch.equal(model[1].weight, before[1])


def check_what_is_not_finite_on_one(rank):
    """Not folded in by any, so that the workers stay together."""
    model = nn.ParameterDict({"wild": nn.Parameter(torch.ones(2)), "calm": nn.Parameter(torch.ones(2))})
    optimizer = AdaHessian(model, lr=0.0)
    scale = torch.tensor(torch.inf if rank else 1.0)
    ((model["wild"].square() * scale).sum() + model["calm"].square().sum()).backward(create_graph=True)
    optimizer.step()
    assert optimizer.hessian_diag(model["wild"]).tolist() == [1.0, 1.0]
    assert optimizer.hessian_diag(model["calm"]).tolist() == [2.0, 2.0]


def work(rank, folder):
    check_means_and_collectives(rank)
    check_parameters_of_some_workers(rank)
    check_what_is_not_finite_on_one(rank)


def test_two_workers(tmp_path):
    """The checks above, in one pair of processes."""
    spawn(work, tmp_path)
