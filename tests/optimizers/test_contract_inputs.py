"""What every optimizer of the registry does with wrong inputs: hyperparameters, groups, parameters and gradients."""

import itertools
import json
import math
import pickle
from dataclasses import asdict, fields

import pytest
import torch
from torch import nn

from optimizers import REGISTRY, Categorical, Float
from tests.optimizers.contract import (
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
from tests.optimizers.contract_networks import CLASSES, mlp

pytestmark = quiet

every_bad_number = pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1.0])


@every_optimizer
def test_config_pickles_and_is_json(spec):
    config = spec.configure()
    assert pickle.loads(pickle.dumps(config)) == config
    assert spec.config(**json.loads(json.dumps(asdict(config)))) == config


@every_optimizer
@every_bad_number
def test_refuses_bad_hyperparameters(spec, bad):
    defaults = {field.name: field.default for field in fields(spec.config) if isinstance(field.default, float)}
    assert defaults
    for name, default in defaults.items():
        value = -bad if default < 0 else bad
        with pytest.raises(ValueError, match=rf"{name} must be .*, but got {value}"):
            spec.configure(**{name: value})


SPACES = ("default", "wide", "paper-cnn", "paper-vit", "paper-transfer", "paper-language")
every_space = pytest.mark.parametrize(
    ("spec", "space"),
    [
        pytest.param(spec, name, id=f"{spec.name}-{name}")
        for spec in REGISTRY.values()
        for name in dict.fromkeys((*SPACES, *spec.spaces))
    ],
)


@every_space
def test_config_accepts_every_corner_of_every_search_space(spec, space):
    """All combinations of the bounds and choices, as a rule may bind two hyperparameters."""
    atoms = spec.space(space)
    values = [(atom.low, atom.high) if isinstance(atom, Float) else atom.choices for atom in atoms.values()]
    for corner in itertools.product(*values):
        spec.configure(**dict(zip(atoms, corner, strict=True)))


@every_optimizer
def test_the_wide_search_space_has_more_than_the_default(spec):
    assert {*spec.space("default"), "weight_decay"} < {*spec.space("wide")}


@every_optimizer
def test_the_papers_search_spaces_are_grids_in_order(spec):
    for task in SPACES[2:]:
        for atom in spec.space(task).values():
            assert isinstance(atom, Categorical)
            assert list(atom.choices) == sorted(atom.choices)


@every_own_optimizer
@every_bad_number
def test_refuses_bad_options_of_groups(spec, bad):
    with no_trace(spec) as (_, optimizer):
        names = [name for name, value in optimizer.defaults.items() if isinstance(value, float)]
        assert "lr" in names
        for name in names:
            with pytest.raises(ValueError, match=rf"{name} must be .*, but got {bad}"):
                optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))], name: bad})


@every_torch_optimizer
def test_torch_takes_options_of_groups_as_they_are(spec):
    """For the record."""
    optimizer = build(spec, mlp())
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))], "lr": -1.0})
    assert optimizer.param_groups[1]["lr"] == -1.0


@every_optimizer
def test_refuses_a_model_with_nothing_to_train(spec):
    for model in (nn.Tanh(), nn.Linear(2, 2).requires_grad_(False)):
        with pytest.raises(ValueError, match="empty parameter list"):
            build(spec, model)


@every_optimizer
def test_refuses_groups_that_are_none(spec):
    with no_trace(spec) as (model, optimizer):
        own, new = model[0].weight, nn.Parameter(torch.zeros(2))
        for group, error, message in [
            ({"params": [own]}, ValueError, "more than one parameter group"),
            ({"params": [new, own]}, ValueError, "more than one parameter group"),
            ({"params": [new * 2]}, ValueError, "non-leaf"),
            ({"params": {new}}, TypeError, "ordered collections"),
            ({"params": [1.0]}, TypeError, "can only optimize Tensors"),
            ([new], TypeError, "must be a dict"),
        ]:
            with pytest.raises(error, match=message):
                optimizer.add_param_group(group)


@every_optimizer
def test_takes_an_empty_group_to_be_filled_later(spec):
    model = mlp()
    optimizer = build(spec, model)
    optimizer.add_param_group({"params": []})
    optimizer.param_groups[1]["params"].append(optimizer.param_groups[0]["params"].pop())
    before = parameters(model)
    train(spec, model, optimizer, 3)
    assert not torch.equal(model[3].bias, before["3.bias"])


@every_optimizer
def test_warns_of_a_parameter_twice_in_a_group(spec):
    optimizer = build(spec, mlp())
    twice = nn.Parameter(torch.zeros(2))
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer.add_param_group({"params": [twice, twice]})


@every_own_optimizer
@pytest.mark.parametrize("dtype", [torch.complex64, torch.int32], ids=str)
def test_refuses_parameters_that_are_not_real(spec, dtype):
    other = nn.Parameter(torch.zeros(2, dtype=dtype), requires_grad=dtype.is_complex)
    with no_trace(spec) as (_, optimizer):
        for group in ({"params": [other]}, {"params": [nn.Parameter(torch.zeros(2)), other]}):
            with pytest.raises(ValueError, match=f"must be real, but got {dtype}"):
                optimizer.add_param_group(group)


@every_own_optimizer
def test_refuses_complex_models(spec):
    with pytest.raises(ValueError, match="must be real, but got torch.complex64"):
        build(spec, nn.Linear(2, 2, dtype=torch.complex64))


@every_own_optimizer
def test_refuses_parameters_in_the_place_of_the_model(spec):
    """The habit of ``torch.optim``."""
    with pytest.raises(
        ValueError, match="the first argument must be the model, not its parameters, but got 'generator'"
    ):
        kind(spec)(mlp().parameters())


@every_own_optimizer
def test_refuses_modules_that_wait_for_their_first_forward(spec):
    with pytest.raises(ValueError, match="must be initialized by a first forward, but got 'UninitializedParameter'"):
        build(spec, nn.Sequential(nn.LazyLinear(3)))


@every_torch_optimizer
def test_torch_takes_complex_models(spec):
    """For the record; of these Adafactor refuses them in its first step."""
    assert build(spec, nn.Linear(2, 2, dtype=torch.complex64)).param_groups


class Quantized(nn.Module):
    """Holds integers that take no gradient, as quantized layers do."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, CLASSES)
        self.signs = nn.Parameter(torch.tensor([1, -1, 1, -1, 1, -1]), requires_grad=False)

    def forward(self, x):
        return self.head(x * self.signs)


@every_optimizer
def test_leaves_the_integers_of_a_model_alone(spec):
    model = Quantized()
    losses = train(spec, model, build(spec, model), 10)
    assert losses[-1] < losses[0]
    assert model.signs.tolist() == [1, -1, 1, -1, 1, -1]


@every_own_optimizer
def test_refuses_sparse_gradients(spec):
    model = nn.EmbeddingBag(6, 3, mode="sum", sparse=True)
    optimizer = build(spec, model)
    before = model.weight.detach().clone()
    model(torch.tensor([[1, 2]])).sum().backward()
    with pytest.raises(ValueError, match="a gradient must be dense"):
        optimizer.step()
    assert_same(model.weight.detach(), before)
