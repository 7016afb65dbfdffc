"""Shampoo against the float64 oracle, over whole trajectories."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from optimizers import REGISTRY, Shampoo
from optimizers.shampoo import GRAFTINGS
from tests.oracles.shampoo import Array, Options, Rules, ShampooOracle

STEPS = 30
LABELS = 3
TOLERANCE = 1e-9  # float64: the round-off of small eigenvalues is 1e-16 / damping of a root; up to 7e-11 was seen
FLOAT32_TOLERANCE = 5e-3  # float32: the same, 1e-7 / damping, in some of 30 steps; up to 1.3e-3 was seen
MARGIN = 1e-2  # the least that a mutant differs by; 5e-2 was seen


@dataclass(frozen=True)
class Net:
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]  # of one sample


def mlp(width: int = 7) -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, width), nn.Tanh(), nn.Linear(width, 6), nn.Tanh(), nn.Linear(6, LABELS))


def conv_net(groups: int = 1) -> nn.Sequential:
    body = [nn.Conv2d(2, 6, 3), nn.Tanh(), nn.Conv2d(6, 9 * groups, (1, 2), groups=groups), nn.Tanh(), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(9 * groups * 3, LABELS, bias=False))


def with_norm() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, LABELS))


def narrow() -> nn.Sequential:
    """Dimensions of 1 on either side."""
    return nn.Sequential(nn.Linear(5, 1), nn.Linear(1, 11), nn.Tanh(), nn.Linear(11, LABELS))


class Scaled(nn.Module):
    """A scalar, and a tensor of three dimensions of which one sample uses a part."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.tensor = nn.Parameter(torch.randn(3, 5, LABELS))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bi,kil->bl", x, self.tensor) * self.scale


NETS = {
    "mlp": Net(mlp, (5,)),
    "mlp-on-sequences": Net(mlp, (4, 5)),
    "wide": Net(lambda: mlp(41), (5,)),
    "conv": Net(conv_net, (2, 5, 4)),
    "conv-grouped": Net(lambda: conv_net(3), (2, 5, 4)),
    "layer-norm": Net(with_norm, (5,)),
    "narrow": Net(narrow, (5,)),
    "scalar-and-tensor": Net(Scaled, (5,)),
}


def batches(net: Net, num_steps: int) -> list[tuple[Tensor, Tensor]]:
    """Features differ in scale, so that there is a curvature to find."""
    generator = torch.Generator().manual_seed(1)
    scales = torch.logspace(-1, 0.5, net.shape[-1], dtype=torch.float64)
    return [
        (
            torch.randn(16, *net.shape, generator=generator, dtype=torch.float64) * scales,
            torch.randint(LABELS, (16,), generator=generator),
        )
        for _ in range(num_steps)
    ]


def cross_entropy(output: Tensor, labels: Tensor) -> Tensor:
    """Every position of a sequence has its sample's label."""
    labels = labels.reshape(-1, *[1] * (output.dim() - 2)).expand(output.shape[:-1])
    return F.cross_entropy(output.flatten(0, -2), labels.flatten())


def relative_difference(actual: Tensor, expected: Array) -> float:
    difference = np.abs(actual.detach().double().numpy() - expected).max()
    return float(difference / np.abs(expected).max())


def follow(net: Net, model: nn.Module, optimizer: Shampoo, oracle: ShampooOracle, num_steps: int) -> float:
    """Train both and return the largest relative difference of a parameter."""
    dtype = next(model.parameters()).dtype
    for x, y in batches(net, num_steps):
        optimizer.zero_grad()
        cross_entropy(model(x.to(dtype)), y).backward()
        optimizer.step()
        oracle.step(oracle.gradients(lambda forward: cross_entropy(forward(x), y)))  # noqa: B023
    return max(relative_difference(p, oracle.memories[name].theta) for name, p in model.named_parameters())


def compare(
    net: Net,
    rules: Rules = Rules(block_size=4, update_interval=5),  # noqa: B008 (frozen)
    options: Options = Options(),  # noqa: B008
    *,
    dtype: torch.dtype = torch.float64,
    num_steps: int = STEPS,
) -> float:
    torch.manual_seed(0)
    model = net.build().to(dtype)
    oracle = ShampooOracle(model, rules, lambda name: options)
    return follow(net, model, Shampoo(model, **asdict(rules), **asdict(options)), oracle, num_steps)


@pytest.mark.parametrize("block_size", [256, 4, 3, 1])
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_parameters_follow_the_oracle(net, block_size):
    assert compare(net, Rules(block_size=block_size, update_interval=5)) <= TOLERANCE


SETTINGS = {
    "adam-grafting": {"rules": {"grafting": "adam"}, "options": {"lr": 1e-2}},
    "no-grafting": {"rules": {"grafting": "none"}, "options": {"lr": 1e-2}},
    "no-grafting-at-the-start": {"rules": {"grafting": "none", "update_interval": 1}, "options": {"lr": 1e-2}},
    "sums": {"options": {"beta2": 1.0}},
    "sums-without-grafting": {"rules": {"grafting": "none"}, "options": {"beta2": 1.0, "lr": 1e-2}},
    "sums-with-adam-grafting": {"rules": {"grafting": "adam"}, "options": {"beta2": 1.0, "lr": 1e-2}},
    "no-average": {"options": {"beta2": 0.0}},
    "weight-decay": {"options": {"weight_decay": 0.1}},
    "no-momentum": {"options": {"momentum": 0.0}},
    "damping": {"options": {"damping": 0.1}},
    "every-step": {"rules": {"update_interval": 1}},
    "by-default": {"rules": {"update_interval": 50, "block_size": 256}},
}


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("net", ["mlp", "conv"])
def test_settings(net, setting):
    rules = Rules(**{"block_size": 4, "update_interval": 5, **setting.get("rules", {})})
    assert compare(NETS[net], rules, Options(**setting.get("options", {}))) <= TOLERANCE


def test_a_long_run_with_the_defaults():
    assert compare(NETS["conv"], Rules(), num_steps=110) <= TOLERANCE


@pytest.mark.parametrize("grafting", GRAFTINGS)
def test_param_groups(grafting):
    of_weights = {"lr": 0.02, "momentum": 0.5, "damping": 1e-3, "weight_decay": 0.1}
    torch.manual_seed(0)
    model = conv_net().double()
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], **of_weights},
        {"params": [p for p in model.parameters() if p.dim() == 1], "lr": 0.01, "beta2": 0.9},
    ]
    rules = Rules(block_size=4, update_interval=5, grafting=grafting)
    weights, biases = Options(**of_weights), Options(lr=0.01, beta2=0.9)
    oracle = ShampooOracle(model, rules, lambda name: weights if "weight" in name else biases)
    optimizer = Shampoo(model, params=groups, **asdict(rules))
    assert follow(NETS["conv"], model, optimizer, oracle, STEPS) <= TOLERANCE


@pytest.mark.parametrize("net", ["mlp", "conv", "layer-norm"])
def test_float32_model(net):
    assert compare(NETS[net], dtype=torch.float32) <= FLOAT32_TOLERANCE


def test_bfloat16_parameters_have_float32_statistics():
    model = mlp().bfloat16()
    optimizer = Shampoo(model)
    cross_entropy(model(torch.randn(4, 5).bfloat16()), torch.zeros(4, dtype=torch.long)).backward()
    optimizer.step()
    state = optimizer.state[model[0].weight]
    assert state["momentum_buffer"].dtype == torch.bfloat16
    assert {value.dtype for name, value in state.items() if name != "momentum_buffer"} == {torch.float32}


PLAIN = Rules(block_size=4, update_interval=5)


def mutant(**replaced: object) -> Rules:
    """Return rules with another method, a function of self and the arguments."""
    return type("Mutant", (Rules,), replaced)(**asdict(PLAIN))


def power(exponent: float) -> Callable[..., Array]:
    def inverse_root(self: Rules, statistic: Array, damping: float) -> Array:
        vectors, eigenvalues, _ = np.linalg.svd(statistic)
        return vectors @ np.diag(self.damped(eigenvalues, damping) ** exponent) @ vectors.T

    return inverse_root


def decayed_first(self: Rules, theta: Array, direction: Array, velocity: Array, o: Options) -> tuple[Array, Array]:
    velocity = o.momentum * velocity + (1 - o.momentum) * direction + o.weight_decay * theta
    return theta - o.lr * velocity, velocity


def nesterov(self: Rules, theta: Array, direction: Array, velocity: Array, o: Options) -> tuple[Array, Array]:
    velocity = o.momentum * velocity + direction + o.weight_decay * theta
    return theta - o.lr * (direction + o.weight_decay * theta + o.momentum * velocity), velocity


class GraftedByBlock(ShampooOracle):
    def preconditioned(self, grad, memory, o):
        whole = super().preconditioned(grad, memory, o)
        for down, across in memory.sides:
            block = np.s_[down : down + 4, across : across + 4]
            whole[block] = self.rules.rescaled(whole[block], grad[block])
        return whole


class RootsBeforeStatistics(ShampooOracle):
    def follow(self, side, product, memory, o):
        if self.rules.is_due(self.num_steps) and side.statistic.any():
            corrected = self.rules.corrected(side.statistic, memory.num_averaged - 1, o.beta2)
            side.root = self.rules.inverse_root(corrected, o.damping)
        side.statistic = self.rules.average(side.statistic, product, o.beta2)


class StatisticsOfRenewalsAlone(ShampooOracle):
    def follow(self, side, product, memory, o):
        if self.rules.is_due(self.num_steps):
            super().follow(side, product, memory, o)


MUTANTS = {
    "exponent-1/2": mutant(inverse_root=power(-1 / 2)),
    "exponent-1/8": mutant(inverse_root=power(-1 / 8)),
    "roots-never-renewed": mutant(is_due=lambda self, num_steps: num_steps == 0),
    "roots-renewed-too-often": mutant(is_due=lambda self, num_steps: True),
    "damping-absolute": mutant(damped=lambda self, eigenvalues, damping: eigenvalues + damping),
    "damping-of-the-mean": mutant(damped=lambda self, eigenvalues, d: eigenvalues + d * eigenvalues.mean()),
    "left-alone": mutant(direction=lambda self, left, grad, right: left @ grad),
    "right-alone": mutant(direction=lambda self, left, grad, right: grad @ right),
    "vectors-by-sgd": mutant(diagonal=lambda self, grad, square, damping: grad),
    "vectors-by-the-fourth-root": mutant(diagonal=lambda self, grad, v, d: grad / self.damped(v, d) ** 0.25),
    "sums-for-averages": mutant(average=lambda self, old, new, beta2: old + new),
    "no-graft": mutant(graft=lambda self, direction, grad, square: direction),
    "graft-of-the-sign": mutant(grafted=lambda self, grad, square: np.sign(grad)),
    "dampened-momentum": mutant(moved=decayed_first),
    "nesterov": mutant(moved=nesterov),
}
WRONG_ORACLES = [GraftedByBlock, RootsBeforeStatistics, StatisticsOfRenewalsAlone]


def compare_with(oracle_class: type[ShampooOracle], rules: Rules, options: Options) -> float:
    torch.manual_seed(0)
    net = Net(lambda: nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, LABELS)), (8,))
    model = net.build().double()
    optimizer = Shampoo(model, **asdict(rules), **asdict(options))
    return follow(net, model, optimizer, oracle_class(model, rules, lambda name: options), 12)


MUTATED = Options(damping=1e-3, beta2=0.9, weight_decay=0.01)


@pytest.mark.parametrize("rules", MUTANTS.values(), ids=MUTANTS)
def test_mutants_of_the_oracle_differ(rules):
    """Where one does not, the comparison is blind to its error."""
    assert compare_with(ShampooOracle, rules, MUTATED) >= MARGIN


@pytest.mark.parametrize("oracle_class", WRONG_ORACLES)
def test_other_orders_of_the_oracle_differ(oracle_class):
    assert compare_with(oracle_class, PLAIN, MUTATED) >= MARGIN


@pytest.mark.parametrize("block_size", [3, 256])
def test_other_blocks_of_the_oracle_differ(block_size):
    torch.manual_seed(0)
    model = mlp(40).double()
    optimizer = Shampoo(model, **asdict(PLAIN))
    oracle = ShampooOracle(model, Rules(block_size=block_size, update_interval=5), lambda name: Options())
    assert follow(NETS["mlp"], model, optimizer, oracle, 12) >= MARGIN


def test_a_missing_bias_correction_differs():
    """It changes the scale alone, which grafting takes away."""
    rules = type("Mutant", (Rules,), {"corrected": lambda self, average, num_averaged, beta2: average})
    options = Options(lr=1e-2, beta2=0.9)
    assert compare_with(ShampooOracle, rules(grafting="none", update_interval=5), options) >= MARGIN


def test_an_unchanged_mutant_agrees():
    assert compare_with(ShampooOracle, mutant(), MUTATED) <= TOLERANCE


def test_two_steps_are_the_papers_algorithm():
    """Gupta et al., Algorithm 1: one block, sums, no momentum; the powers by scipy, ε I as relative damping."""
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(5, 7, generator=generator, dtype=torch.float64))
    model = nn.Module()
    model.weight = weight
    expected = weight.detach().numpy().copy()
    options = {"grafting": "none", "beta2": 1.0, "momentum": 0.0, "update_interval": 1}
    optimizer = Shampoo(model, lr=0.3, damping=1e-3, block_size=8, **options)
    left, right = np.zeros((5, 5)), np.zeros((7, 7))
    for _ in range(2):
        grad = torch.randn(5, 7, generator=generator, dtype=torch.float64)
        weight.grad = grad
        optimizer.step()
        left, right = left + grad.numpy() @ grad.numpy().T, right + grad.numpy().T @ grad.numpy()
        roots = [
            scipy.linalg.fractional_matrix_power(m + 1e-3 * np.linalg.norm(m, 2) * np.eye(len(m)), -1 / 4)
            for m in (left, right)
        ]
        expected = expected - 0.3 * roots[0] @ grad.numpy() @ roots[1]
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("grafting", ["sgd", "adam"])
def test_a_step_is_as_long_as_that_of_the_grafted_method(grafting):
    torch.manual_seed(0)
    model, twin = mlp(), mlp()
    twin.load_state_dict(model.state_dict())
    reference = {
        "sgd": lambda: torch.optim.SGD(twin.parameters(), lr=0.1),
        "adam": lambda: torch.optim.Adam(twin.parameters(), lr=0.1, betas=(0.0, 0.99)),
    }[grafting]()
    optimizer = Shampoo(model, lr=0.1, grafting=grafting, momentum=0.0)
    for x, y in batches(NETS["mlp"], 3):
        twin.load_state_dict(model.state_dict())
        before = [p.detach().clone() for p in model.parameters()]
        for each, by in ((model, optimizer), (twin, reference)):
            by.zero_grad()
            cross_entropy(each(x.float()), y).backward()
            by.step()
        for p, q, b in zip(model.parameters(), twin.parameters(), before, strict=True):
            torch.testing.assert_close((p - b).norm(), (q - b).norm(), rtol=1e-3, atol=1e-6)


def test_defaults_of_class_and_config_agree():
    model = mlp()
    by_spec = REGISTRY["shampoo"].build(model, REGISTRY["shampoo"].configure())
    assert by_spec._config == Shampoo(model)._config


@pytest.mark.parametrize(
    ("option", "value", "rule"),
    [
        ("grafting", "rmsprop", "one of sgd, adam, none"),
        ("block_size", 0, "a whole number >= 1"),
        ("block_size", 2.5, "a whole number >= 1"),
        ("update_interval", 0, "a whole number >= 1"),
        ("beta2", 1.1, r"in \[0, 1\]"),
        ("momentum", 1.0, r"in \[0, 1\)"),
        ("damping", 0.0, "finite and > 0"),
    ],
)
def test_refuses_bad_options(option, value, rule):
    with pytest.raises(ValueError, match=f"{option} must be {rule}, but got"):
        Shampoo(mlp(), **{option: value})
