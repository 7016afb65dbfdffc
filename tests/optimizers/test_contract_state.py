"""What every optimizer of the registry owes to those who save and load it: a state dict that is whole, or a refusal."""

import copy
import io
import math
import pickle
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from tests.optimizers.contract import (
    REGISTRY,
    assert_same,
    build,
    every_optimizer,
    every_own_optimizer,
    every_torch_optimizer,
    kind,
    no_trace,
    parameters,
    quiet,
    train,
)
from tests.optimizers.contract_networks import conv_net, layer_norm_net, mlp

pytestmark = quiet

GARBAGE = [None, [], {}, 3, {"state": {}}, {"state": {}, "param_groups": []}]


def through_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file)


@every_optimizer
@pytest.mark.parametrize("transfer", [copy.deepcopy, through_file], ids=["copied", "saved"])
@pytest.mark.parametrize("num_steps", [0, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_continues_bit_equal(spec, transfer, num_steps, dtype):
    model = conv_net().to(dtype)
    optimizer = build(spec, model)
    train(spec, model, optimizer, num_steps)
    twin = copy.deepcopy(model)
    twin_optimizer = build(spec, twin)
    twin_optimizer.load_state_dict(transfer(optimizer.state_dict()))
    assert_same(train(spec, twin, twin_optimizer, 4), train(spec, model, optimizer, 4))
    assert_same(twin.state_dict(), model.state_dict())
    assert_same(twin_optimizer.state_dict(), optimizer.state_dict())


@every_optimizer
@pytest.mark.parametrize("num_steps", [0, 3])
def test_goes_back_to_where_it_was_saved(spec, num_steps):
    model = conv_net()
    optimizer = build(spec, model)
    train(spec, model, optimizer, num_steps)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    losses = train(spec, model, optimizer, 4)
    model.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    assert_same(train(spec, model, optimizer, 4), losses)


@every_optimizer
def test_carries_the_options_of_groups(spec):
    def two_groups(lr):
        model = mlp()
        optimizer = build(spec, model)
        head = optimizer.param_groups[0]["params"].pop()
        optimizer.add_param_group({"params": [head], "lr": lr})
        train(spec, model, optimizer, 2)
        return optimizer

    optimizer, other = two_groups(0.25), two_groups(0.5)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert [group["lr"] for group in other.param_groups] == [spec.configure().lr, 0.25]


@every_own_optimizer
def test_leaves_a_loaded_dict_as_it_is(spec):
    """Torch's own go on to write into its tensors."""
    model = conv_net()
    optimizer = build(spec, model)
    train(spec, model, optimizer, 2)
    saved = copy.deepcopy(optimizer.state_dict())
    kept = copy.deepcopy(saved)
    optimizer.load_state_dict(saved)
    train(spec, model, optimizer, 2)
    assert_same(saved, kept)


@every_own_optimizer
def test_refuses_to_be_copied(spec):
    """A copy would watch the layers of the model that it was copied from."""
    optimizer = build(spec, mlp())
    for copied in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="load its state_dict"):
            copied(optimizer)


@every_optimizer
def test_lets_the_model_be_saved_whole(spec):
    """What watches the layers stays behind; the loaded model trains with an optimizer of its own."""
    model = conv_net()
    optimizer = build(spec, model)
    train(spec, model, optimizer, 1)
    twin = pickle.loads(pickle.dumps(model))
    assert_same(train(spec, twin, build(spec, twin), 3), train(spec, model, build(spec, model), 3))
    assert optimizer.param_groups  # alive until here


def trained_state(spec, model):
    """Return the state after three steps; that of :func:`no_trace` is after two, so that taking over a part shows."""
    optimizer = build(spec, model)
    train(spec, model, optimizer, 3)
    return optimizer.state_dict()


@every_own_optimizer
def test_refuses_the_state_of_another_optimizer(spec):
    """Between entries of one method, the method's own tests say which options have to agree."""
    others = [other for other in REGISTRY.values() if not issubclass(kind(other), kind(spec))]
    with no_trace(spec) as (_, optimizer):
        for other in others:
            with pytest.raises(ValueError, match="the state dict is not one of"):
                optimizer.load_state_dict(trained_state(other, layer_norm_net()))


def wider():
    return nn.Sequential(nn.Linear(6, 9), nn.LayerNorm(9), nn.Tanh(), nn.Linear(9, 3))


def without_bias():
    return nn.Sequential(nn.Linear(6, 8, bias=False), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3))


def deeper():
    return nn.Sequential(*layer_norm_net(), nn.Linear(3, 3))


@every_own_optimizer
@pytest.mark.parametrize("network", [wider, without_bias, deeper])
def test_refuses_the_state_of_another_model(spec, network):
    with no_trace(spec) as (_, optimizer), pytest.raises(ValueError, match="loaded"):
        optimizer.load_state_dict(trained_state(spec, network()))


def paths(state, path=()) -> Iterator[tuple]:
    """Return the way to every entry of a nested state."""
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from paths(value, (*path, key))


def at(state, path):
    for key in path:
        state = state[key]
    return state


def damaged(state) -> Iterator[tuple[str, dict]]:
    """Return copies of a state, each without one of its entries or with None for one of its collections."""
    for path in paths(state):
        *way, last = path
        if way != ["state"]:  # of a parameter that never had a gradient there is none
            lacking = copy.deepcopy(state)
            del at(lacking, way)[last]
            yield f"without {path}", lacking
        if isinstance(at(state, path), dict | list):
            spoilt = copy.deepcopy(state)
            at(spoilt, way)[last] = None
            yield f"None at {path}", spoilt


def outcome(optimizer, state):
    """Return what came of loading a state."""
    try:
        optimizer.load_state_dict(state)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "taken"


@every_own_optimizer
def test_refuses_a_state_that_is_not_whole(spec):
    with no_trace(spec) as (_, optimizer):
        saved = copy.deepcopy(optimizer.state_dict())
        states = [*((repr(garbage), garbage) for garbage in GARBAGE), *damaged(saved)]
        wrong = []
        for what, state in states:
            result = outcome(optimizer, state)
            if not result.startswith("ValueError"):
                wrong.append(f"{what}: {result}")
                optimizer.load_state_dict(saved)
        assert not wrong, "\n".join(wrong)


@every_own_optimizer
@pytest.mark.parametrize("bad", [math.nan, -1.0])
def test_refuses_bad_options_of_loaded_groups(spec, bad):
    with no_trace(spec) as (_, optimizer):
        state = copy.deepcopy(optimizer.state_dict())
        state["param_groups"][0]["lr"] = bad
        with pytest.raises(ValueError, match="lr must be"):
            optimizer.load_state_dict(state)


@every_torch_optimizer
def test_torch_looks_at_the_sizes_of_groups_alone(spec):
    """For the record: it takes the state of another model, and fails later if at all."""
    model = layer_norm_net()
    optimizer = build(spec, model)
    for garbage in GARBAGE:
        with pytest.raises((AttributeError, KeyError, TypeError, ValueError)):
            optimizer.load_state_dict(garbage)
    with pytest.raises(ValueError, match="doesn't match the size"):
        optimizer.load_state_dict(trained_state(spec, deeper()))
    before = parameters(model)
    optimizer.load_state_dict(trained_state(spec, wider()))
    assert_same(parameters(model), before)
