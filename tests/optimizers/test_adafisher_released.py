"""AdaFisher's released numerics against the oracle, and their collapse to a constant F̃."""

import pytest
import torch
from torch import nn

from optimizers import AdaFisher
from tests.optimizers.test_adafisher import MARGIN, NETS, PAPER, TOLERANCE, compare, conv_net, make_batches, mutant
from tests.optimizers.test_adafisher_layers import LAYER_NETS, MORE_NETS, NORM_NETS
from tests.oracles.adafisher import Options, ReleasedNumerics
from tests.oracles.network import as_rows

LONG_RUN = 250  # refreshes at steps 0, 100 and 200
DAMPING = 1e-3

pytestmark = pytest.mark.filterwarnings(
    "ignore:these parameters take the identity factor", "ignore:Using padding='same' with even kernel"
)

RELEASED_NETS = NETS | LAYER_NETS
LAYERS = [
    *(f"conv{n}d-{kind}" for n in (1, 2, 3) for kind in ("same", "stride-dilation-groups", "depthwise")),
    *NORM_NETS,
    *MORE_NETS,
]


@pytest.mark.parametrize("net", ["mlp", "conv-grouped", "layernorm-on-sequences"])
def test_parameters_follow_the_oracle(net):
    assert compare(RELEASED_NETS[net], ReleasedNumerics(), Options(), num_steps=LONG_RUN) <= TOLERANCE


@pytest.mark.parametrize("net", LAYERS)
def test_layers(net):
    """GroupNorm, RMSNorm and Embedding, which the released code lacks, have the paper's factors in its averages."""
    assert compare(RELEASED_NETS[net], ReleasedNumerics(layers="all", update_interval=7), Options()) <= TOLERANCE


SETTINGS = {
    "gamma": {"numerics": ReleasedNumerics(gamma=0.1, update_interval=7)},
    "no-average": {"numerics": ReleasedNumerics(ema=False, update_interval=7)},
    "identity-in-normalizations": {"numerics": ReleasedNumerics(layers="dense", update_interval=7)},
    "square-root": {"numerics": ReleasedNumerics(update_interval=7), "square_root": True},
    "decoupled": {"numerics": ReleasedNumerics(), "options": Options(weight_decay=0.1), "decoupled": True},
}


@pytest.mark.parametrize("net", ["conv-grouped", "layernorm-on-sequences"])
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_settings(net, setting):
    assert compare(RELEASED_NETS[net], **setting) <= TOLERANCE


MUTANTS = {
    "average-of-the-paper": {"average": lambda self, old, new: PAPER.average(old, new)},
    "weights-swapped": {"average": lambda self, old, new: ReleasedNumerics.average(self, new, old)},
    "no-epsilon": {"minmax": lambda self, m: PAPER.minmax(m)},
    "start-at-zeros": {"start": 0.0},
    "gradients-times-rows": {
        "new": lambda self, layer, uses: ReleasedNumerics.new(self, layer, [(h, len(s) * s) for h, s in uses])
    },
    "mean-squares-in-normalizations": {
        "of_normalization": lambda self, layer, h, s: (
            ReleasedNumerics.of_normalization(layer, h, s)[0],
            as_rows(layer, s).square().mean(0),
        )
    },
}


@pytest.mark.parametrize("replaced", MUTANTS.values(), ids=MUTANTS)
def test_mutants_of_the_oracle_differ(replaced):
    numerics = mutant(ReleasedNumerics(update_interval=7), **replaced)
    assert compare(RELEASED_NETS["conv-grouped"], numerics) >= MARGIN


@pytest.mark.parametrize(("numerics", "bound"), [("released", 1.08), ("paper", (1 + DAMPING) / DAMPING)])
def test_fisher_collapses_in_released_numerics_only(numerics, bound):
    """The average alone caps it: H, S end in [0, 0.00874] (the third refresh after the first is step 300's)."""
    torch.manual_seed(0)
    net = conv_net()
    model = net.build().double()
    optimizer = AdaFisher(model, numerics=numerics, damping=DAMPING)
    for ((x, y),) in make_batches(net, 301):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x.double()), y).backward()
        optimizer.step()
    fishers = [optimizer.fisher_diag(p) for p in model.parameters()]
    ratio = (torch.stack([f.max() for f in fishers]).max() / torch.stack([f.min() for f in fishers]).min()).item()
    assert ratio == pytest.approx(bound) if numerics == "paper" else 1 <= ratio < bound
