"""AdaFisher's released numerics against the oracle, and their collapse to a constant F̃."""

import pytest
import torch
from torch import nn

from optimizers import AdaFisher
from tests.optimizers.test_adafisher import IMAGE, LABELS, NETS, Net, cnn, make_batches, worst_difference
from tests.oracles.adafisher import AdaFisherOracle, Options, ReleasedNumerics

STEPS = 250  # refreshes at steps 0, 100 and 200
TOLERANCE = 1e-10  # float64: the two sum in different orders; up to 2e-14 was seen
DAMPING = 1e-3


def layernorm_mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, LABELS))


RELEASED_NETS = {
    "mlp": NETS["mlp"],
    "conv": NETS["conv"],
    "conv-same-without-bias": Net(lambda: cnn(nn.Conv2d(4, 6, 3, padding="same", dilation=2, bias=False)), IMAGE),
    "conv-grouped": NETS["conv-grouped"],
    "conv-depthwise-without-bias": NETS["conv-depthwise-without-bias"],
    "batchnorm-mlp": NETS["batchnorm-mlp"],
    "layernorm-mlp": Net(layernorm_mlp, (5,)),
    "layernorm-on-sequences": Net(layernorm_mlp, (4, 5)),
}


def train(net: Net, num_steps: int, **settings: object) -> tuple[AdaFisher, float]:
    torch.manual_seed(0)
    model = net.build().double()
    optimizer = AdaFisher(model, numerics="released", damping=DAMPING, **settings)
    oracle = AdaFisherOracle(model, ReleasedNumerics(**settings), lambda name: Options(damping=DAMPING))
    return optimizer, worst_difference(model, optimizer, oracle, make_batches(net, num_steps))


@pytest.mark.parametrize("net", RELEASED_NETS.values(), ids=RELEASED_NETS)
def test_parameters_follow_the_oracle(net):
    assert train(net, STEPS)[1] <= TOLERANCE


@pytest.mark.parametrize("settings", [{"gamma": 0.1}, {"update_interval": 7}], ids=["gamma", "update-interval"])
def test_settings(settings):
    assert train(RELEASED_NETS["conv-grouped"], 50, **settings)[1] <= TOLERANCE


@pytest.mark.parametrize(("numerics", "bound"), [("released", 1.08), ("paper", (1 + DAMPING) / DAMPING)])
def test_fisher_collapses_in_released_numerics_only(numerics, bound):
    """The average alone caps it: H, S end in [0, 0.00874] (the third refresh after the first is step 300's)."""
    torch.manual_seed(0)
    net = NETS["conv"]
    model = net.build().double()
    optimizer = AdaFisher(model, numerics=numerics, damping=DAMPING)
    for ((x, y),) in make_batches(net, 301):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x.double()), y).backward()
        optimizer.step()
    fishers = [optimizer.fisher_diag(p) for p in model.parameters()]
    ratio = (torch.stack([f.max() for f in fishers]).max() / torch.stack([f.min() for f in fishers]).min()).item()
    assert ratio == pytest.approx(bound) if numerics == "paper" else 1 <= ratio < bound
