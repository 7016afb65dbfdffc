"""The suite's loop on CUDA, from the first step to the summary."""

import torch

from suite.config import Budget
from suite.training.calibration import calibrate
from suite.training.clock import TrainClock
from suite.training.limits import StepLimit
from suite.training.loop import train
from suite.training.workers import Workers
from tests.gpu.needs import cuda, task_of

pytestmark = cuda

NUM_STEPS = 100


def trained(device, optimizer="adam", **hyperparameters):
    budget = Budget(kind="steps", amount=NUM_STEPS)
    task = task_of(optimizer, device, num_samples=None, budget=budget, **hyperparameters)
    return train(task, limit=StepLimit(NUM_STEPS), clock=TrainClock(device), workers=Workers())


def test_it_trains_the_digits_and_says_what_they_took(device):
    outcome = trained(device, lr=3e-3)
    columns = outcome.columns
    assert outcome.status == "completed"
    assert columns["val_metric"] > 0.9
    held = columns["parameter_bytes"] + columns["optimizer_state_bytes"]
    assert held < columns["peak_cuda_allocated_bytes"] <= columns["peak_cuda_reserved_bytes"]
    assert columns["peak_cuda_reserved_bytes"] < torch.cuda.get_device_properties(device).total_memory
    assert 0 < columns["train_time_s"] < columns["total_time_s"]
    assert all(row["step_time_ms"] > 0 for row in outcome.steps)


def test_it_learns_as_it_does_on_the_cpu(device):
    on_cuda, on_cpu = trained(device, lr=3e-3), trained(torch.device("cpu"), lr=3e-3)
    assert abs(on_cuda.columns["val_metric"] - on_cpu.columns["val_metric"]) < 0.03
    first = [outcome.steps[0]["loss"] for outcome in (on_cuda, on_cpu)]
    assert abs(first[0] - first[1]) < 1e-2 * first[1]  # TF32 in convolutions


def test_arms_are_calibrated(device):
    tasks = [task_of(optimizer, device, num_samples=None) for optimizer in ("sgd", "adafisher")]
    sgd, adafisher = calibrate(tasks, Workers())
    assert 0 < sgd.step_s_low <= sgd.step_s <= sgd.step_s_high
    assert adafisher.step_s_high > sgd.step_s_low
