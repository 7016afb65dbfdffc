"""Factors averaged over two workers."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from optimizers import AdaFisher, comm
from tests.gloo import launch, start

NUM_STEPS = 20
TOLERANCE = 1e-9  # float64 round-off over 20 steps


def linear_net():
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def layer_norm_net():
    return nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3)).double()


ARMS = [
    (linear_net, {}),
    (layer_norm_net, {"update_interval": 3}),
    (layer_norm_net, {"loss_reduction": "sum"}),
]


def train(model, optimizer, inputs, targets, reduction="mean"):
    for x, y in zip(inputs, targets, strict=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y, reduction=reduction).backward()
        optimizer.step()


def compare(rank, network, options):
    torch.manual_seed(0)
    inputs, targets = torch.randn(NUM_STEPS, 8, 5, dtype=torch.float64), torch.randint(3, (NUM_STEPS, 8))
    reduction = options.get("loss_reduction", "mean")
    one, two = network(), network()
    two.load_state_dict(one.state_dict())
    options = {"lr": 1e-3, "damping": 1e-2, **options}
    train(one, AdaFisher(one, process_group=False, **options), inputs, targets, reduction)
    half = slice(4 * rank, 4 * rank + 4)
    parallel = DistributedDataParallel(two)
    if reduction == "sum":  # its mean over workers is half the gradient of the sum
        options["lr"] *= 2
    train(parallel, AdaFisher(two, **options), inputs[:, half], targets[:, half], reduction)
    torch.testing.assert_close(two.state_dict(), one.state_dict(), rtol=TOLERANCE, atol=TOLERANCE)


def compare_all(rank, rendezvous):
    start(rank, rendezvous)
    for network, options in ARMS:
        compare(rank, network, options)
    dist.destroy_process_group()


@pytest.mark.dist
def test_two_workers_equal_one_with_their_batches(tmp_path):
    launch(compare_all, str(tmp_path / "rendezvous"))


def communicate(rank, rendezvous):
    calls, groups = [], []
    all_reduce, new_group = dist.all_reduce, dist.new_group
    dist.all_reduce = lambda *args, **kwargs: (calls.append(1), all_reduce(*args, **kwargs))[1]
    dist.new_group = lambda *args, **kwargs: (groups.append(1), new_group(*args, **kwargs))[1]
    for attempt in range(
        2
    ):  # all optimizers share a group of our own, and get another once the default group is another
        start(rank, rendezvous + str(attempt))
        model = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
        inputs, targets = torch.randn(4, 6, 5), torch.randint(3, (4, 6))
        for interval, process_group, expected in [(1, None, 4), (2, None, 2), (1, dist.group.WORLD, 4), (1, False, 0)]:
            optimizer = AdaFisher(model, update_interval=interval, process_group=process_group)
            del calls[:]
            train(model, optimizer, inputs, targets)
            assert len(calls) == expected, (interval, process_group)
        assert len(groups) == attempt + 1
        dist.destroy_process_group()


def differ(rank, rendezvous):
    start(rank, rendezvous)
    torch.manual_seed(0)
    model = nn.ModuleList([nn.Linear(5, 3), nn.Linear(5, 3), nn.Linear(5, 3)])
    optimizer = AdaFisher(model, gamma=1.0, lr=0.0)
    inputs, targets = torch.randn(6, 5), torch.randint(3, (6,))
    loss = nn.functional.cross_entropy(model[0](inputs), targets)
    if rank == 0:
        loss = loss + nn.functional.cross_entropy(model[1](inputs), targets)
    bad = torch.nan if rank == 1 else 1.0
    (loss + bad * nn.functional.cross_entropy(model[2](inputs), targets)).backward()
    optimizer.step()
    factors = optimizer.state_dict()["adafisher"]["factors"]
    expected = inputs.square().mean(0)
    torch.testing.assert_close(factors["0"]["H"][:5], expected)  # of both
    torch.testing.assert_close(factors["1"]["H"][:5], expected)  # of the one that has it
    assert not factors["2"]["H"].any()  # not finite on one: folded in by none
    assert not factors["2"]["S"].any()
    dist.destroy_process_group()


def communicate_and_differ(rank, rendezvous):
    communicate(rank, rendezvous)
    differ(rank, rendezvous)


@pytest.mark.dist
def test_one_collective_a_refresh_over_the_workers_that_have_a_layer(tmp_path):
    launch(communicate_and_differ, str(tmp_path / "rendezvous"))


def test_without_a_process_group_nothing_is_said():
    assert comm.resolve_group(None) is None
    values, present, sizes = torch.randn(3), torch.ones(1), torch.tensor([3])
    assert comm.mean_over_workers(values, present, sizes, None) == (values, present)


def test_a_single_worker_says_nothing(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        assert comm.resolve_group(None) is None
        assert comm.resolve_group(dist.group.WORLD) is None
        assert len(comm._own_groups) == 0
    finally:
        dist.destroy_process_group()
