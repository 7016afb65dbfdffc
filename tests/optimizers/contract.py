"""What the contract tests share: the optimizers that they range over, one batch, the training loop, comparisons."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from optimizers import REGISTRY, OptimizerSpec
from tests.optimizers.contract_networks import CLASSES, layer_norm_net

ROUND_OFF = 1e-9  # float64: two orders of summation, through some steps of a method that may divide by small numbers

# Where a default learning rate is too small or large to show progress in 60 steps; else the configuration's own.
LEARNING_RATES = {"sgd": 0.05, "adam": 0.01, "adamw": 0.01}

# The first is AdaFisher's, expected on these networks; the second torch says whenever `create_graph` is on.
quiet = [
    pytest.mark.filterwarnings("ignore:these parameters take the identity factor"),
    pytest.mark.filterwarnings(r"ignore:Using backward\(\) with create_graph=True"),
]


def build(spec: OptimizerSpec, model: nn.Module, **hyperparameters: object) -> Optimizer:
    return spec.build(model, spec.configure(**hyperparameters))


def learning_rate(spec: OptimizerSpec) -> float:
    return LEARNING_RATES.get(spec.name, spec.configure().lr)


def is_own(spec: OptimizerSpec) -> bool:
    """Return whether the class is ours; torch's own do as torch does."""
    return not kind(spec).__module__.startswith("torch.")


def kind(spec: OptimizerSpec) -> type[Optimizer]:
    return type(build(spec, nn.Linear(1, 1)))


def parametrize(specs: list[OptimizerSpec]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("spec", specs, ids=[spec.name for spec in specs])


every_optimizer = parametrize(list(REGISTRY.values()))
every_own_optimizer = parametrize([spec for spec in REGISTRY.values() if is_own(spec)])
every_class_of_our_own = parametrize(list({kind(spec): spec for spec in REGISTRY.values() if is_own(spec)}.values()))
every_torch_optimizer = parametrize([spec for spec in REGISTRY.values() if not is_own(spec)])


def every_optimizer_but(
    exceptions: Mapping[str, str], *, raises: type[Exception], create_graph: str = ""
) -> pytest.MarkDecorator:
    """Parametrize over all optimizers; the exceptions must fail, in this way.

    Args:
        exceptions: By name of an optimizer, why it does not owe what the test asks for.
        raises: How the test fails for them.
        create_graph: Why no optimizer with a double backward owes it; empty where they do.
    """

    def marks(spec: OptimizerSpec) -> list[pytest.MarkDecorator]:
        reason = exceptions.get(spec.name, create_graph if spec.create_graph else "")
        return [pytest.mark.xfail(reason=reason, raises=raises, strict=True)] if reason else []

    specs = [pytest.param(spec, marks=marks(spec), id=name) for name, spec in REGISTRY.items()]
    return pytest.mark.parametrize("spec", specs)


def batch(like: Tensor) -> tuple[Tensor, Tensor]:
    """Return 24 inputs, of the dtype and on the device of ``like``, and their classes."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(24, 6, dtype=like.dtype, generator=generator)
    return inputs.to(like.device), inputs[:, :CLASSES].argmax(1).to(like.device)


def loss_of(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model(inputs), targets)


def backward(spec: OptimizerSpec, loss: Tensor) -> None:
    loss.backward(create_graph=spec.create_graph)


def train(
    spec: OptimizerSpec,
    model: nn.Module,
    optimizer: Optimizer,
    num_steps: int,
    *,
    size: int = 24,
    num_micro_batches: int = 1,
    clears: Literal["optimizer", "model"] = "optimizer",
) -> Tensor:
    """Train on the batch and return the losses.

    Args:
        spec: The optimizer's.
        model: What computes; may be a wrapper of the model that the optimizer was built for.
        optimizer: What moves the parameters.
        num_steps: How often.
        size: How many samples of the batch.
        num_micro_batches: Into how many parts of the batch a step is divided, with a loss each.
        clears: Whose ``zero_grad`` clears the gradients.
    """
    like = next(param for param in model.parameters() if param.requires_grad)
    inputs, targets = (part[:size].chunk(num_micro_batches) for part in batch(like))
    losses = []
    for _ in range(num_steps):
        (optimizer if clears == "optimizer" else model).zero_grad()
        for x, y in zip(inputs, targets, strict=True):
            loss = loss_of(model, x, y) / num_micro_batches
            loss.backward(create_graph=spec.needs_graph(optimizer))
            losses.append(loss.detach())
        optimizer.step()
    return torch.stack(losses) if losses else torch.empty(0)


def parameters(model: nn.Module) -> dict[str, Tensor]:
    """Return copies."""
    return {name: param.detach().clone() for name, param in model.named_parameters()}


def assert_moved(model: nn.Module, before: Mapping[str, Tensor]) -> None:
    """Every trained parameter is another one than before, unless its gradient is round-off; the others are the same."""
    for name, param in model.named_parameters():
        if param.requires_grad:
            is_round_off = param.grad.abs().max() < 1e-6  # a bias before a norm, and attention's key bias
            assert is_round_off or not torch.equal(param, before[name]), name
        else:
            assert torch.equal(param, before[name]), name


def assert_same(actual: object, expected: object, tolerance: float = 0.0, *, where: str = "") -> None:
    """Compare states, parameters or losses: equal structure, and tensors equal to a tolerance."""
    assert type(actual) is type(expected), where
    if isinstance(expected, Mapping):
        assert actual.keys() == expected.keys(), where
        for key, value in expected.items():
            assert_same(actual[key], value, tolerance, where=f"{where}[{key!r}]")
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected), where
        for index, value in enumerate(expected):
            assert_same(actual[index], value, tolerance, where=f"{where}[{index}]")
    elif isinstance(expected, Tensor):
        torch.testing.assert_close(
            actual, expected, rtol=tolerance, atol=tolerance, msg=lambda message: f"{where}: {message}"
        )
    else:
        assert actual == expected, where


def twins(
    spec: OptimizerSpec, network: Callable[[], nn.Module], *, num_steps: int = 0
) -> list[tuple[nn.Module, Optimizer]]:
    """Return two equal models with their optimizers, each trained for some steps."""
    model = network()
    pairs = [(twin, build(spec, twin)) for twin in (model, copy.deepcopy(model))]
    for twin, optimizer in pairs:
        train(spec, twin, optimizer, num_steps)
    return pairs


@contextmanager
def no_trace(spec: OptimizerSpec) -> Iterator[tuple[nn.Module, Optimizer]]:
    """Give a model and its optimizer, between backward and step; what is done to it within must change nothing."""
    pairs = twins(spec, layer_norm_net, num_steps=2)
    for model, optimizer in pairs:
        optimizer.zero_grad()
        backward(spec, loss_of(model, *batch(model[0].weight)))
    yield pairs[0]
    for _, optimizer in pairs:
        optimizer.step()
    after = [(parameters(model), optimizer.state_dict()) for model, optimizer in pairs]
    assert_same(*after)
