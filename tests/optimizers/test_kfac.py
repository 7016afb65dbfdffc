"""K-FAC against dense solves of its damped systems, against an exact Gauss-Newton matrix, and where inverses fail."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from optimizers import KFAC, sampling
from optimizers import kronecker as kronecker_module
from optimizers.capture import Capture
from optimizers.kronecker import KroneckerFactors, kronecker_rules
from tests.optimizers.natural import ALL_NETS, NETS, SETTINGS, TOLERANCE, Options, compare, conv_net
from tests.oracles.kfac import KFACOracle

pytestmark = pytest.mark.filterwarnings("ignore:these parameters take the identity factor")

EACH_STEP = {"factor_interval": 1, "inverse_interval": 1}


def differs(net, options=Options(), oracle=KFACOracle, *, intervals=(1, 1), max_factor_dim=10**9, own=None, **batches):  # noqa: B008
    own = {
        "factor_interval": intervals[0],
        "inverse_interval": intervals[1],
        "max_factor_dim": max_factor_dim,
        **(own or {}),
    }
    of_oracle = {"intervals": intervals, "max_factor_dim": max_factor_dim}
    return compare(KFAC, oracle, net, options, own=own, of_oracle=of_oracle, **batches)


@pytest.mark.parametrize("net", ALL_NETS.values(), ids=ALL_NETS)
def test_parameters_follow_the_oracle(net):
    assert differs(net, num_steps=20) <= TOLERANCE


OWN_SETTINGS = {
    "decay-and-momentum": {"options": Options(factor_decay=0.5, momentum=0.5)},
    "no-average": {"options": Options(lr=1e-3, factor_decay=0.0)},
    "intervals": {"intervals": (3, 12)},
    "diagonal-factors": {"max_factor_dim": 4},
    "all-factors-diagonal": {"max_factor_dim": 1},
}


@pytest.mark.parametrize("net", ["conv-grouped", "layernorm-on-sequences", "mlp-without-bias"])
@pytest.mark.parametrize("setting", [*SETTINGS.values(), *OWN_SETTINGS.values()], ids=[*SETTINGS, *OWN_SETTINGS])
def test_settings(net, setting):
    assert differs(NETS[net], **setting) <= TOLERANCE


def mutant(**replaced):
    return type("Mutant", (KFACOracle,), replaced)


def without_pi(self, a, s, damping):
    return torch.kron(s + damping**0.5 * torch.eye(len(s)), a + damping**0.5 * torch.eye(len(a)))


MUTANTS = {
    "no-pi": {"damped": without_pi},
    "damping-of-the-product": {
        "damped": lambda self, a, s, damping: torch.kron(s, a) + damping * torch.eye(len(a) * len(s))
    },
    "gradients-not-times-samples": {
        "new": lambda self, layer, uses: [(a, s / len(uses[0][1]) ** 2) for a, s in KFACOracle.new(self, layer, uses)]
    },
    "no-bias-coordinate": {
        "new": lambda self, layer, uses: [
            (a * (torch.arange(len(a)) < len(a) - 1) if layer.bias is not None and len(a) > 1 else a, s)
            for a, s in KFACOracle.new(self, layer, uses)
        ]
    },
    "normalizations-without-rule": {"with_rule": (nn.Linear, nn.Conv2d)},
}


@pytest.mark.parametrize("replaced", MUTANTS.values(), ids=MUTANTS)
def test_mutants_of_the_oracle_differ(replaced):
    """Where one does not, the comparison is blind to its error."""
    assert differs(conv_net(padding=1, groups=2), oracle=mutant(**replaced), num_steps=10) >= 1e-4


def gauss_newton(model, inputs):
    """Return the Gauss-Newton matrix of a squared error, the mean over samples, block by block for each weight."""
    params = dict(model.named_parameters())
    jacobians = torch.func.vmap(
        torch.func.jacrev(lambda own, x: torch.func.functional_call(model, own, x)), in_dims=(None, 0)
    )(params, inputs)
    flat = {name: jacobian.flatten(2) for name, jacobian in jacobians.items()}  # [samples, outputs, entries]
    return {name: torch.einsum("noi,noj->ij", each, each) / len(inputs) for name, each in flat.items()}


def test_the_factors_of_a_deep_linear_net_give_its_gauss_newton_matrix():
    """There s does not depend on the input: K-FAC's one assumption. The loss meets each input with each output."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 5, bias=False), nn.Linear(5, 6, bias=False), nn.Linear(6, 3, bias=False)
    ).double()
    inputs = torch.randn(8, 4, dtype=torch.float64)
    capture = Capture(model, kronecker_rules(100))
    factors = KroneckerFactors(capture, decay=0.95, is_mean=True, loss_scale=None, process_group=False)
    outputs = model(inputs.repeat_interleave(3, dim=0))
    directions = (3**0.5 * torch.eye(3)).double().repeat(8, 1)  # of mean square 1
    (outputs * directions).sum(1).mean().backward()
    factors.refresh()
    expected = gauss_newton(model, inputs)
    for name, own in factors.state_dict().items():
        torch.testing.assert_close(torch.kron(own["S"][0], own["A"][0]), expected[f"{name}.weight"])


def exact_fisher_of_logits(model, inputs):
    """Return by layer E[s sᵀ] over the labels that the network expects, the mean over samples."""
    found = {}
    for label in range(3):
        outputs = [inputs]
        for layer in model:
            outputs.append(layer(outputs[-1]))
        log_probs = outputs[-1].log_softmax(1)
        weights = log_probs[:, label].exp().detach()
        grads = torch.autograd.grad(log_probs[:, label].sum(), [outputs[1], outputs[3]])
        for name, grad in zip(("0", "2"), grads, strict=True):
            found[name] = found.get(name, 0) + torch.einsum("n,ni,nj->ij", weights, grad, grad) / len(inputs)
    return found


def test_sampled_labels_tend_to_the_exact_fisher():
    """Over 500 draws of 16 labels: a standard error is about 1 % of the largest entry."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    inputs, targets = torch.randn(16, 4, dtype=torch.float64), torch.randint(3, (16,))
    optimizer = KFAC(model, lr=0.0, fisher="sampled", factor_decay=0.9999, **EACH_STEP)
    for _ in range(500):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    for name, expected in exact_fisher_of_logits(model, inputs).items():
        sampled = optimizer.state_dict()["kfac"]["factors"][name]["S"][0]
        assert (sampled - expected).abs().max() < 0.06 * expected.abs().max()


def sampled_steps(model, num_steps=3, *, seed=5, **options):
    """Train with sampled labels, and return the factors."""
    optimizer = KFAC(model, fisher="sampled", seed=seed, **EACH_STEP, **options)
    generator = torch.Generator().manual_seed(0)
    for _ in range(num_steps):
        x, y = torch.randn(8, 4, generator=generator, dtype=torch.float64), torch.randint(3, (8,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return optimizer


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 3)).double()


def test_sampled_labels_leave_the_gradients_alone():
    """The gradients of two networks, one of which draws labels, are the same."""
    grads = []
    for fisher in ("empirical", "sampled"):
        model = net()
        optimizer = KFAC(model, fisher=fisher)
        nn.functional.cross_entropy(model(torch.ones(2, 4, dtype=torch.float64)), torch.tensor([0, 1])).backward()
        grads.append([param.grad for param in model.parameters()])
        assert optimizer.refresh_intervals == (10, 100)
    for one, other in zip(*grads, strict=True):
        assert torch.equal(one, other)


def test_sampled_labels_are_those_of_the_seed_and_go_on_after_a_resume():
    first, same, other = (sampled_steps(net(), seed=seed).state_dict()["kfac"]["factors"] for seed in (5, 5, 6))
    assert torch.equal(first["0"]["S"], same["0"]["S"])
    assert not torch.equal(first["0"]["S"], other["0"]["S"])
    model = net()
    whole = sampled_steps(model, 2)
    twin = copy.deepcopy(model)
    resumed = KFAC(twin, fisher="sampled", seed=99, **EACH_STEP)
    resumed.load_state_dict(whole.state_dict())
    for optimizer, own in ((whole, model), (resumed, twin)):
        optimizer.zero_grad()
        nn.functional.cross_entropy(own(torch.ones(2, 4, dtype=torch.float64)), torch.tensor([0, 1])).backward()
        optimizer.step()
    for one, two in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, two)


def test_two_workers_draw_the_labels_of_one(monkeypatch):
    model = net()
    labels = sampling.SampledLabels(model, Capture(model, kronecker_rules(100)), 1, False)
    logits = torch.randn(8, 3)
    whole = labels._labels(logits)
    monkeypatch.setattr(sampling, "resolve_group", lambda group: object())
    monkeypatch.setattr(dist, "get_world_size", lambda group: 2)
    halves = []
    for rank in range(2):
        monkeypatch.setattr(dist, "get_rank", lambda group, rank=rank: rank)
        halves.append(labels._labels(logits[4 * rank : 4 * rank + 4]))
    assert torch.equal(torch.cat(halves), whole)
    assert len(whole.unique()) > 1


@pytest.mark.parametrize("output", [(1, 2), "text"], ids=str)
def test_sampled_labels_need_logits(output):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x):
            self.layer(x)
            return output

    model = Odd()
    optimizer = KFAC(model, fisher="sampled")
    with pytest.raises(ValueError, match="the model's output must be logits"):
        model(torch.ones(1, 2))
    assert optimizer.param_groups


def step_on(model, optimizer, x):
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


def test_the_last_good_inverses_stay_where_new_ones_fail(monkeypatch):
    model = nn.Sequential(nn.Linear(3, 3))
    optimizer = KFAC(model, **EACH_STEP)
    step_on(model, optimizer, torch.randn(5, 3))
    before = optimizer.state_dict()["kfac"]["factors"]["0"]
    assert optimizer.fallbacks() == {"kept_inverses": 0}
    good = kronecker_module.damped_inverse

    def fails(matrices, damping):
        return good(matrices, damping)[0] * torch.nan, torch.tensor(False)

    monkeypatch.setattr(kronecker_module, "damped_inverse", fails)
    weight = model[0].weight.detach().clone()
    step_on(model, optimizer, torch.randn(5, 3))
    after = optimizer.state_dict()["kfac"]["factors"]["0"]
    assert optimizer.fallbacks() == {"kept_inverses": 1}
    assert torch.equal(before["A_inverse"], after["A_inverse"]) and torch.equal(before["S_inverse"], after["S_inverse"])
    assert not torch.equal(before["A"], after["A"])
    assert model[0].weight.isfinite().all() and not torch.equal(weight, model[0].weight)


def test_an_indefinite_factor_fails_in_truth():
    """Round-off can make one so: here by hand."""
    model = nn.Sequential(nn.Linear(3, 3, bias=False))
    optimizer = KFAC(model, damping=1e-12, **EACH_STEP)
    step_on(model, optimizer, torch.randn(5, 3))
    state = optimizer.state_dict()
    state["kfac"]["factors"]["0"]["A"] = -torch.eye(3).unsqueeze(0)
    optimizer.load_state_dict(state)
    before = optimizer.state_dict()["kfac"]["factors"]["0"]["A_inverse"]
    optimizer._factors.invert({model[0].weight: 1e-12})
    assert optimizer.fallbacks() == {"kept_inverses": 1}
    assert torch.equal(before, optimizer.state_dict()["kfac"]["factors"]["0"]["A_inverse"])


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_ill_conditioned_inputs_train(scale):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = KFAC(model, **EACH_STEP)
    for _ in range(5):
        step_on(model, optimizer, torch.randn(6, 3) * torch.tensor([1.0, scale, 1.0]))
    assert all(param.isfinite().all() for param in model.parameters())


@pytest.mark.parametrize("conv", [False, True])
def test_all_zero_factors_train(conv):
    layer = nn.Conv2d(3, 4, 2, bias=False) if conv else nn.Linear(3, 4, bias=False)
    model = nn.Sequential(layer)
    optimizer = KFAC(model, **EACH_STEP)
    before = layer.weight.detach().clone()
    for _ in range(3):
        step_on(model, optimizer, torch.zeros(2, 3, 3, 3) if conv else torch.zeros(2, 3))
    assert torch.equal(layer.weight, before)
    step_on(model, optimizer, torch.ones(2, 3, 3, 3) if conv else torch.ones(2, 3))
    assert layer.weight.isfinite().all() and not torch.equal(layer.weight, before)


def test_dimensions_of_1_and_of_30000():
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 30_000), nn.Linear(30_000, 1))
    optimizer = KFAC(model, **EACH_STEP)
    for _ in range(2):
        step_on(model, optimizer, torch.randn(3, 1))
    shapes = {name: (own["A"].shape, own["S"].shape) for name, own in optimizer.state_dict()["kfac"]["factors"].items()}
    assert shapes == {
        "0": ((1, 2, 2), (1, 1, 1)),
        "1": ((1, 2, 2), (1, 30_000)),
        "2": ((1, 30_001), (1, 1, 1)),
    }
    assert all(param.isfinite().all() for param in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor_interval": 0}, "factor_interval must be a whole number >= 1, but got 0"),
        ({"inverse_interval": 15}, "inverse_interval must be a multiple of factor_interval=10, but got 15"),
        ({"fisher": "exact"}, "fisher must be one of empirical, sampled, but got 'exact'"),
        ({"max_factor_dim": 0.5}, "max_factor_dim must be a whole number >= 1, but got 0.5"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), but got 1.0"),
        ({"kl_clip": 0.0}, "kl_clip must be None or finite and > 0, but got 0.0"),
        ({"loss_reduction": "none"}, "loss_reduction must be one of mean, sum, but got 'none'"),
    ],
)
def test_refuses_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        KFAC(nn.Linear(2, 2), **options)


def test_levels_of_refresh():
    model = nn.Sequential(nn.Linear(3, 3))
    optimizer = KFAC(model, factor_interval=2, inverse_interval=4)
    levels = []
    for _ in range(6):
        step_on(model, optimizer, torch.randn(4, 3))
        levels.append(optimizer.refreshed)
    assert levels == [2, 0, 1, 0, 2, 0]
