"""AdaFisher's paper numerics against the float64 oracle, and a step worked out by hand."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from optimizers import AdaFisher, AdaFisherW
from tests.oracles.adafisher import (
    AdaFisherOracle,
    Factors,
    Numerics,
    Options,
    PaperNumerics,
)
from tests.oracles.network import DENSE, NORMALIZATIONS, Network, Use, normalize

STEPS = 50
LABELS = 3
TOLERANCE = 1e-10  # float64: the two sum in different orders; up to 3e-13 was seen
FLOAT32_TOLERANCE = 2e-5  # float32's eps, 1.2e-7, in each of 50 steps, times 3 for its way through F̃ and the loss

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # layers without a rule are named in a warning


@dataclass(frozen=True)
class Net:
    build: Callable[[], nn.Sequential]
    shape: tuple[int, ...]  # of one sample
    num_tokens: int = 0  # 0: the inputs are real numbers


def mlp(*, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 7, bias), nn.ReLU(), nn.Linear(7, 6, bias), nn.ReLU(), nn.Linear(6, LABELS, bias))


def cnn(conv: nn.Module, shape: tuple[int, ...]) -> nn.Sequential:
    """The activation works in place."""
    norm = {nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d}[type(conv)]
    following = type(conv)(conv.out_channels, 4, 2, bias=False)
    body = nn.Sequential(conv, norm(conv.out_channels), nn.ReLU(inplace=True), following, nn.Flatten())
    return body.append(nn.Linear(body(torch.zeros(2, *shape)).shape[1], LABELS))


def conv_net(kind: type[nn.Module] = nn.Conv2d, *, out_channels: int = 6, kernel_size: int = 3, **options) -> Net:
    """On inputs of 4 channels."""
    shape = {nn.Conv1d: (4, 9), nn.Conv2d: (4, 6, 6), nn.Conv3d: (4, 4, 4, 5)}[kind]
    return Net(lambda: cnn(kind(4, out_channels, kernel_size, **options), shape), shape)


def reused() -> nn.Sequential:
    twice = nn.Linear(6, 6)
    return nn.Sequential(nn.Linear(5, 6), twice, nn.ReLU(), twice, nn.ReLU(), nn.Linear(6, LABELS))


def tied() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, LABELS))
    net[4].weight = net[2].weight
    return net


def tied_embedding(padding_idx: int | None = None) -> nn.Sequential:
    """Unless layers="all", the embedding has no rule: it counts as ones in the mean over uses."""
    net = nn.Sequential(nn.Embedding(8, 6, padding_idx), nn.LayerNorm(6), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 8))
    net[4].weight = net[0].weight
    return net


def frozen() -> nn.Sequential:
    net = mlp()
    net[2].weight.requires_grad_(False)
    return net


NETS = {
    "mlp": Net(mlp, (5,)),
    "mlp-without-bias": Net(lambda: mlp(bias=False), (5,)),
    "mlp-on-sequences": Net(mlp, (4, 5)),
    "mlp-with-frozen-weight": Net(frozen, (5,)),
    "identity-for-prelu": Net(lambda: nn.Sequential(nn.Linear(5, 6), nn.PReLU(6), nn.Linear(6, LABELS)), (5,)),
    "conv-grouped": conv_net(padding=1, groups=2),
    "layernorm-on-sequences": Net(lambda: nn.Sequential(nn.LayerNorm(5), *mlp()), (4, 5)),
    "module-used-twice": Net(reused, (5,)),
    "module-used-twice-on-sequences": Net(reused, (4, 5)),
    "tied-linear": Net(tied, (5,)),
    "tied-embedding": Net(tied_embedding, (3,), num_tokens=8),
}

Batches = list[list[tuple[Tensor, Tensor]]]  # micro-batches of every step


def make_batches(net: Net, num_steps: int, *, sizes: Sequence[int] = (16,), num_micro: Sequence[int] = (1,)) -> Batches:
    """Sizes and numbers of micro-batches cycle; features differ in scale, as H' would be noise otherwise."""
    generator = torch.Generator().manual_seed(1)

    def sample(size: int) -> tuple[Tensor, Tensor]:
        labels = torch.randint(LABELS, (size,), generator=generator)
        if net.num_tokens:
            return torch.randint(net.num_tokens, (size, *net.shape), generator=generator), labels
        return torch.randn(size, *net.shape, generator=generator) * torch.linspace(0.5, 2, net.shape[-1]) + 0.1, labels

    return [
        [sample(sizes[step % len(sizes)]) for _ in range(num_micro[step % len(num_micro)])] for step in range(num_steps)
    ]


def cross_entropy(output: Tensor, labels: Tensor, reduction: str) -> Tensor:
    """Every position of a sequence has its sample's label."""
    labels = labels.reshape(-1, *[1] * (output.dim() - 2)).expand(output.shape[:-1])
    return F.cross_entropy(output.flatten(0, -2), labels.flatten(), reduction=reduction)


def relative_difference(actual: Tensor, expected: Tensor) -> Tensor:
    return (actual.detach().double() - expected.detach()).abs().max() / expected.detach().abs().max()


def train_beside(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    oracle: Network,
    batches: Batches,
    reduction: str,
    scale: float = 1.0,
) -> list[Tensor]:
    """Train a model and its oracle, and return the relative difference of each parameter."""
    dtype = next(model.parameters()).dtype
    for micro_batches in batches:
        weight = scale / len(micro_batches) if reduction == "mean" else scale
        optimizer.zero_grad()
        for x, y in micro_batches:
            output = model(x.to(dtype) if x.is_floating_point() else x)
            (weight * cross_entropy(output, y, reduction)).backward()
        optimizer.step()
        oracle.step(micro_batches, lambda output, y: weight * cross_entropy(output, y, reduction))  # noqa: B023
    return [relative_difference(param, oracle.params[name]) for name, param in model.named_parameters()]


def worst_difference(
    model: nn.Module, optimizer: AdaFisher, oracle: AdaFisherOracle, batches: Batches, *, scale: float = 1.0
) -> float:
    """Train both; the largest relative difference of a parameter, and of the last F̃ of a trained one."""
    differences = train_beside(model, optimizer, oracle, batches, oracle.numerics.loss_reduction, scale)
    params = dict(model.named_parameters())
    differences += [
        relative_difference(optimizer.fisher_diag(params[n]), oracle.fisher_diag(n)) for n in oracle.trainable
    ]
    return torch.stack(differences).max().item()  # torch's maximum is NaN if one is


def compare(
    net: Net,
    numerics: Numerics = PaperNumerics(),  # noqa: B008 (frozen)
    options: Options = Options(lr=2e-4),  # noqa: B008
    *,
    decoupled: bool = False,
    square_root: bool = False,
    dtype: torch.dtype = torch.float64,
    num_steps: int = STEPS,
    sizes: Sequence[int] = (16,),
    num_micro: Sequence[int] = (1,),
) -> float:
    torch.manual_seed(0)
    model = net.build().to(dtype)
    settings = {**asdict(numerics), **asdict(options), "numerics": numerics.name, "square_root": square_root}
    oracle = AdaFisherOracle(model, numerics, lambda name: options, decoupled, square_root)
    optimizer = (AdaFisherW if decoupled else AdaFisher)(model, **settings)
    return worst_difference(model, optimizer, oracle, make_batches(net, num_steps, sizes=sizes, num_micro=num_micro))


def check_oracle_forward(net: Net) -> None:
    model = net.build().double()
    x = make_batches(net, 1)[0][0][0]
    expected = model(x.double() if x.is_floating_point() else x)
    torch.testing.assert_close(AdaFisherOracle(model).forward(x)[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_oracle_forward_is_the_models(net):
    check_oracle_forward(net)


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_parameters_follow_the_oracle(net):
    assert compare(net) <= TOLERANCE


SETTINGS = {
    "gamma-0.1": {"numerics": PaperNumerics(gamma=0.1)},
    "gamma-0.99": {"numerics": PaperNumerics(gamma=0.99)},
    "damping-and-beta": {"options": Options(lr=1e-2, damping=0.05, beta=0.5)},
    "weight-decay": {"options": Options(lr=2e-4, weight_decay=0.1)},
    "decoupled": {"options": Options(lr=2e-4, weight_decay=0.1), "decoupled": True},
    "every-5-steps": {"numerics": PaperNumerics(update_interval=5)},
    "sum": {"options": Options(lr=1e-5), "numerics": PaperNumerics(loss_reduction="sum"), "sizes": (32, 8)},
    "changing-batch-size": {"sizes": (32, 8)},
    "accumulation": {"num_micro": (2,), "sizes": (16, 6)},
    "changing-accumulation": {"num_micro": (1, 3)},
    "accumulation-every-5-steps": {"num_micro": (2,), "numerics": PaperNumerics(update_interval=5)},
    "no-average": {"numerics": PaperNumerics(ema=False)},
    "no-average-every-5-steps": {"numerics": PaperNumerics(ema=False, update_interval=5)},
    "square-root": {"square_root": True},
    "square-root-decoupled": {"options": Options(weight_decay=0.1), "square_root": True, "decoupled": True},
    "identity-in-normalizations": {"numerics": PaperNumerics(layers="dense")},
    "all-ablations": {"numerics": PaperNumerics(ema=False, layers="dense"), "square_root": True},
}


@pytest.mark.parametrize("net", ["conv-grouped", "layernorm-on-sequences"])
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_settings(net, setting):
    assert compare(NETS[net], **setting) <= TOLERANCE


def mutant(base: Numerics, **replaced: object) -> Numerics:
    """The numerics with an error: attributes of their class replaced."""
    return type("Mutant", (type(base),), replaced)(**asdict(base))


def pool_groups(layer: nn.Module, factors: Factors) -> Factors:
    h, s = factors
    groups = getattr(layer, "groups", 1)
    inputs, bias = h.split([len(h) // groups * groups, len(h) % groups])
    return torch.cat([torch.stack(inputs.chunk(groups)).mean(0).repeat(groups), bias]), s


def undilate(layer: nn.Module) -> nn.Module:
    plain = copy.deepcopy(layer)
    plain.dilation = (1, 1)
    return plain


def normalize_inputs(layer: nn.Module, uses: list[Use]) -> list[Use]:
    return [(normalize(layer, h), s) if isinstance(layer, NORMALIZATIONS) else (h, s) for h, s in uses]


def set_bias_apart(layer: nn.Module, h: Tensor, s: Tensor) -> Factors:
    num_inputs = len(h) - isinstance(layer, DENSE) * (layer.bias is not None)
    return torch.cat([PAPER.minmax(h[:num_inputs]), torch.ones_like(h[num_inputs:])]), PAPER.minmax(s)


PAPER, DAMPING = PaperNumerics(), Options().damping
DILATED = conv_net(padding=2, dilation=2, groups=2)
MARGIN = 1e-4  # the least that a mutant differs by; 1e-2 was seen
MUTANTS = {
    "gamma-on-the-old-factor": {"average": lambda self, old, new: PAPER.average(new, old)},
    "min-max-before-the-average": {
        "average": lambda self, old, new: PAPER.average(old, PAPER.minmax(new)),
        "primes": lambda self, layer, h, s: (h, s),
    },
    "min-max-by-the-maximum-alone": {"minmax": lambda self, m: m / m.max()},
    "damping-inside-min-max": {"minmax": lambda self, m: (m - m.min()) / (m.max() - m.min() + DAMPING)},
    "damping-of-each-factor": {"minmax": lambda self, m: PAPER.minmax(m) + DAMPING**0.5},
    "square-root": {
        "diagonal": lambda self, *layer: {k: (d + DAMPING) ** 0.5 - DAMPING for k, d in PAPER.diagonal(*layer).items()}
    },
    "groups-pooled": {"new": lambda self, layer, uses: pool_groups(layer, PAPER.new(layer, uses))},
    "dilation-ignored": {"new": lambda self, layer, uses: PAPER.new(undilate(layer), uses)},
    "no-bias-coordinate": {"primes": lambda self, *layer: set_bias_apart(*layer)},
    "normalized-input": {"new": lambda self, layer, uses: PAPER.new(layer, normalize_inputs(layer, uses))},
    "gradients-not-times-rows": {"new": lambda self, *layer: PaperNumerics(loss_reduction="sum").new(*layer)},
    "normalizations-without-rule": {"has_rule": lambda self, layer: isinstance(layer, DENSE)},
}


@pytest.mark.parametrize("replaced", MUTANTS.values(), ids=MUTANTS)
def test_mutants_of_the_oracle_differ(replaced):
    """Where one does not, the comparison is blind to its error."""
    assert compare(DILATED, mutant(PAPER, **replaced), num_steps=10, sizes=(16, 6)) >= MARGIN


def test_an_unchanged_mutant_agrees():
    assert compare(DILATED, mutant(PAPER), num_steps=10, sizes=(16, 6)) <= TOLERANCE


@pytest.mark.parametrize(("net", "size"), [(Net(mlp, (700, 5)), 30), (conv_net(groups=2), 700)], ids=["mlp", "conv"])
def test_large_batches(net, size):
    """Inputs of 100,000 entries: the optimizer sums such in blocks."""
    assert compare(net, num_steps=5, sizes=(size,)) <= TOLERANCE


@pytest.mark.parametrize("net", ["mlp", "conv-grouped", "layernorm-on-sequences", "tied-embedding"])
def test_float32_model(net):
    assert compare(NETS[net], dtype=torch.float32) <= FLOAT32_TOLERANCE


def test_small_gradients_do_not_drown_in_float32():
    """At γ = 0.1 they would for long in factors that started at ones: s is 1000 times smaller here."""
    torch.manual_seed(0)
    model = mlp()
    oracle, optimizer = AdaFisherOracle(model, PaperNumerics(gamma=0.1)), AdaFisher(model, gamma=0.1)
    batches = make_batches(NETS["mlp"], STEPS)
    assert worst_difference(model, optimizer, oracle, batches, scale=1e-3) <= FLOAT32_TOLERANCE


@pytest.mark.parametrize("cls", [AdaFisher, AdaFisherW])
def test_param_groups(cls):
    weights, biases = Options(weight_decay=0.1), Options(lr=3e-3, beta=0.5, damping=1e-2)
    torch.manual_seed(0)
    model = mlp().double()
    groups = [
        {"params": [p for p in model.parameters() if p.dim() == 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() == 1], "lr": 3e-3, "beta": 0.5, "damping": 1e-2},
    ]
    oracle = AdaFisherOracle(
        model, options=lambda name: weights if "weight" in name else biases, decoupled_weight_decay=cls is AdaFisherW
    )
    assert worst_difference(model, cls(model, params=groups), oracle, make_batches(NETS["mlp"], STEPS)) <= TOLERANCE


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_constant_input_factor_counts_as_ones(dtype):
    """Every feature is 0.1: H would be 0 / 0, or round-off blown up to [0, 1]."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4, bias=False), nn.ReLU(), nn.Linear(4, LABELS)).to(dtype)
    oracle, optimizer = AdaFisherOracle(model), AdaFisher(model)
    batches = [[(torch.full((33, 5), 0.1), y[:33])] for ((_, y),) in make_batches(NETS["mlp"], STEPS, sizes=(40,))]
    tolerance = TOLERANCE if dtype is torch.float64 else FLOAT32_TOLERANCE
    assert worst_difference(model, optimizer, oracle, batches) <= tolerance
    fisher = optimizer.fisher_diag(model[0].weight)
    assert torch.equal(fisher, fisher[:, :1].expand(-1, 5))
    assert (fisher.min().item(), fisher.max().item()) == pytest.approx((1e-3, 1.001))


@pytest.mark.parametrize("scale", [1.0, 0.0], ids=["one-output", "no-gradient"])
def test_constant_output_factor_counts_as_ones(scale):
    """S has one entry, or nothing but zeros."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 1 if scale else 2)).double()
    optimizer = AdaFisher(model, damping=0.5)
    x = torch.randn(16, 5, dtype=torch.float64)
    (scale * model(x)).sum().backward()
    optimizer.step()
    squares = torch.cat([x.square().mean(0), x.new_ones(1)])
    expected = (squares - squares.min()) / (squares.max() - squares.min()) + 0.5
    torch.testing.assert_close(optimizer.fisher_diag(model[0].weight), expected[:5].expand_as(model[0].weight))
    torch.testing.assert_close(optimizer.fisher_diag(model[0].bias), expected[5:].expand_as(model[0].bias))


def test_two_steps_by_hand():
    """2 x 2 weights, λ = 1/4, γ = 1/3, β = 1/2, α = 0.3, and the linear loss mean(v·a), so that N s = v.

    Step 1: x = (1, 2), (3, 0), hence H = (5, 2, 1) γ and H' = (1, 1/4, 0); v = (1, 2), (3, 0), hence S' = (1, 0).
            F̃ = [[5/4, 1/2], [1/4, 1/4]], bias [1/4, 1/4]; g = [[5, 1], [1, 2]], bias [2, 1]; m̂ = g.
    Step 2: x = (0, 1), hence H = (0, 1, 1) / 3 + (5, 2, 1) 2/9 = (10, 7, 5) / 9 and H' = (1, 2/5, 0); v = (0, 1), hence
            S = (0, 1) / 3 + (5, 2) 2/9 = (10, 7) / 9 and S' = (1, 0); F̃ = [[5/4, 13/20], [1/4, 1/4]], bias [1/4, 1/4];
            g = [[0, 0], [0, 1]], bias [0, 1]; m̂ = (g_1 / 4 + g / 2) / (3/4) = [[5/3, 1/3], [1/3, 4/3]], bias [2/3, 1].
    """
    model = nn.Sequential(nn.Linear(2, 2)).double()
    weight, bias = model[0].weight, model[0].bias
    model.load_state_dict({"0.weight": torch.tensor([[1.0, 2], [3, 4]]), "0.bias": torch.zeros(2)})
    optimizer = AdaFisher(model, lr=0.3, beta=1 / 2, gamma=1 / 3, damping=1 / 4)
    oracle = AdaFisherOracle(model, PaperNumerics(gamma=1 / 3), lambda name: Options(lr=0.3, beta=1 / 2, damping=1 / 4))

    def step(x: list[list[float]], v: list[list[float]]) -> None:
        batch = torch.tensor(x).double(), torch.tensor(v).double()
        optimizer.zero_grad()
        (model(batch[0]) * batch[1]).sum(1).mean().backward()
        optimizer.step()
        oracle.step([batch], lambda a, v: (a * v).sum(1).mean())

    def check(actual: Tensor, by_oracle: Tensor, expected: list) -> None:
        expected = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(by_oracle.detach(), expected)
        torch.testing.assert_close(actual.detach(), expected)

    step([[1, 2], [3, 0]], [[1, 2], [3, 0]])
    check(optimizer.fisher_diag(weight), oracle.fisher_diag("0.weight"), [[5 / 4, 1 / 2], [1 / 4, 1 / 4]])
    check(optimizer.fisher_diag(bias), oracle.fisher_diag("0.bias"), [1 / 4, 1 / 4])
    check(weight, oracle.params["0.weight"], [[1 - 1.2, 2 - 0.6], [3 - 1.2, 4 - 2.4]])
    check(bias, oracle.params["0.bias"], [-2.4, -1.2])

    step([[0, 1]], [[0, 1]])
    check(optimizer.fisher_diag(weight), oracle.fisher_diag("0.weight"), [[5 / 4, 13 / 20], [1 / 4, 1 / 4]])
    check(weight, oracle.params["0.weight"], [[-0.2 - 0.4, 1.4 - 2 / 13], [1.8 - 0.4, 1.6 - 1.6]])
    check(bias, oracle.params["0.bias"], [-2.4 - 0.8, -1.2 - 1.2])
