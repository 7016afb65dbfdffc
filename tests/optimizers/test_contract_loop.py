"""What every optimizer of the registry bears of a training loop, with the result of the plain loop."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.optimizers.contract import (
    ROUND_OFF,
    assert_same,
    backward,
    batch,
    build,
    every_class_of_our_own,
    every_optimizer,
    every_optimizer_but,
    learning_rate,
    loss_of,
    parameters,
    quiet,
    train,
    twins,
)
from tests.optimizers.contract_networks import (
    CLASSES,
    conv_1d_3d,
    every_network,
    layer_norm_net,
    linear_net,
    mlp,
    reused,
)

pytestmark = quiet


@every_optimizer
@pytest.mark.parametrize("network", [linear_net, layer_norm_net, reused, conv_1d_3d])
def test_micro_batches_equal_one_batch(spec, network):
    (model, optimizer), (twin, twin_optimizer) = twins(spec, lambda: network().double())
    train(spec, model, optimizer, 5)
    train(spec, twin, twin_optimizer, 5, num_micro_batches=2)
    assert_same(parameters(twin), parameters(model), ROUND_OFF)


@every_optimizer
def test_clipped_gradients_train(spec):
    model = mlp()
    optimizer = build(spec, model, lr=learning_rate(spec))
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = loss_of(model, *batch(model[0].weight))
        backward(spec, loss)
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.item())
    assert all(param.isfinite().all() for param in model.parameters())
    assert losses[-1] < losses[0]


@every_optimizer
@pytest.mark.parametrize("clears", ["optimizer", "model"])
@pytest.mark.parametrize("num_steps", [0, 2])
def test_a_step_that_grad_scaler_skips_changes_nothing(spec, num_steps, clears):
    (model, optimizer), (twin, twin_optimizer) = twins(spec, layer_norm_net, num_steps=num_steps)
    before = copy.deepcopy((parameters(model), optimizer.state_dict()))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    optimizer.zero_grad()
    backward(spec, scaler.scale(loss_of(model, *batch(model[0].weight)) * torch.inf))
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 1.0  # it has skipped
    assert_same((parameters(model), optimizer.state_dict()), before)
    assert_same(train(spec, model, optimizer, 3, clears=clears), train(spec, twin, twin_optimizer, 3))


@every_optimizer
def test_step_hooks_run_once_a_step(spec):
    model = mlp()
    optimizer = build(spec, model)
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    train(spec, model, optimizer, 2)
    assert calls == ["before", "after"] * 2


class Checkpointed(nn.Module):
    """Its body's activations are computed again in the backward."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh())
        self.head = nn.Linear(8, CLASSES)
        self.is_checkpointed = False

    def forward(self, x):
        h = checkpoint(self.body, x, use_reentrant=False) if self.is_checkpointed else self.body(x)
        return self.head(h)


@every_optimizer
def test_activation_checkpointing_changes_nothing(spec):
    (model, optimizer), (twin, twin_optimizer) = twins(spec, lambda: Checkpointed().double())
    twin.is_checkpointed = True
    train(spec, model, optimizer, 4)
    train(spec, twin, twin_optimizer, 4)
    assert_same(parameters(twin), parameters(model))


@every_optimizer
def test_in_place_activations_change_nothing(spec):
    def network():
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, CLASSES)).double()

    (model, optimizer), (twin, twin_optimizer) = twins(spec, network)
    twin[1].inplace = twin[3].inplace = True
    train(spec, model, optimizer, 4)
    train(spec, twin, twin_optimizer, 4)
    assert_same(parameters(twin), parameters(model))


@every_optimizer_but(
    {"adafactor": "torch's single-tensor Adafactor reads the norm of each parameter and update on the host"},
    raises=RuntimeError,
)
@every_network
def test_step_does_not_wait_for_the_device(spec, network):
    """On the meta device there are no values, and every read of one fails."""
    with torch.device("meta"):
        model = network()
    train(spec, model, build(spec, model), 2)
    assert all(param.is_meta for param in model.parameters())


TWICE = "torch.compile does not differentiate twice"


def compare_with_compiled(spec, moment):
    """Train a plain model, and a compiled one whose optimizer was built at some moment."""
    torch.compiler.reset()
    plain = linear_net().double()
    model = copy.deepcopy(plain)
    optimizer = build(spec, model) if moment == "before" else None
    compiled = torch.compile(model, backend="aot_eager")
    if moment == "after":
        compiled(batch(model[0].weight)[0])
    optimizer = optimizer or build(spec, compiled if moment == "from the wrapper" else model)
    train(spec, plain, build(spec, plain), 4)
    train(spec, compiled, optimizer, 4)
    assert_same(parameters(model), parameters(plain), ROUND_OFF)


@every_optimizer_but({}, create_graph=TWICE, raises=RuntimeError)
def test_a_compiled_model_trains_as_the_plain_one(spec):
    compare_with_compiled(spec, "before")


@every_class_of_our_own
@pytest.mark.parametrize("moment", ["after", "from the wrapper"])
def test_an_optimizer_may_be_built_of_a_compiled_model(spec, moment):
    """After ``torch.compile`` and a first forward, or from what it returns."""
    if spec.create_graph:
        pytest.skip(TWICE)
    compare_with_compiled(spec, moment)
