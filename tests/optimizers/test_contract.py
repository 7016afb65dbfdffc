"""What every optimizer of the registry owes its users: it trains, and moves what it should and nothing else."""

import copy

import pytest
import torch

from optimizers import REGISTRY, OptimizerSpec, find
from tests.optimizers.contract import (
    assert_moved,
    assert_same,
    backward,
    batch,
    build,
    every_optimizer,
    learning_rate,
    loss_of,
    parameters,
    quiet,
    train,
    twins,
)
from tests.optimizers.contract_networks import (
    NETWORKS,
    Spare,
    conv_net,
    every_network,
    frozen_first,
    layer_norm_net,
    mlp,
)

pytestmark = quiet

LOWER_LOSS_ON = ("bare", "mlp", "conv", "transformer", "reused", "tied")


@every_optimizer
@pytest.mark.parametrize("name", LOWER_LOSS_ON)
def test_lowers_the_loss(spec, name):
    model = NETWORKS[name]()
    losses = train(spec, model, build(spec, model, lr=learning_rate(spec)), 60)
    assert losses[-1] < 0.9 * losses[0]


@every_optimizer
@every_network
def test_moves_every_parameter_with_a_gradient(spec, network):
    model = network()
    before = parameters(model)
    train(spec, model, build(spec, model), 5)
    assert_moved(model, before)


@every_optimizer
def test_frozen_and_unreached_parameters_stay(spec):
    model = Spare()
    model.used.bias.requires_grad_(False)
    before = parameters(model)
    train(spec, model, build(spec, model, weight_decay=0.1), 3)
    after = parameters(model)
    assert not torch.equal(after.pop("used.weight"), before.pop("used.weight"))
    assert_same(after, before)


@every_optimizer
def test_weight_decay_reaches_the_parameters(spec):
    (plain, _), (decayed, _) = twins(spec, layer_norm_net)
    train(spec, plain, build(spec, plain, weight_decay=0.0), 3)
    train(spec, decayed, build(spec, decayed, weight_decay=0.5), 3)
    for one, other in zip(plain.parameters(), decayed.parameters(), strict=True):
        assert not torch.equal(one, other)


@every_optimizer
def test_a_parameter_frozen_for_a_while_trains_again(spec):
    model = mlp()
    optimizer = build(spec, model)
    train(spec, model, optimizer, 2)
    model[0].requires_grad_(False)
    before = parameters(model)
    train(spec, model, optimizer, 2)
    assert_same(parameters(model[0]), {name: before[f"0.{name}"] for name in ("weight", "bias")})
    assert not torch.equal(model[3].weight, before["3.weight"])
    model[0].requires_grad_(True)
    train(spec, model, optimizer, 2)
    assert not torch.equal(model[0].weight, before["0.weight"])


@every_optimizer
def test_a_parameter_unfrozen_and_added_later_trains(spec):
    model = frozen_first()
    optimizer = build(spec, model)
    train(spec, model, optimizer, 3)
    before = parameters(model)
    model[0].requires_grad_(True)
    optimizer.add_param_group({"params": list(model[0].parameters())})
    train(spec, model, optimizer, 3)
    for name in ("0.weight", "3.weight"):
        assert not torch.equal(model.get_parameter(name), before[name]), name


@every_optimizer
@pytest.mark.parametrize("num_steps", [0, 3])
def test_param_groups_have_options_of_their_own(spec, num_steps):
    model = mlp()
    optimizer = build(spec, model)
    head = optimizer.param_groups[0]["params"].pop()
    train(spec, model, optimizer, num_steps)
    optimizer.add_param_group({"params": [head], "lr": 0.0})
    before = parameters(model)
    train(spec, model, optimizer, 3)
    assert torch.equal(model[3].bias, before["3.bias"])
    assert not torch.equal(model[3].weight, before["3.weight"])
    optimizer.param_groups[1]["lr"] = learning_rate(spec)
    train(spec, model, optimizer, 3)
    assert not torch.equal(model[3].bias, before["3.bias"])


@every_optimizer
def test_follows_a_schedule(spec):
    model = mlp()
    optimizer = build(spec, model)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3)
    for _ in range(3):
        train(spec, model, optimizer, 1)
        scheduler.step()
    before = parameters(model)
    train(spec, model, optimizer, 1)  # the learning rate has arrived at 0
    assert_same(parameters(model), before)


@every_optimizer
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_keeps_the_dtype(spec, dtype):
    model = mlp().to(dtype)
    before = parameters(model)
    train(spec, model, build(spec, model, lr=learning_rate(spec)), 3)
    for name, param in model.named_parameters():
        assert param.dtype == dtype
        assert param.isfinite().all()
        assert name == "0.bias" or not torch.equal(param, before[name])  # it is before a norm: round-off


@every_optimizer
def test_step_takes_a_closure(spec):
    model = mlp()
    optimizer = build(spec, model)

    def closure():
        optimizer.zero_grad()
        loss = loss_of(model, *batch(model[0].weight))
        backward(spec, loss)
        return loss

    losses = [optimizer.step(closure).item() for _ in range(20)]
    assert losses[-1] < losses[0]


@every_optimizer
def test_a_closure_gives_what_a_plain_step_gives(spec):
    (model, optimizer), (plain, plain_optimizer) = twins(spec, mlp)
    for _ in range(3):

        def closure():
            optimizer.zero_grad()
            loss = loss_of(model, *batch(model[0].weight))
            backward(spec, loss)
            return loss

        optimizer.step(closure)
    train(spec, plain, plain_optimizer, 3)
    assert_same(parameters(model), parameters(plain))


@every_optimizer
def test_same_seed_same_result(spec):
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        model = conv_net()
        results.append(train(spec, model, build(spec, model), 5))
    assert_same(*results)


@every_optimizer
def test_zero_gradients_give_no_nan(spec):
    model = mlp()
    optimizer = build(spec, model)
    for _ in range(3):
        optimizer.zero_grad()
        backward(spec, loss_of(model, *batch(model[0].weight)) * 0)
        optimizer.step()
    assert all(param.isfinite().all() for param in model.parameters())


@every_optimizer
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("num_steps", [0, 2])
def test_steps_on_non_finite_gradients_without_a_word(spec, bad, num_steps):
    """As torch.optim, which looks at no value: the run has diverged, and says so by its loss."""
    model = layer_norm_net()
    optimizer = build(spec, model)
    train(spec, model, optimizer, num_steps)
    optimizer.zero_grad()
    backward(spec, loss_of(model, *batch(model[0].weight)) * bad)
    optimizer.step()
    assert not any(param.isfinite().all() for param in model.parameters())


@every_optimizer
def test_a_batch_of_one(spec):
    model = layer_norm_net()
    before = parameters(model)
    train(spec, model, build(spec, model), 5, size=1)
    for name, param in model.named_parameters():
        assert param.isfinite().all()
        assert not torch.equal(param, before[name]), name


@every_optimizer
def test_a_copy_of_a_model_trains_on_its_own(spec):
    model = conv_net()
    optimizer = build(spec, model)
    twin = copy.deepcopy(model)
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    losses = train(spec, twin, build(spec, twin), 4)
    assert_same((model.state_dict(), optimizer.state_dict()), before)
    assert_same(train(spec, model, optimizer, 4), losses)


@every_optimizer
def test_a_second_optimizer_of_a_model_starts_afresh(spec):
    model = conv_net()
    first = build(spec, model)
    train(spec, model, first, 2)
    twin = copy.deepcopy(model)
    assert_same(train(spec, model, build(spec, model), 4), train(spec, twin, build(spec, twin), 4))
    assert first.param_groups  # alive until here


def test_find():
    assert find("adamw") is REGISTRY["adamw"]
    assert find("optimizers.sgd:SPEC") is REGISTRY["sgd"]
    for name, reason in {
        "adamx": "known: sgd, adam",
        "optimizers.sgd:NONE": "no attribute 'NONE'",
        "nowhere.at_all:SPEC": "No module named 'nowhere'",
        "optimizers.sgd:build": "must be an OptimizerSpec",
    }.items():
        with pytest.raises(ValueError, match=reason):
            find(name)


def test_registry_names_are_those_of_the_specs():
    assert all(isinstance(spec, OptimizerSpec) and spec.name == name for name, spec in REGISTRY.items())
