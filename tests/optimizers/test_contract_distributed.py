"""Two workers with half the batch each do what one does with all of it."""

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from tests.gloo import spawn
from tests.optimizers.contract import (
    REGISTRY,
    ROUND_OFF,
    assert_same,
    backward,
    build,
    every_optimizer,
    every_optimizer_but,
    learning_rate,
    loss_of,
    parameters,
    quiet,
)
from tests.optimizers.contract_networks import layer_norm_net

NUM_STEPS = 20
BATCH = 8

pytestmark = [*quiet, pytest.mark.dist]


def train(spec, rows, *, is_parallel):
    """Train on these rows of every batch and return the parameters."""
    torch.manual_seed(0)
    model = layer_norm_net().double()
    optimizer = build(spec, model, lr=learning_rate(spec))
    # DistributedDataParallel does not support double backward: such an optimizer averages the gradients by itself.
    network = DistributedDataParallel(model) if is_parallel and not spec.create_graph else model
    for step in range(NUM_STEPS):
        generator = torch.Generator().manual_seed(step)
        inputs = torch.randn(BATCH, 6, dtype=torch.float64, generator=generator)
        optimizer.zero_grad()
        backward(spec, loss_of(network, inputs[rows], inputs[rows, :3].argmax(1)))
        optimizer.step()
    return parameters(model)


def work(rank, folder):
    """Train every optimizer in turn, so that all share the start of two processes."""
    half = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
    results = {name: train(spec, half, is_parallel=True) for name, spec in REGISTRY.items()}
    torch.save(results, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """By rank and optimizer, the parameters at the end."""
    folder = tmp_path_factory.mktemp("workers")
    spawn(work, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@every_optimizer_but(
    {"adafisher_released": "as in the authors' code, each worker normalizes its own factors before they are averaged"},
    raises=AssertionError,
)
def test_two_workers_equal_one_with_their_batches(spec, results):
    alone = train(spec, slice(BATCH), is_parallel=False)
    for rank in range(2):
        assert_same(results[rank][spec.name], alone, ROUND_OFF)


@every_optimizer
def test_two_workers_stay_together(spec, results):
    assert_same(results[0][spec.name], results[1][spec.name])
