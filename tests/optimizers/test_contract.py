"""What every optimizer of the registry owes its users."""

import copy
import io
import json
import pickle
from dataclasses import asdict, fields

import pytest
import torch
from torch import nn

from optimizers import REGISTRY, AdaFisher, AdaFisherW, Float, OptimizerSpec, find

pytestmark = pytest.mark.filterwarnings("ignore:these parameters take the identity factor")

every_optimizer = pytest.mark.parametrize("spec", REGISTRY.values(), ids=REGISTRY.keys())
every_adafisher = pytest.mark.parametrize("numerics", ["paper", "released"])


class Quadratic(nn.Module):
    """Bare parameters, no layers."""

    def __init__(self):
        super().__init__()
        self.point = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return (self.point * x[:, :3]).sum(1, keepdim=True) * self.scale * torch.tensor([1.0, 0.1, -1.0], dtype=x.dtype)


class Transformer(nn.Module):
    """Embedding, MultiheadAttention and a tied output."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(6, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        h = self.embedding((x.abs() * 2).long().clamp(max=5))
        return self.head(self.norm(h + self.attention(h, h, h)[0]).mean(1))


def mlp():
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(inplace=True), nn.BatchNorm1d(12), nn.Linear(12, 3))


def conv_net():
    convolutions = [nn.Conv2d(1, 4, 2, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 2, groups=2)]
    norm = [nn.GroupNorm(2, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(nn.Unflatten(1, (1, 2, 3)), *convolutions, *norm, nn.Linear(8, 3))


NETWORKS = {"bare": Quadratic, "mlp": mlp, "conv": conv_net, "transformer": Transformer}
every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())


def batch(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(24, 6, dtype=dtype, generator=generator)
    return inputs, inputs[:, :3].argmax(1)


def train(model, optimizer, num_steps, dtype=torch.float32):
    """Train on one batch and return the losses."""
    inputs, targets = batch(dtype)
    losses = []
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def build(spec, model, **hyperparameters):
    return spec.build(model, spec.configure(**hyperparameters))


@every_optimizer
@every_network
def test_lowers_the_loss(spec, network):
    model = network()
    lr = {"sgd": 0.05, "adam": 0.01, "adamw": 0.01}.get(spec.name, 1e-3)
    losses = train(model, build(spec, model, lr=lr), 60)
    assert losses[-1] < 0.9 * losses[0]


@every_optimizer
@every_network
def test_moves_every_parameter_with_a_gradient(spec, network):
    model = network()
    before = copy.deepcopy(model)
    train(model, build(spec, model), 5)
    for (name, param), old in zip(model.named_parameters(), before.parameters(), strict=True):
        is_round_off = param.grad.abs().max() < 1e-6  # a bias before a BatchNorm, and attention's key bias
        assert is_round_off or not torch.equal(param, old), name


def through_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file)


@every_optimizer
@pytest.mark.parametrize("transfer", [copy.deepcopy, through_file], ids=["copied", "saved"])
@pytest.mark.parametrize("num_steps", [0, 3])
def test_state_dict_continues_bit_equal(spec, transfer, num_steps):
    model = conv_net()
    optimizer = build(spec, model)
    train(model, optimizer, num_steps)
    twin = copy.deepcopy(model)
    twin_optimizer = build(spec, twin)
    saved = transfer(optimizer.state_dict())
    kept = copy.deepcopy(saved)
    twin_optimizer.load_state_dict(saved)
    assert train(model, optimizer, 4) == train(twin, twin_optimizer, 4)
    torch.testing.assert_close(twin.state_dict(), model.state_dict(), rtol=0, atol=0)
    if isinstance(optimizer, AdaFisher):  # torch's own share their tensors with the loaded dict
        assert_equal(saved, kept)


def assert_equal(actual, expected):
    assert type(actual) is type(expected)
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for key, value in expected.items():
            assert_equal(actual[key], value)
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(actual, expected)
    else:
        assert actual == expected


@every_optimizer
def test_param_groups_have_options_of_their_own(spec):
    model = mlp()
    optimizer = build(spec, model)
    head = optimizer.param_groups[0]["params"].pop()
    optimizer.add_param_group({"params": [head], "lr": 0.0})
    before = copy.deepcopy(model)
    train(model, optimizer, 3)
    assert torch.equal(model[3].bias, before[3].bias)
    assert not torch.equal(model[3].weight, before[3].weight)


class Spare(nn.Module):
    """A layer that is never used beside one that is."""

    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(2, 2)
        self.used = nn.Linear(6, 3)

    def forward(self, x):
        return self.used(x)


@every_optimizer
def test_frozen_and_unreached_parameters_stay(spec):
    model = Spare()
    model.used.bias.requires_grad_(False)
    before = copy.deepcopy(model)
    train(model, build(spec, model, weight_decay=0.1), 3)
    torch.testing.assert_close(model.spare.state_dict(), before.spare.state_dict(), rtol=0, atol=0)
    assert torch.equal(model.used.bias, before.used.bias)
    assert not torch.equal(model.used.weight, before.used.weight)


@every_optimizer
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_keeps_the_dtype(spec, dtype):
    model = mlp().to(dtype)
    optimizer = build(spec, model)
    train(model, optimizer, 3, dtype)
    for param in model.parameters():
        assert param.dtype == dtype
        assert param.isfinite().all()


@every_optimizer
def test_follows_a_schedule(spec):
    model = mlp()
    optimizer = build(spec, model)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3)
    for _ in range(3):
        train(model, optimizer, 1)
        scheduler.step()
    before = copy.deepcopy(model)
    train(model, optimizer, 1)  # the learning rate has arrived at 0
    torch.testing.assert_close(dict(model.named_parameters()), dict(before.named_parameters()), rtol=0, atol=0)


@every_optimizer
def test_step_takes_a_closure(spec):
    model = mlp()
    optimizer = build(spec, model)
    inputs, targets = batch()

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(20)]
    assert losses[-1] < losses[0]


@every_optimizer
def test_same_seed_same_result(spec):
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        model = conv_net()
        results.append(train(model, build(spec, model), 5))
    assert results[0] == results[1]


@every_optimizer
def test_zero_gradients_give_no_nan(spec):
    model = mlp()
    optimizer = build(spec, model)
    for _ in range(3):
        optimizer.zero_grad()
        (model(batch()[0]) * 0).sum().backward()
        optimizer.step()
    assert all(param.isfinite().all() for param in model.parameters())


@every_optimizer
def test_config_pickles_and_is_json(spec):
    config = spec.configure()
    assert pickle.loads(pickle.dumps(config)) == config
    assert spec.config(**json.loads(json.dumps(asdict(config)))) == config


@every_optimizer
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_refuses_bad_hyperparameters(spec, bad):
    names = [field.name for field in fields(spec.config) if isinstance(field.default, float)]
    assert names
    for name in names:
        with pytest.raises(ValueError, match=rf"{name} must be .*, but got {bad}"):
            spec.configure(**{name: bad})


@every_optimizer
def test_search_space_holds_values_that_the_config_accepts(spec):
    for name, atom in spec.search_space.items():
        values = (atom.low, atom.high) if isinstance(atom, Float) else atom.choices
        for value in values:
            spec.configure(**{name: value})


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


@pytest.mark.parametrize("options", [{"damping": 0.0}, {"beta": 1.0}, {"lr": float("nan")}, {"weight_decay": -1.0}])
def test_adafisher_refuses_bad_groups(options):
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
        ({"layers": "none"}, "layers must be one of paper, all, but got 'none'"),
        ({"loss_reduction": "max"}, "loss_reduction must be one of mean, sum, but got 'max'"),
        ({"update_interval": 0}, "update_interval must be None or a whole number >= 1, but got 0"),
        ({"gamma": 0.0}, r"gamma must be in \(0, 1\], but got 0.0"),
    ],
)
def test_adafisher_refuses_bad_options(option, message):
    with pytest.raises(ValueError, match=message):
        AdaFisher(nn.Linear(2, 2), **option)


def test_adafisher_refuses_parameters_that_are_not_real():
    model = nn.Linear(2, 2, dtype=torch.complex64)
    with pytest.raises(ValueError, match="a parameter's dtype must be real, but got torch.complex64"):
        AdaFisher(model)


@every_adafisher
def test_adafisher_refuses_states_of_others(numerics):
    optimizer = AdaFisher(mlp(), numerics=numerics)
    other = AdaFisher(mlp(), numerics="paper" if numerics == "released" else "released")
    wider = AdaFisher(nn.Sequential(nn.Linear(6, 13), nn.BatchNorm1d(13), nn.Linear(13, 3)), numerics=numerics)
    for state, reason in [
        (other.state_dict(), "numerics of the loaded state must be"),
        (wider.state_dict(), "another model; layers that differ: '0', '1', '2', '3'"),
        (torch.optim.SGD(mlp().parameters()).state_dict(), "not one of AdaFisher"),
    ]:
        with pytest.raises(ValueError, match=reason):
            optimizer.load_state_dict(state)


def test_adafisher_refuses_averages_of_another_shape():
    model = Quadratic()
    optimizer = AdaFisher(model)
    train(model, optimizer, 1)
    model.point = nn.Parameter(torch.zeros(5))
    with pytest.raises(ValueError, match=r"must be \(5,\), its parameter's, but got \(3,\)"):
        AdaFisher(model).load_state_dict(optimizer.state_dict())


def test_adafisherw_decouples_the_decay():
    models = [mlp() for _ in range(3)]
    for model in models[1:]:
        model.load_state_dict(models[0].state_dict())
    for model, kind, options in zip(
        models, (AdaFisher, AdaFisherW, AdaFisher), ({}, {}, {"decoupled_weight_decay": True}), strict=True
    ):
        train(model, kind(model, weight_decay=0.1, **options), 3)
    torch.testing.assert_close(models[1].state_dict(), models[2].state_dict(), rtol=0, atol=0)
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
