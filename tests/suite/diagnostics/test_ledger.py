"""The ledger of a step's memory: by hand, against the allocator's own count, and with steps that take more."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Optimizer
from torch.profiler import ProfilerActivity, profile

from optimizers import REGISTRY
from suite.diagnostics import ledger
from suite.workloads import digits

Assembly = tuple[nn.Module, Optimizer, Callable[[], object], tuple[Tensor, Tensor]]
LEVELS = {
    name: len(getattr(spec.build(nn.Linear(1, 1), spec.configure()), "refresh_intervals", ()))
    for name, spec in REGISTRY.items()
}
FEW = 4096  # bytes
pytestmark = [
    pytest.mark.filterwarnings("ignore:these parameters take the identity factor"),  # of norms, under Eva
    pytest.mark.filterwarnings("ignore:Using backward"),
]


def assemble(name: str, num_samples: int = 32, device: str = "cpu") -> Assembly:
    """Return the network of digits with an optimizer, a step of theirs, and what it trains on."""
    spec = REGISTRY[name]
    torch.manual_seed(0)
    model = digits.build_model().to(device)
    optimizer = spec.build(model, spec.configure())
    inputs, targets = torch.randn(num_samples, 1, 8, 8, device=device), torch.arange(num_samples, device=device) % 10

    def step() -> None:
        optimizer.zero_grad()
        has_graph = spec.needs_graph(optimizer)
        with sdpa_kernel(SDPBackend.MATH) if has_graph else nullcontext():
            loss = cross_entropy(model(inputs), targets)
            loss.backward(create_graph=has_graph)
            optimizer.step()

    return model, optimizer, step, (inputs, targets)


def linear(num_samples: int, size: int, more: Callable[[], object] = lambda: None, **options: float) -> ledger.Ledger:
    """Return the ledger of a linear layer without bias, and a sigmoid, under SGD."""
    model = nn.Linear(size, size, bias=False)
    optimizer = SGD(model.parameters(), lr=0.1, **options)
    inputs = torch.randn(num_samples, size)

    def step() -> None:
        optimizer.zero_grad()
        extra = more()
        loss = model(inputs).sigmoid().sum()
        del extra
        loss.backward()
        optimizer.step()

    return ledger.measure(model, optimizer, step, batch=[inputs])


def test_peak_in_the_optimizer_by_hand() -> None:
    found = linear(1, 100, momentum=0.9, weight_decay=0.1)
    matrix = 4 * 100 * 100
    assert found.parameters == found.gradients == found.optimizer_state == matrix
    assert found.activations == 4 * 100 + 4  # the batch and the loss
    assert found.temporaries == matrix + 8 + 4  # gradient plus decay; 0.9 as a double and as a float
    assert found.factors == 0
    assert found.peak == 4 * matrix + 416


def test_peak_in_the_backward_by_hand() -> None:
    found = linear(1000, 10, momentum=0.9)
    rows, matrix = 4 * 1000 * 10, 4 * 10 * 10
    assert found.parameters == found.optimizer_state == matrix
    assert found.gradients == 0  # cleared, and not there yet
    assert found.activations == 2 * rows + 4 + 4  # the batch, what the sigmoid saves, the loss and its gradient
    assert found.temporaries == rows  # the gradient before the sigmoid


def test_what_is_freed_within_the_forward_is_a_temporary() -> None:
    base = linear(1000, 10)
    found = linear(1000, 10, more=lambda: torch.empty(100_000))
    assert found.peak - base.peak == 400_000 - 8  # the peak is in the forward now, before the loss and its gradient
    assert found.temporaries == 400_000 + 40_000  # and the layer's output, which the sigmoid does not save
    assert found.activations == base.activations - 8


def test_a_step_that_keeps_a_tensor_is_found_out() -> None:
    kept: list[Tensor] = []
    base = linear(1000, 10)
    found = linear(1000, 10, more=lambda: kept.append(torch.empty(FEW, dtype=torch.uint8)))
    assert len(kept) == 2
    assert found.peak - base.peak == 2 * FEW
    assert found.activations - base.activations == 2 * FEW


def test_a_tensor_in_the_optimizer_is_a_factor_and_in_its_state_is_state() -> None:
    model, optimizer, step, batch = assemble("sgd")
    base = ledger.measure(model, optimizer, step, batch=batch)
    model, optimizer, step, batch = assemble("sgd")
    optimizer.kept = {"of a layer": [torch.empty(FEW, dtype=torch.uint8)]}  # type: ignore[attr-defined]
    optimizer.state[model[0].weight]["more"] = torch.empty(2 * FEW, dtype=torch.uint8)  # type: ignore[index]
    found = ledger.measure(model, optimizer, step, batch=batch)
    assert (found.factors - base.factors, found.optimizer_state - base.optimizer_state) == (FEW, 2 * FEW)
    assert found.peak - base.peak == 3 * FEW


def test_a_storage_counts_once_however_many_share_it() -> None:
    model, optimizer, step, batch = assemble("sgd")
    optimizer.views = [model[0].weight.detach(), model[0].weight[0].detach()]  # type: ignore[attr-defined, index]
    found = ledger.measure(model, optimizer, step, batch=batch)
    assert found.factors == 0
    assert found.parameters == sum(each.nbytes for each in (*model.parameters(), *model.buffers()))


def peak_of_the_allocator(name: str, folder: Path) -> int:
    """Return the highest total that the allocator reports, from before the model is built, by the exported trace."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        _, optimizer, step, _ = assemble(name)
        for level in (LEVELS[name], *range(LEVELS[name] + 1)):
            if LEVELS[name]:
                optimizer.schedule_refresh(level)  # type: ignore[attr-defined]
            step()
    profiler.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    found = [(event["ts"], event["args"]) for event in events if event.get("name") == "[memory]"]
    _, first = min(found, key=lambda each: each[0])
    return max(args["Total Allocated"] for _, args in found) - (first["Total Allocated"] - first["Bytes"])


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_the_peak_is_the_highest_total_of_the_allocator(name: str, tmp_path: Path) -> None:
    model, optimizer, step, batch = assemble(name)
    levels = (LEVELS[name], *range(LEVELS[name] + 1))
    found = ledger.measure(model, optimizer, step, levels=levels, batch=batch)
    assert found.peak == sum(getattr(found, category) for category in ledger.CATEGORIES)
    assert found.peak == peak_of_the_allocator(name, tmp_path)


@pytest.mark.parametrize("name", ["sgd", "shampoo", "adahessian", "kfac"])
def test_what_was_allocated_before_is_freed_too(name: str) -> None:
    model, optimizer, step, batch = assemble(name)
    first = ledger.measure(model, optimizer, step, batch=batch)
    assert ledger.measure(model, optimizer, step, batch=batch) == first


@pytest.mark.parametrize("name", ["adam", "adafisher", "kfac"])
def test_the_steps_are_real_ones_and_nothing_stays_attached(name: str) -> None:
    model, optimizer, step, batch = assemble(name)
    ledger.measure(model, optimizer, step, levels=[LEVELS[name]] * 3, batch=batch)
    other, other_optimizer, other_step, _ = assemble(name)
    for _ in range(3):
        if LEVELS[name]:
            other_optimizer.schedule_refresh(LEVELS[name])  # type: ignore[attr-defined]
        other_step()
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), other.parameters(), strict=True))
    assert not model._forward_pre_hooks
    assert len(model._forward_hooks) == len(other._forward_hooks)
    assert not optimizer._optimizer_step_pre_hooks  # type: ignore[attr-defined]


def test_steps_of_each_level_are_taken_and_told_apart() -> None:
    model, optimizer, step, batch = assemble("kfac")
    found = ledger.measure(model, optimizer, step, batch=batch)
    assert list(found.by_level) == [0, 1, 2]
    assert found.by_level[0].peak < found.by_level[1].peak < found.by_level[2].peak == found.peak
    a, s = [513, 65, 145, 10], [64, 10, 32, 16]  # rows of the factors: two linear layers, two convolutions
    dense = 2 * 4 * sum(rows**2 for rows in (*a, *s))  # with their inverses
    norms, counts, shrinks = 2 * 4 * (16 + 32), 6 * 4, 12 * 4
    assert found.by_level[0].factors == dense + norms + counts + shrinks + 8 + 4  # num_kept; a scalar of their dtype


@pytest.mark.parametrize(("name", "levels"), [("kfac", [3]), ("sgd", [1]), ("sgd", []), ("kfac", [-1])])
def test_unknown_levels_are_refused(name: str, levels: list[int]) -> None:
    model, optimizer, step, batch = assemble(name)
    with pytest.raises(ValueError, match="levels must be some, of 0 to"):
        ledger.measure(model, optimizer, step, levels=levels, batch=batch)


def test_metrics_have_the_names_of_the_table() -> None:
    found = ledger.Ledger(parameters=1, gradients=2, optimizer_state=3, factors=4, activations=5, temporaries=6)
    assert found.as_metrics() == {
        "memory/parameters_bytes": 1.0,
        "memory/gradients_bytes": 2.0,
        "memory/optimizer_state_bytes": 3.0,
        "memory/factors_bytes": 4.0,
        "memory/activations_bytes": 5.0,
        "memory/temporaries_bytes": 6.0,
        "memory/peak_bytes": 21.0,
    }


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_the_peak_is_the_highest_total_on_cuda(name: str) -> None:
    levels = (LEVELS[name], *range(LEVELS[name] + 1))
    model, optimizer, step, batch = assemble(name, device="cuda")
    found = ledger.measure(model, optimizer, step, levels=levels, batch=batch)  # libraries have their workspaces now
    del model, optimizer, step, batch
    before = torch.cuda.memory_allocated()
    model, optimizer, step, batch = assemble(name, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    for level in levels:
        if LEVELS[name]:
            optimizer.schedule_refresh(level)  # type: ignore[attr-defined]
        step()
    workspaces = found.peak - (torch.cuda.max_memory_allocated() - before)
    assert 0 <= workspaces <= before  # those that the first steps allocated
