"""Eva against the elimination of its dense system, and where its vectors are nothing."""

import pytest
import torch
from torch import nn

from optimizers import Eva
from optimizers.eva import eva_direction
from tests.optimizers.natural import ALL_NETS, NETS, SETTINGS, TOLERANCE, Options, compare, conv_net
from tests.oracles.eva import EvaOracle

pytestmark = pytest.mark.filterwarnings("ignore:these parameters take the identity factor")


def differs(net, options=Options(), oracle=EvaOracle, *, interval=1, **batches):  # noqa: B008
    own, of_oracle = {"update_interval": interval}, {"interval": interval}
    return compare(Eva, oracle, net, options, own=own, of_oracle=of_oracle, **batches)


@pytest.mark.parametrize("net", ALL_NETS.values(), ids=ALL_NETS)
def test_parameters_follow_the_oracle(net):
    assert differs(net, num_steps=20) <= TOLERANCE


OWN_SETTINGS = {
    "decay-and-momentum": {"options": Options(factor_decay=0.05, momentum=0.5)},
    "no-average": {"options": Options(factor_decay=0.0)},
    "every-5-steps": {"interval": 5},
}


@pytest.mark.parametrize("net", ["conv-grouped", "layernorm-on-sequences", "mlp-without-bias"])
@pytest.mark.parametrize("setting", [*SETTINGS.values(), *OWN_SETTINGS.values()], ids=[*SETTINGS, *OWN_SETTINGS])
def test_settings(net, setting):
    assert differs(NETS[net], **setting) <= TOLERANCE


def mutant(**replaced):
    return type("Mutant", (EvaOracle,), replaced)


def without_ones(self, layer, uses):
    """The input's vector without the 1 that a bias meets."""
    EvaOracle.fold(self, layer, uses)
    if layer.bias is not None:
        keep = torch.arange(len(self.running[layer][0][0])) < len(self.running[layer][0][0]) - 1
        self.running[layer] = [(a * keep, b) for a, b in self.running[layer]]


MUTANTS = {
    "no-damping-in-the-denominator": {
        "direction": lambda self, layer, grads: {
            name: grad / self.options.damping for name, grad in EvaOracle.direction(self, layer, grads).items()
        }
    },
    "no-bias-coordinate": {"fold": without_ones},
    "sums-of-the-input": {"fold": lambda self, layer, uses: EvaOracle.fold(self, layer, [(2 * h, s) for h, s in uses])},
    "means-of-the-gradient": {
        "fold": lambda self, layer, uses: EvaOracle.fold(self, layer, [(h, s / len(s)) for h, s in uses])
    },
}


@pytest.mark.parametrize("replaced", MUTANTS.values(), ids=MUTANTS)
def test_mutants_of_the_oracle_differ(replaced):
    """Where one does not, the comparison is blind to its error."""
    options = Options(lr=0.01, kl_clip=None, damping=0.1)
    assert differs(conv_net(padding=1, groups=2), options, mutant(**replaced), num_steps=10) >= 1e-4


def test_a_direction_by_hand():
    """a = (1, 2), b = (1, 0), λ = 1: F = [[2, 2], [2, 5]] for the first row, the identity for the second."""
    grad = torch.tensor([[[4.0, 7.0], [3.0, 5.0]]])
    direction = eva_direction(grad, torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0]]), damping=1.0)
    torch.testing.assert_close(direction, torch.tensor([[[1.0, 1.0], [3.0, 5.0]]]))


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e4])
def test_vectors_of_any_size_train(scale):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = Eva(model)
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.randn(6, 3) * torch.tensor([1.0, scale, 1.0])).square().mean().backward()
        optimizer.step()
    assert all(param.isfinite().all() for param in model.parameters())


def test_dimensions_of_1_and_of_30000():
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 30_000), nn.Linear(30_000, 1))
    optimizer = Eva(model)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(3, 1)).square().mean().backward()
        optimizer.step()
    assert all(param.isfinite().all() for param in model.parameters())


@pytest.mark.parametrize("bad", [0, 2.5])
def test_refuses_bad_intervals(bad):
    with pytest.raises(ValueError, match=f"update_interval must be a whole number >= 1, but got {bad}"):
        Eva(nn.Linear(2, 2), update_interval=bad)
