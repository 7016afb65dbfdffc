"""Every optimizer on CUDA: it learns, does what it does on the CPU, and does not wait for the device."""

import math
from contextlib import contextmanager

import pytest
import torch

import optimizers
from optimizers import Refreshing
from tests.gpu.needs import assembled, cuda

pytestmark = cuda

NUM_STEPS = 30
SAME_STEPS = 5
ROUND_OFF = 1e-8  # float64; sums in another order, and what inverses make of that
CPU = torch.device("cpu")

# AdaHessian's signs are drawn on the device, by a generator that differs from the CPU's
DRAWN_ON_THE_DEVICE = {"adahessian"}
SECOND_ORDER = ("adafisher", "adafisherw", "adafisher_released", "kfac", "shampoo", "eva", "adahessian")


@pytest.mark.parametrize("optimizer", optimizers.REGISTRY)
def test_it_learns_a_batch_of_digits(optimizer, device):
    assembly, step = assembled(optimizer, device)
    losses = torch.stack([step(number) for number in range(NUM_STEPS)])
    assert losses.device.type == "cuda"
    assert losses.isfinite().all()
    assert losses[-1] < 0.8 * losses[0]
    assert {param.device for param in assembly.model.parameters()} == {device}


@pytest.mark.parametrize("optimizer", SECOND_ORDER)
def test_it_does_what_it_does_on_the_cpu(optimizer, device, monkeypatch):
    if optimizer in DRAWN_ON_THE_DEVICE:
        draw_on_the_cpu(monkeypatch)
    ends = []
    for each in (CPU, device):
        assembly, step = assembled(optimizer, each, dtype=torch.float64)
        start = flat(assembly.model)
        for number in range(SAME_STEPS):
            step(number)
        ends.append(flat(assembly.model))
        assert (ends[-1] - start).norm() > 1e-4 * start.norm()
    on_cpu, on_cuda = ends
    assert (on_cuda - on_cpu).norm() <= ROUND_OFF * on_cpu.norm()


def flat(model):
    return torch.cat([param.detach().cpu().flatten() for param in model.parameters()])


def draw_on_the_cpu(monkeypatch):
    from optimizers import hutchinson

    drawn = hutchinson.random_signs

    def random_signs(param, seed, *path):
        return drawn(torch.empty(param.shape, dtype=param.dtype), seed, *path).to(param.device)

    monkeypatch.setattr(hutchinson, "random_signs", random_signs)


@contextmanager
def no_waiting():
    """Within, whatever waits for the device raises."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_waiting_is_noticed(device):
    number = torch.ones((), device=device)
    with no_waiting(), pytest.raises(RuntimeError, match="synchroniz"):
        number.item()


@pytest.mark.parametrize(
    ("optimizer", "hyperparameters"),
    [
        ("sgd", {}),
        ("adam", {}),
        ("adamw", {}),
        ("adafisher", {"update_interval": 2}),
        ("adafisherw", {"update_interval": 2, "weight_decay": 0.1}),
        ("adafisher", {"update_interval": 2, "layers": "all"}),
        ("adafisher_released", {"update_interval": 2}),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value),
)
def test_a_step_does_not_wait_for_the_device(optimizer, hyperparameters, device):
    assembly, step = assembled(optimizer, device, **hyperparameters)
    for number in range(2):
        step(number)  # makes the state
    stepped, refreshed = assembly.optimizer.step, []

    def watched(*args, **kwargs):
        with no_waiting():
            stepped(*args, **kwargs)
        if isinstance(assembly.optimizer, Refreshing):
            refreshed.append(assembly.optimizer.refreshed)

    assembly.optimizer.step = watched
    for number in range(2, 6):
        step(number)
    assert refreshed == ([1, 0, 1, 0] if hyperparameters else [])


def test_a_checkpoint_goes_on(device):
    for optimizer in ("adafisher", "kfac"):
        assembly, step = assembled(optimizer, device, dtype=torch.float64)
        for number in range(3):
            step(number)
        fresh, fresh_step = assembled(optimizer, device, dtype=torch.float64)
        fresh.load_state_dict(assembly.state_dict())
        losses = [(step(number).item(), fresh_step(number).item()) for number in range(3, 6)]
        assert all(math.isclose(one, other, rel_tol=ROUND_OFF) for one, other in losses)
