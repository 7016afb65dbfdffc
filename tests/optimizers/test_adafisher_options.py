"""AdaFisher's own options and diagnostics, and which states of another AdaFisher it takes."""

import pytest
import torch
from torch import nn

from optimizers import REGISTRY, AdaFisher, AdaFisherW
from tests.optimizers.contract import assert_same, build, no_trace, parameters, quiet
from tests.optimizers.contract import train as train_as
from tests.optimizers.contract_networks import Bare, conv_net, layer_norm_net, mlp

pytestmark = quiet


def train(model, optimizer, num_steps):
    return train_as(REGISTRY["adafisher"], model, optimizer, num_steps)


@pytest.mark.parametrize("options", [{"damping": 0.0}, {"beta": 1.0}])
def test_refuses_groups_at_the_edge(options):
    model = nn.Linear(2, 2)
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} must be"):
        AdaFisher(model, params=[{"params": model.parameters(), **options}])
    optimizer = AdaFisher(model, params=[model.weight])
    with pytest.raises(ValueError, match=f"{name} must be"):
        optimizer.add_param_group({"params": [model.bias], **options})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"numerics": "new"}, "numerics must be one of paper, released, but got 'new'"),
        ({"layers": "none"}, "layers must be one of paper, all, dense, but got 'none'"),
        ({"loss_reduction": "max"}, "loss_reduction must be one of mean, sum, but got 'max'"),
        ({"update_interval": 0}, "update_interval must be None or a whole number >= 1, but got 0"),
        ({"update_interval": 1.5}, "update_interval must be None or a whole number >= 1, but got 1.5"),
        ({"gamma": 0.0}, r"gamma must be in \(0, 1\], but got 0.0"),
    ],
)
def test_refuses_bad_options(option, message):
    with pytest.raises(ValueError, match=message):
        AdaFisher(nn.Linear(2, 2), **option)


def test_refuses_an_empty_list_of_parameters():
    with pytest.raises(ValueError, match="empty parameter list"):
        AdaFisher(nn.Linear(2, 2), params=[])


def test_refuses_a_parameter_in_two_groups():
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="more than one parameter group"):
        AdaFisher(model, params=[{"params": [model.weight]}, {"params": model.parameters(), "lr": 0.1}])


@pytest.mark.parametrize("name", ["adafisher", "adafisher_released"])
def test_refuses_states_of_other_numerics(name):
    other = "adafisher" if name == "adafisher_released" else "adafisher_released"
    state = build(REGISTRY[other], layer_norm_net()).state_dict()
    with no_trace(REGISTRY[name]) as (_, optimizer), pytest.raises(ValueError, match="numerics of the loaded state"):
        optimizer.load_state_dict(state)


def test_names_the_layers_that_differ():
    wider = AdaFisher(mlp(width=13))
    with pytest.raises(ValueError, match="another model; layers that differ: '0', '2', '3'"):
        AdaFisher(mlp()).load_state_dict(wider.state_dict())


def test_refuses_averages_of_another_shape():
    model = Bare()
    optimizer = AdaFisher(model)
    train(model, optimizer, 1)
    model.point = nn.Parameter(torch.zeros(5))
    with pytest.raises(ValueError, match=r"'exp_avg': \(5,\)\}, but got .*'exp_avg': \(3,\)"):
        AdaFisher(model).load_state_dict(optimizer.state_dict())


def test_adafisherw_decouples_the_decay():
    models = [mlp() for _ in range(3)]
    for model in models[1:]:
        model.load_state_dict(models[0].state_dict())
    for model, kind, options in zip(
        models, (AdaFisher, AdaFisherW, AdaFisher), ({}, {}, {"decoupled_weight_decay": True}), strict=True
    ):
        train(model, kind(model, weight_decay=0.1, **options), 3)
    assert_same(parameters(models[1]), parameters(models[2]))
    assert not torch.equal(models[0][0].weight, models[1][0].weight)


def test_fisher_diag_is_within_its_bounds():
    model = conv_net()
    optimizer = AdaFisher(model, damping=0.01)
    train(model, optimizer, 2)
    for param in model.parameters():
        diagonal = optimizer.fisher_diag(param)
        assert diagonal.shape == param.shape
        assert diagonal.min() >= 0.01 * (1 - 1e-6)
        assert diagonal.max() <= 1.01 * (1 + 1e-6)
    with pytest.raises(ValueError, match="no such parameter"):
        optimizer.fisher_diag(nn.Parameter(torch.zeros(3)))
